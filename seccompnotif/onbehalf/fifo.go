package onbehalf

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// signalGrace is for how many looks a signal for the whole process may wait before it is taken to be the calling thread's.
	signalGrace = 2
	// errRestart is ERESTARTSYS of <linux/errno.h>. As the answer to a task with a signal it makes the kernel run the handler and
	// then either start the call again or fail it with EINTR, as SA_RESTART says. No program ever sees it.
	errRestart = unix.Errno(512)
)

// openFIFO opens one end of a FIFO, which waits until somebody opens the other. Meanwhile the guest may be killed or get a signal. No signal
// would end our wait, for Go has them all restart the call; to open the other end does.
func (x *opening) openFIFO(w *worker) (int, unix.Errno) {
	path := "self/fd/" + strconv.Itoa(x.object.fd)
	other := unix.O_RDONLY
	if !x.writes() {
		other = unix.O_WRONLY
	}
	watch := signalWatch{engine: w.engine, call: x.guest.call}
	var over unix.Errno // all of these belong to the goroutine that looks
	end, ended := -1, false
	w.waits(func() {
		if ended {
			return
		}
		if over == 0 {
			over = watch.look()
		}
		if over != 0 && end < 0 {
			end, _ = unix.Openat(w.engine.host.Proc(), path, other|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // it is tried again
		}
	})
	fd, errno := w.reopen(x.object.fd, x.how.Flags)
	w.outside(func() {
		ended = true
		closeAll(end)
		if over != 0 && errno == 0 {
			unix.Close(fd)
			fd, errno = -1, over
		}
	})
	return fd, errno
}

// signalWatch looks whether a guest has a signal to handle, while we do for it what it would be interrupted in.
type signalWatch struct {
	engine *Engine
	call   *seccompnotif.Call
	shared int // looks that found a signal for the whole process
}

// look returns what the call fails with if it must not go on, else 0.
func (s *signalWatch) look() unix.Errno {
	id, err := s.engine.host.Identity(s.call)
	if err != nil {
		return unix.EINTR // nobody gets to see it
	}
	own, shared := id.Deliverable()
	if own != 0 || shared != 0 && id.Threads == 1 {
		return errRestart
	}
	if shared == 0 {
		s.shared = 0
		return 0
	}
	// Which thread the kernel has picked for it cannot be seen, and errRestart must not reach a thread without a signal.
	if s.shared++; s.shared >= signalGrace {
		return unix.EINTR
	}
	return 0
}
