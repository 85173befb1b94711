// Package host says what this machine can do for a container: kernel, Landlock, seccomp, namespaces, cgroups, privileges.
//
// The answers are plain values, so that whatever is decided from them can be decided by a pure function and tested without
// the machine. [Probe] asks what the start of a container depends on, in some twenty system calls and a few dozen
// microseconds; [Describe] asks everything there is to say about a host. Nothing is changed, started or left behind by a
// probe, and what cannot be found out counts as lacking.
package host

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/landlock"
)

// Host is what the start of a container depends on.
type Host struct {
	Release      string       `json:"release"` // as uname -r says it
	EUID         int          `json:"euid"`
	Capabilities Capabilities `json:"capabilities"`    // the effective set of this process
	UserNS       bool         `json:"user_namespaces"` // the kernel has them, whether or not it lets this process make one
	// InitialUserNS is true in the user namespace the machine booted with, where capabilities hold for the whole machine.
	InitialUserNS bool `json:"initial_user_namespace"`
	// SetgroupsDenied tells that nobody can change supplementary groups in this process's user namespace; see user_namespaces(7).
	SetgroupsDenied bool         `json:"setgroups_denied"`
	Cgroup          Cgroup       `json:"cgroup"`
	Landlock        landlock.ABI `json:"landlock_abi"` // 0: none
	// LandlockError says why there is no Landlock.
	LandlockError string  `json:"landlock_error,omitempty"`
	Seccomp       Seccomp `json:"seccomp"`
}

// Probe asks this machine. The answers about privilege are those of the calling thread.
func Probe() Host {
	host := Host{
		Release:      release(),
		EUID:         unix.Geteuid(),
		Capabilities: effectiveCapabilities(),
		Cgroup:       probeCgroup(cgroupRoot),
		Seccomp:      probeSeccomp(),
	}
	host.UserNS, host.InitialUserNS = probeUserNS()
	host.SetgroupsDenied = !host.InitialUserNS && setgroupsDenied()
	abi, err := landlock.Probe()
	host.Landlock = abi
	if err != nil {
		host.LandlockError = err.Error()
	}
	return host
}

// AtLeast says whether the kernel's release is major.minor or later. Use it only for what cannot be asked of the kernel:
// distributions carry features back.
func (h Host) AtLeast(major, minor int) bool {
	haveMajor, haveMinor := releaseNumbers(h.Release)
	return haveMajor > major || haveMajor == major && haveMinor >= minor
}

// release is what uname(2) gives, "" if it fails.
func release() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// releaseNumbers reads the first two numbers of a release such as 6.1.0-18-amd64; what is not there is 0.
func releaseNumbers(release string) (major, minor int) {
	first, rest, _ := strings.Cut(release, ".")
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		rest = rest[:end]
	}
	major, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0
	}
	minor, err = strconv.Atoi(rest)
	if err != nil {
		return major, 0
	}
	return major, minor
}
