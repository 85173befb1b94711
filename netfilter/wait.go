package netfilter

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// waitLimit is how long a blocking call is carried on with: a little less than a deferred answer may take, so that the
	// worker is back before its answer is given for it. Past it the guest gets EIO.
	waitLimit = seccompnotif.DeferTimeout - 500*time.Millisecond
	// waitSlice is how long we sleep before we look whether the guest still waits.
	waitSlice = 50 * time.Millisecond
	// signalGrace is for how many looks a signal for the whole process may wait before it is taken to be the calling
	// thread's to handle: another thread would have handled it by then.
	signalGrace = 2
	// errRestart is ERESTARTSYS of <linux/errno.h>. As the answer to a task with a signal it makes the kernel run the signal's
	// handler and then either start the call again or fail it with EINTR, as SA_RESTART says. No program ever sees it.
	errRestart = unix.Errno(512)
)

// waiter decides how long a call that would block goes on, for a worker that never blocks in it for long. The guest itself is
// parked meanwhile, and may be so in a way that only a fatal signal ends (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), so the
// waiter looks for its signals too.
type waiter struct {
	host     *seccompnotif.Host
	call     *seccompnotif.Call
	began    time.Time     // the worker's; waitLimit counts from here
	start    time.Time     // of this message; patience counts from here
	looked   time.Time     // when the guest's signals were last asked for
	patience time.Duration // the socket's SO_SNDTIMEO; 0 is for ever
	timedOut unix.Errno    // what the call fails with when patience is over
	signals  int           // looks that found a signal for the whole process waiting
	pauses   int
}

// newWaiter returns the waiter of a worker that began some time ago.
func newWaiter(h *seccompnotif.Host, c *seccompnotif.Call, s *socket, began time.Time, timedOut unix.Errno) *waiter {
	now := time.Now()
	w := &waiter{host: h, call: c, began: began, start: now, looked: now, timedOut: timedOut}
	if timeout, err := unix.GetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO); err == nil {
		w.patience = time.Duration(timeout.Nano())
	}
	return w
}

// writable waits until the socket may take more, for a slice at most. An errno other than 0 ends the call.
func (w *waiter) writable(s *socket) unix.Errno {
	poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(poll, int(w.slice().Milliseconds())+1)
	if err == nil && n > 0 && s.domain == unix.AF_UNIX && !s.isStream() {
		// poll knows nothing of a full receiver that the socket is not connected to.
		return w.pause()
	}
	return w.over()
}

// pause waits a little, and more each time, for what cannot be polled. An errno other than 0 ends the call.
func (w *waiter) pause() unix.Errno {
	w.pauses++
	time.Sleep(min(w.slice(), time.Duration(w.pauses)*time.Millisecond))
	return w.over()
}

func (w *waiter) slice() time.Duration {
	slice := min(waitSlice, waitLimit-time.Since(w.began))
	if w.patience > 0 {
		slice = min(slice, w.patience-time.Since(w.start))
	}
	return max(slice, 0)
}

// over returns what the call fails with if it must not go on, else 0.
func (w *waiter) over() unix.Errno {
	switch {
	case !w.call.Valid():
		return unix.EINTR // nobody gets to see it
	case w.patience > 0 && time.Since(w.start) >= w.patience:
		return w.timedOut
	case time.Since(w.began) >= waitLimit:
		return unix.EIO
	case time.Since(w.looked) < waitSlice:
		return 0
	}
	w.looked = time.Now()
	id, err := w.host.Identity(w.call)
	if err != nil {
		return unix.EINTR
	}
	own, shared := id.Deliverable()
	if own != 0 || shared != 0 && id.Threads == 1 {
		return w.interrupted()
	}
	if shared == 0 {
		w.signals = 0
		return 0
	}
	// Which thread the kernel has picked for it cannot be seen, and errRestart must not reach a thread without a signal.
	if w.signals++; w.signals >= signalGrace {
		return unix.EINTR
	}
	return 0
}

// interrupted returns what a signal makes of the call: with a time-out on the socket it is not restarted, see signal(7).
func (w *waiter) interrupted() unix.Errno {
	if w.patience > 0 {
		return unix.EINTR
	}
	return errRestart
}
