package seccompnotif

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// File returns a duplicate, close-on-exec, of the guest's descriptor fd; the caller closes it. The two share one open file:
// offset, flags and socket state are the guest's. EBADF means that the guest has no such descriptor, [ErrGone] that the guest
// is gone, EACCES that the kernel lacks PIDFD_THREAD and the caller is a thread with a descriptor table of its own. An int argument of a call is passed as int(int32(c.Arg(i))): the kernel ignores the register's upper half.
func (c *Call) File(fd int) (int, error) {
	file, err := c.index.duplicate(c, fd)
	if err != nil {
		return -1, fmt.Errorf("guest descriptor %d: %w", fd, err)
	}
	return file, nil
}

func (x *processIndex) duplicate(c *Call, fd int) (int, error) {
	// What the index holds for the number is the caller, unless it has been reaped, which pidfd_getfd says with ESRCH.
	if p, t := x.lookup(c.PID()); p != nil {
		file, err := taskPIDFD(p, t).duplicate(fd)
		if !errors.Is(err, unix.ESRCH) {
			return file, err
		}
		x.drop(c.PID(), p, t)
	}
	p, t, err := x.enter(c)
	if err != nil {
		return -1, err
	}
	if t == nil && !sharesFiles(c.PID(), p.pid) {
		return -1, gone(c, errOwnFiles)
	}
	file, err := taskPIDFD(p, t).duplicate(fd)
	if err != nil {
		return -1, gone(c, err)
	}
	return file, nil
}

// errOwnFiles is what happens, without PIDFD_THREAD, to a thread that does not share its process's descriptors: those that it means
// cannot be had, and its process's by the same number are others.
var errOwnFiles = fmt.Errorf("the thread has descriptors of its own, which this kernel does not give: %w", unix.EACCES)

// kcmpFiles is KCMP_FILES of <linux/kcmp.h>.
const kcmpFiles = 2

// sharesFiles tells whether a thread shares its process's descriptors. Where the kernel cannot tell, it is taken to do, as nearly
// all do.
func sharesFiles(tid, pid int) bool {
	if tid == pid {
		return true
	}
	different, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(tid), uintptr(pid), kcmpFiles, 0, 0, 0)
	return e != 0 || different == 0
}

// taskPIDFD prefers the thread's own pidfd: a thread may have descriptors that its leader does not share (unshare(2) with
// CLONE_FILES), or outlive a leader that has none any more.
func taskPIDFD(p *Process, t *thread) *pidfd {
	if t != nil {
		return &t.pidfd
	}
	return &p.pidfd
}
