package netfilter

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// asks tells whether somebody is to be asked about c once the rules allow it.
func (e *Egress) asks(c *seccompnotif.Call) bool { return e.gate.Wants(c.Syscall()) }

// details are what an event tells of a call on s: where it is about to go, by the copy of the address that will be used.
func (s *socket) details(to netip.AddrPort) seccompnotif.Details {
	return seccompnotif.Details{Protocol: s.protocolName(), Addr: to}
}

// ask waits for the verdict about a call that the rules allow. It blocks, so it is for goroutines of [seccompnotif.Gate.Later].
func (e *Egress) ask(c *seccompnotif.Call, s *socket, to netip.AddrPort) unix.Errno {
	if !e.asks(c) {
		return 0
	}
	return e.gate.Ask(c, s.details(to))
}

// errAsk is the errno, of no meaning to the kernel, of a send that is to be asked about.
const errAsk = unix.Errno(0xfffd)

// maxMoreAsks is how many questions more than it has messages a send may cause: the guest can have it look at another address
// each time.
const maxMoreAsks = 16

// question is what has been, or is to be, asked about a send.
type question struct {
	details seccompnotif.Details
	allowed bool
	asked   int
}

// mustAsk returns errAsk unless the call has been allowed to go where it is going.
func (e *Egress) mustAsk(c *seccompnotif.Call, s *socket, call *sendCall, to netip.AddrPort) unix.Errno {
	details := s.details(to)
	if !e.asks(c) || call.question.allowed && call.question.details == details {
		return 0
	}
	call.question.details, call.question.allowed = details, false
	return errAsk
}

// sendAsking goes on with a send, and asks about it where that is to be done.
func (e *Egress) sendAsking(c *seccompnotif.Call, call *sendCall) seccompnotif.Action {
	for {
		action, progress := e.goOn(c, call)
		switch progress {
		case done:
			return action
		case unasked:
		default:
			return e.lot.park(call.parked)
		}
		q := &call.question
		if q.asked++; q.asked > call.count+maxMoreAsks {
			return answer(call.result(0, unix.EPERM))
		}
		if errno := e.gate.Ask(c, q.details); errno != 0 {
			return answer(call.result(0, errno))
		}
		q.allowed = true
	}
}
