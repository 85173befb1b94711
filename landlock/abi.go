package landlock

import (
	"errors"
	"fmt"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// ABI is the version of the kernel's Landlock interface, 1 or more; 0 stands for a kernel without Landlock.
// Versions are cumulative: each enforces everything the one before it does.
type ABI int

var (
	// ErrAbsent says that the kernel was built without Landlock, or that a seccomp filter hides it.
	ErrAbsent = errors.New("landlock: not built into this kernel (CONFIG_SECURITY_LANDLOCK)")
	// ErrDisabled says that the kernel has Landlock but did not switch it on at boot.
	ErrDisabled = errors.New("landlock: switched off at boot (add landlock to the lsm= kernel parameter)")
)

// Probe asks the kernel for its Landlock ABI, with one system call.
// Without Landlock it returns 0 and an error for which errors.Is finds [ErrAbsent] or [ErrDisabled].
func Probe() (ABI, error) {
	version, err := ll.LandlockGetABIVersion()
	return probed(version, err)
}

// probed reads the answer of landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION.
func probed(version int, err error) (ABI, error) {
	switch {
	case err == nil && version >= 1:
		return ABI(version), nil
	case err == nil:
		return 0, fmt.Errorf("landlock_create_ruleset: ABI %d makes no sense", version)
	case errors.Is(err, unix.ENOSYS):
		return 0, ErrAbsent
	case errors.Is(err, unix.EOPNOTSUPP):
		return 0, ErrDisabled
	default:
		return 0, fmt.Errorf("landlock_create_ruleset: %w", err)
	}
}
