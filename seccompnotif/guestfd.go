package seccompnotif

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// File returns a duplicate, close-on-exec, of the guest's descriptor fd; the caller closes it. The two share one open file:
// offset, flags and socket state are the guest's. EBADF means that the guest has no such descriptor, [ErrGone] that the guest
// is gone. An int argument of a call is passed as int(int32(c.Arg(i))): the kernel ignores the register's upper half.
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
	file, err := taskPIDFD(p, t).duplicate(fd)
	if err != nil {
		return -1, gone(c, err)
	}
	return file, nil
}

// taskPIDFD prefers the thread's own pidfd: a thread may have descriptors that its leader does not share (unshare(2) with
// CLONE_FILES), or outlive a leader that has none any more.
func taskPIDFD(p *Process, t *thread) *pidfd {
	if t != nil {
		return &t.pidfd
	}
	return &p.pidfd
}
