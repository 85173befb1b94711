package host

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Syscalls says which system calls, or features of one, the kernel has. Each is asked with arguments that it must refuse, so
// that nothing happens: ENOSYS, or an answer that only a kernel without the feature gives, is no. A seccomp filter around
// this process that answers in the kernel's stead is believed.
type Syscalls struct {
	Openat2         bool `json:"openat2"`
	Fsopen          bool `json:"fsopen"`
	OpenTree        bool `json:"open_tree"`
	MoveMount       bool `json:"move_mount"`
	MountSetattr    bool `json:"mount_setattr"` // with it idmapped mounts
	CloseRange      bool `json:"close_range"`
	PidfdOpen       bool `json:"pidfd_open"`
	PidfdGetfd      bool `json:"pidfd_getfd"`
	PidfdThread     bool `json:"pidfd_thread"` // PIDFD_THREAD
	Clone3          bool `json:"clone3"`
	CloneIntoCgroup bool `json:"clone_into_cgroup"` // CLONE_INTO_CGROUP
}

const (
	none = ^uintptr(0) // a descriptor that is none, or flags that no call knows
	// pidfdThread is PIDFD_THREAD in <linux/pidfd.h>.
	pidfdThread = unix.O_EXCL
	// noProcess is beyond PID_MAX_LIMIT of every kernel (4 Mi, <linux/threads.h>).
	noProcess = 1 << 30
)

// cloneArgs is struct clone_args in <linux/sched.h> as of CLONE_ARGS_SIZE_VER2.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

func probeSyscalls() Syscalls {
	// A cgroup that cannot be a descriptor is EINVAL to a kernel that knows the field, and E2BIG to one that does not.
	into := cloneArgs{flags: unix.CLONE_INTO_CGROUP, cgroup: ^uint64(0)}
	_, _, intoCgroup := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&into)), unsafe.Sizeof(into), 0)
	_, _, thread := unix.RawSyscall(unix.SYS_PIDFD_OPEN, noProcess, pidfdThread, 0)
	return Syscalls{
		Openat2:         exists(unix.SYS_OPENAT2, none, 0, 0, 0),
		Fsopen:          exists(unix.SYS_FSOPEN, 0, none, 0, 0),
		OpenTree:        exists(unix.SYS_OPEN_TREE, none, 0, none, 0),
		MoveMount:       exists(unix.SYS_MOVE_MOUNT, none, 0, none, 0),
		MountSetattr:    exists(unix.SYS_MOUNT_SETATTR, none, 0, none, 0),
		CloseRange:      exists(unix.SYS_CLOSE_RANGE, 1, 0, 0, 0),
		PidfdOpen:       exists(unix.SYS_PIDFD_OPEN, noProcess, 0, 0, 0),
		PidfdGetfd:      exists(unix.SYS_PIDFD_GETFD, none, 0, 0, 0),
		PidfdThread:     thread == unix.ESRCH,
		Clone3:          exists(unix.SYS_CLONE3, 0, 0, 0, 0),
		CloneIntoCgroup: intoCgroup == unix.EINVAL,
	}
}

// exists makes a call that must fail, and says whether it failed otherwise than by not being there.
func exists(number, a, b, c, d uintptr) bool {
	_, _, errno := unix.RawSyscall6(number, a, b, c, d, 0, 0)
	return errno != unix.ENOSYS
}
