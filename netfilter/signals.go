package netfilter

import (
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// signalGrace is for how many looks a signal for the whole process may wait before it is taken to be the calling
	// thread's to handle: another thread would have handled it by then.
	signalGrace = 2
	// errRestart is ERESTARTSYS of <linux/errno.h>. As the answer to a task with a signal it makes the kernel run the signal's
	// handler and then either start the call again or fail it with EINTR, as SA_RESTART says. No program ever sees it.
	errRestart = unix.Errno(512)
)

// over returns what a parked call fails with if its guest is gone or has a signal to handle, else 0. A guest may be parked in
// a way that only a fatal signal ends (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), so that its other signals have to be looked for.
func (p *parked) over(h *seccompnotif.Host) unix.Errno {
	c := p.held.Call()
	if !c.Valid() {
		return unix.EINTR // nobody gets to see it
	}
	id, err := h.Identity(c)
	if err != nil {
		return unix.EINTR
	}
	own, shared := id.Deliverable()
	if own != 0 || shared != 0 && id.Threads == 1 {
		return p.interrupted()
	}
	if shared == 0 {
		p.signals = 0
		return 0
	}
	// Which thread the kernel has picked for it cannot be seen, and errRestart must not reach a thread without a signal.
	if p.signals++; p.signals >= signalGrace {
		return unix.EINTR
	}
	return 0
}

// interrupted returns what a signal makes of the call: with a time-out on the socket it is not restarted, see signal(7).
func (p *parked) interrupted() unix.Errno {
	if p.patience > 0 {
		return unix.EINTR
	}
	return errRestart
}
