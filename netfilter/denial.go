package netfilter

import (
	"bytes"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// deniedErrno is what a denied destination fails with.
const deniedErrno = unix.EACCES

// Denial is a call that was refused.
type Denial struct {
	PID      int        // thread id of the caller in the supervisor's pid namespace
	Comm     string     // the caller's name, proc_pid_comm(5): bytes of the guest's choice; empty if it was killed meanwhile
	FD       int        // the guest's descriptor that the call was made on
	Syscall  string     // "connect", "sendto", "sendmsg", "sendmmsg", "listen" or "bind"
	Protocol string     // "tcp", "udp", "icmp", or what no rule can allow: "raw", "mptcp", "packet", "vsock", ...
	Addr     netip.Addr // the destination, or where to listen; the zero value if that has no IP address
	Port     uint16
	Verdict  Verdict // why, where rules were asked
	Because  string  // why, where they were not; else empty
}

// Reason says in a few words why the call was refused.
func (d Denial) Reason() string {
	if d.Because != "" {
		return d.Because
	}
	return d.Verdict.Reason()
}

// String describes the denial in one line.
func (d Denial) String() string {
	to := ""
	switch {
	case !d.Addr.IsValid():
	case d.Protocol == ICMP.String():
		to = " to " + d.Addr.String()
	case d.Syscall == "listen", d.Syscall == "bind":
		to = " on " + netip.AddrPortFrom(d.Addr, d.Port).String()
	default:
		to = " to " + netip.AddrPortFrom(d.Addr, d.Port).String()
	}
	return fmt.Sprintf("%s (%s)%s by thread %d: %s", d.Syscall, d.Protocol, to, d.PID, d.Reason())
}

// DenialLog records denials. Its methods are called on the listener's thread and by workers, several at a time, while the
// caller waits for its answer, so they must be quick and safe for concurrent use.
type DenialLog interface {
	// Repeats is asked first, with what is known of a denial by then: never Comm, and where the address alone was enough to
	// deny the call, neither Protocol, Verdict nor Because, with Protocol empty to tell. True means that nothing more need be
	// found out: the denial has been counted as one more of a kind that Add was told of, or is not going to be recorded.
	Repeats(Denial) bool
	// Add takes a denial that Repeats did not count, with everything there is to know.
	Add(Denial)
}

// DenialFunc is a [DenialLog] that is told of every denial alike.
type DenialFunc func(Denial)

// Repeats returns false.
func (DenialFunc) Repeats(Denial) bool { return false }

// Add calls f.
func (f DenialFunc) Add(d Denial) { f(d) }

// newDenial returns what is known of a denial before the socket is looked at.
func newDenial(c *seccompnotif.Call, to netip.AddrPort) Denial {
	return Denial{PID: c.PID(), FD: int(int32(c.Arg(0))), Syscall: callName(c), Addr: to.Addr(), Port: to.Port()}
}

func callName(c *seccompnotif.Call) string {
	switch c.Syscall() {
	case unix.SYS_BIND:
		return "bind"
	case unix.SYS_CONNECT:
		return "connect"
	case unix.SYS_SENDTO:
		return "sendto"
	case unix.SYS_SENDMSG:
		return "sendmsg"
	default:
		return "sendmmsg"
	}
}

// refuse records a denial and returns its errno.
func (e *Egress) refuse(c *seccompnotif.Call, s *socket, to netip.AddrPort, verdict Verdict, because string) unix.Errno {
	if e.asks(c) {
		details := s.details(to)
		details.Denied = true
		e.gate.Report(c, details)
	}
	if e.denials == nil {
		return deniedErrno
	}
	d := newDenial(c, to)
	d.Protocol, d.Verdict, d.Because = s.protocolName(), verdict, because
	if !e.denials.Repeats(d) {
		d.Comm = comm(e.host, c)
		e.denials.Add(d)
	}
	return deniedErrno
}

// refusedUnseen refuses a connect by its address alone, if that is enough for the answer and for the record: no protocol may
// go there, so that it does not matter what the socket is, and the log counts the call as a repetition. That spares a program
// that tries again and again, and whoever else waits for the listener, all that it takes to find out about a socket.
func (e *Egress) refusedUnseen(c *seccompnotif.Call, sa []byte) bool {
	to, ok := inetAddress(sa)
	if e.asks(c) {
		return false // whoever is asked is told of the socket, too
	}
	if !ok || to.Addr().Unmap().IsUnspecified() || !e.policy.deniesAll(to.Addr(), to.Port()) {
		return false // where an unspecified address leads depends on the socket
	}
	return e.denials == nil || e.denials.Repeats(newDenial(c, to))
}

// comm returns the caller's name.
func comm(h *seccompnotif.Host, c *seccompnotif.Call) string {
	name, err := h.ReadProc(c.PID(), "comm")
	if err != nil || !c.Valid() {
		return ""
	}
	return string(bytes.TrimSuffix(name, []byte{'\n'}))
}
