package onbehalf

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// setting is what a guest is, before it comes under its filter.
type setting struct {
	Tree        string // all that can be written to
	From        string // where the guest is when it changes its root
	Root, Dir   string
	UID, GID    int
	Groups      []int
	Umask       int
	Keep        uint64 // capabilities that a guest which stays root keeps; zero is all
	NonDumpable bool
	TTY         bool     // it has the terminal of its first extra descriptor as controlling one
	Proc        bool     // a procfs of the guest's own pid namespace on /proc
	Namespaces  uintptr  // new ones
	TTL         string   // of the network namespace
	Landlock    []string // paths that its Landlock rules leave
}

func (s *setting) apply() error {
	if s.Namespaces != 0 {
		// Of the leader alone, which makes all calls.
		if err := unix.Unshare(int(s.Namespaces)); err != nil {
			return err
		}
	}
	if s.Tree != "" {
		// The mount namespace is the guest's own.
		if err := unix.Mount(s.Tree, s.Tree, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &readOnly); err != nil {
			return err
		}
		writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, s.Tree, 0, &writable); err != nil {
			return err
		}
	}
	if s.From != "" {
		if err := unix.Chdir(s.From); err != nil {
			return err
		}
	}
	if s.Proc {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return err
		}
	}
	if s.TTL != "" {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte(s.TTL), 0); err != nil {
			return err
		}
	}
	if s.TTY {
		if _, err := unix.Setsid(); err != nil {
			return err
		}
		if err := unix.IoctlSetInt(testguest.FirstExtra, unix.TIOCSCTTY, 0); err != nil {
			return err
		}
	}
	if s.Root != "" {
		if err := unix.Chroot(s.Root); err != nil {
			return err
		}
	}
	if s.Dir != "" {
		if err := unix.Chdir(s.Dir); err != nil {
			return err
		}
	}
	unix.Umask(s.Umask)
	if s.UID != 0 {
		if err := syscall.Setgroups(s.Groups); err != nil {
			return err
		}
		if err := syscall.Setresgid(s.GID, s.GID, s.GID); err != nil {
			return err
		}
		if err := syscall.Setresuid(s.UID, s.UID, s.UID); err != nil {
			return err
		}
		if !s.NonDumpable {
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
				return err
			}
		}
	}
	if s.Landlock != nil {
		if err := restrict(s.Landlock); err != nil {
			return err
		}
	}
	if s.Keep != 0 {
		return setEffective(s.Keep, s.Keep) // of the leader, which makes all calls
	}
	return nil
}

// restrict puts the calling thread under Landlock rules that leave reading and writing beneath some paths.
func restrict(paths []string) error {
	const (
		execute, writeFile, readFile, readDir = 1 << 0, 1 << 1, 1 << 2, 1 << 3
		makeReg                               = 1 << 8
		all                                   = execute | writeFile | readFile | readDir | makeReg
		beneath                               = 1 // LANDLOCK_RULE_PATH_BENEATH
	)
	handled := uint64(all)
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), 8, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		rule := struct {
			access uint64
			parent int32
		}{all, int32(fd)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, beneath, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		unix.Close(fd)
		if errno != 0 {
			return fmt.Errorf("landlock_add_rule: %s: %w", path, errno)
		}
	}
	if err := rawErr(unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}
