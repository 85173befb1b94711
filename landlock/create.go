package landlock

import (
	"errors"
	"fmt"
	"runtime"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Opener opens a path of the container, following links inside the container's root only, and gives a descriptor that this
// package closes; O_PATH is enough, and advisable, since it cannot block on a FIFO or wake a device. For a path that does
// not exist its error wraps ENOENT or ENOTDIR.
type Opener func(containerPath string) (fd int, err error)

// PathError says that a rule for a path could not be made. Source is the policy's key, as in [PathRule].
type PathError struct {
	Source, Path string
	Err          error
}

// Error says it as "filesystem.read: /nope: no such file or directory in the container".
func (e *PathError) Error() string {
	if errors.Is(e.Err, unix.ENOENT) {
		return fmt.Sprintf("%s: %s: no such file or directory in the container", e.Source, e.Path)
	}
	return fmt.Sprintf("%s: %s: %v", e.Source, e.Path, e.Err)
}

func (e *PathError) Unwrap() error { return e.Err }

// bare leaves out of an opener's error the operation and the path, which the reader is told anyway.
func bare(err error) error {
	var number unix.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

// Create makes the whole ruleset: [Ruleset.New], then [Ruleset.AddPaths]. The caller closes the descriptor.
func (r Ruleset) Create(open Opener) (ruleset int, err error) {
	ruleset, err = r.New()
	if err != nil {
		return -1, err
	}
	if err := r.AddPaths(ruleset, open); err != nil {
		_ = unix.Close(ruleset)
		return -1, err
	}
	return ruleset, nil
}

// New makes a ruleset that handles all that r handles and has its ports, but no path yet. The descriptor is close-on-exec
// and the caller's to close.
//
// Every duplicate of the descriptor, in whatever process, is the same ruleset: one process can add paths while another
// waits to restrict itself. landlock_restrict_self(2) takes a copy, so what is added after it has no effect on that task.
func (r Ruleset) New() (ruleset int, err error) {
	attr := ll.RulesetAttr{
		HandledAccessFS:  uint64(r.Handled.FS),
		HandledAccessNet: uint64(r.Handled.Net),
		Scoped:           uint64(r.Handled.Scope),
	}
	ruleset, err = ll.LandlockCreateRuleset(&attr, 0)
	if err != nil {
		return -1, fmt.Errorf("landlock_create_ruleset: %w", err)
	}
	for _, list := range []struct {
		right Network
		ports Ports
	}{{ConnectTCP, r.ConnectTCP}, {BindTCP, r.BindTCP}} {
		if r.Handled.Net&list.right == 0 {
			continue
		}
		for _, port := range list.ports {
			rule := ll.NetPortAttr{AllowedAccess: uint64(list.right), Port: uint64(port)}
			if err := ll.LandlockAddNetPortRule(ruleset, &rule, 0); err != nil {
				_ = unix.Close(ruleset)
				return -1, fmt.Errorf("landlock_add_rule: %s %d: %w", list.right, port, err)
			}
		}
	}
	return ruleset, nil
}

// AddPaths adds the rules on paths. A path that cannot be opened is a [*PathError]; the ruleset then has some of the rules
// and must not be used.
func (r Ruleset) AddPaths(ruleset int, open Opener) error {
	for _, rule := range r.Paths {
		fd, err := open(rule.Path)
		if err != nil {
			if rule.Optional && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
				continue
			}
			return &PathError{Source: rule.Source, Path: rule.Path, Err: bare(err)}
		}
		err = addRule(ruleset, rule, fd)
		_ = unix.Close(fd)
		if err != nil {
			return &PathError{Source: rule.Source, Path: rule.Path, Err: err}
		}
	}
	return nil
}

// AddTree gives all that is handled on the directory fd, of any mount, and what is beneath it.
func (r Ruleset) AddTree(ruleset, fd int) error {
	if err := addPathBeneath(ruleset, fd, r.Handled.FS); err != nil {
		return fmt.Errorf("landlock_add_rule: %w", err)
	}
	return nil
}

// AddOpened lets the container open again, as /dev/stdout and /proc/self/fd do, descriptors that it is given on purpose:
// its standard streams where they are files or terminals from outside its root. Each gets what it was opened for and no
// more. Pipes and sockets are no matter of Landlock and are passed over, as are directories and closed descriptors.
func (r Ruleset) AddOpened(ruleset int, fds ...int) error {
	for _, fd := range fds {
		var stat unix.Stat_t
		if unix.Fstat(fd, &stat) != nil {
			continue
		}
		kind := stat.Mode & unix.S_IFMT
		if kind != unix.S_IFREG && kind != unix.S_IFCHR && kind != unix.S_IFBLK && kind != unix.S_IFIFO {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return fmt.Errorf("fcntl: descriptor %d: %w", fd, err)
		}
		access := openedFor(flags)
		if kind == unix.S_IFCHR && access != 0 {
			access |= ioctlDev
		}
		if access &= r.Handled.FS; access == 0 {
			continue
		}
		err = addPathBeneath(ruleset, fd, access)
		// The kernel answers EBADFD for an object of an internal file system, which it never restricts.
		if err != nil && !errors.Is(err, unix.EBADFD) {
			return fmt.Errorf("landlock_add_rule: descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// openedFor gives the rights that match the flags of an open file.
func openedFor(flags int) Access {
	if flags&unix.O_PATH != 0 {
		return 0
	}
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return ll.AccessFSReadFile
	case unix.O_WRONLY:
		return ll.AccessFSWriteFile | truncate
	default:
		return ll.AccessFSReadFile | ll.AccessFSWriteFile | truncate
	}
}

// addRule adds one rule for an opened object, without the rights that the object cannot carry.
func addRule(ruleset int, rule PathRule, fd int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if rule.Kind != AnyKind {
		is, err := isKind(fd, &stat, rule.Kind)
		if err != nil {
			return err
		}
		if !is && rule.Optional {
			return nil
		}
		if !is {
			return fmt.Errorf("is not a %s", rule.Kind)
		}
	}
	access := rule.Access
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= onFile
	}
	if access == 0 {
		return nil // the kernel answers ENOMSG to a rule that allows nothing
	}
	if err := addPathBeneath(ruleset, fd, access); err != nil {
		return fmt.Errorf("landlock_add_rule: %w", err)
	}
	return nil
}

func addPathBeneath(ruleset, fd int, access Access) error {
	attr := ll.PathBeneathAttr{AllowedAccess: uint64(access), ParentFd: fd}
	err := ll.LandlockAddPathBeneathRule(ruleset, &attr, 0)
	runtime.KeepAlive(&attr)
	return err
}

// isKind says whether an opened object is what a rule expects.
func isKind(fd int, stat *unix.Stat_t, kind Kind) (bool, error) {
	switch kind {
	case CharacterDevice:
		return stat.Mode&unix.S_IFMT == unix.S_IFCHR, nil
	case ProcFS, DevPTS:
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err != nil {
			return false, fmt.Errorf("fstatfs: %w", err)
		}
		want := int64(unix.PROC_SUPER_MAGIC)
		if kind == DevPTS {
			want = unix.DEVPTS_SUPER_MAGIC
		}
		return int64(fs.Type) == want, nil //nolint:unconvert // the type differs between architectures
	case MountRoot:
		var more unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &more); err != nil {
			return false, fmt.Errorf("statx: %w", err)
		}
		return more.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	return false, fmt.Errorf("%q is no kind of object", kind)
}
