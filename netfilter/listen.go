package netfilter

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Listen judges and carries out listen(2) where [BindPolicy.Notifications] says so: a TCP socket may listen only on a port that may be
// bound. On a socket that is not bound the call binds it as well, and a gate that wants to be asked about bind(2) is asked about that. It is
// safe for concurrent use.
//
// The call says nothing but a descriptor, which another thread could make another socket; so it is made on a duplicate, whatever kind of
// socket that is. A client of a Unix socket that listens this way finds the guest's user and group at the other end, and the
// supervisor's process id.
type Listen struct {
	policy  BindPolicy
	denials DenialLog
	gate    *seccompnotif.Gate
	host    *seccompnotif.Host
}

// NewListen returns the handler. Denials, if not nil, records what is refused; gate, if not nil, is asked and told. Close releases what it
// holds.
func NewListen(policy BindPolicy, denials DenialLog, gate *seccompnotif.Gate) (*Listen, error) {
	host, err := seccompnotif.OpenHost()
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &Listen{policy, denials, gate, host}, nil
}

// Close releases the descriptors that l holds. The handler may not run any more.
func (l *Listen) Close() error { return l.host.Close() }

// watched tells whether somebody is to be asked about what listen(2) binds, or to be told of it.
func (l *Listen) watched() bool { return l.gate.Wants(unix.SYS_BIND) || l.gate.Wants(unix.SYS_LISTEN) }

// Handle is the handler of listen(fd, backlog).
func (l *Listen) Handle(c *seccompnotif.Call) seccompnotif.Action {
	if !l.watched() {
		errno, _ := l.listen(c)
		return answer(0, errno)
	}
	return l.gate.Later(func() seccompnotif.Action {
		errno, by := l.listen(c)
		l.report(c, by)
		return answer(0, errno)
	})
}

// refusal is by whom a call was refused; by the kernel, if at all, is nobody.
type refusal uint8

const (
	byNobody refusal = iota
	byRules
	byGate
)

// report tells the gate of a call that was made, or that the rules have refused. Of its own refusal it knows.
func (l *Listen) report(c *seccompnotif.Call, by refusal) {
	if by != byGate {
		l.gate.Report(c, seccompnotif.Details{Denied: by == byRules})
	}
}

func (l *Listen) listen(c *seccompnotif.Call) (unix.Errno, refusal) {
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return errno, byNobody
	}
	defer s.close()
	backlog := int(int32(c.Arg(1)))
	switch {
	case !s.isInet():
		errno, err := l.host.AsGuest(c, false, func() unix.Errno { return s.listen(backlog) })
		if err != nil {
			return errnoOf(err, unix.EACCES), byNobody
		}
		return errno, byNobody
	case s.inet == notJudgeable && s.isStream():
		// MPTCP and its like were refused when sockets are made; this one came from elsewhere.
		return l.refuse(c, &s, "no rule can allow this protocol"), byRules
	case s.inet != inetTCP:
		return s.listen(backlog), byNobody // which no such socket can
	}
	// A socket that was connected and is not any more still shows the port that it had, and listens on another one.
	if !l.policy.Allows(s.localPort()) {
		return l.refuse(c, &s, l.reason(&s)), byRules
	}
	if errno, by := l.bindUnbound(c, &s, s.localName); errno != 0 {
		return errno, by
	}
	before := s.localPort()
	errno = s.listen(backlog)
	if errno != 0 {
		return errno, byNobody
	}
	if !l.policy.Allows(s.localPort()) {
		reason := l.reason(&s)
		s.stopListening()
		return l.refuse(c, &s, reason), byRules
	}
	return l.askIfMoved(c, &s, before, s.localName)
}

// bindUnbound has a TCP socket that is not bound be bound as listen(2) would bind it, to a port that the kernel chooses, if somebody is to
// be asked about that; then it is known what is asked about, and nobody can connect before the verdict. name says what the socket is then
// bound to.
func (l *Listen) bindUnbound(c *seccompnotif.Call, s *socket, name func() (netip.AddrPort, unix.Errno)) (unix.Errno, refusal) {
	if !l.gate.Wants(unix.SYS_BIND) {
		return 0, byNobody
	}
	sa, errno := s.name(unix.SYS_GETSOCKNAME) // it may have an address without a port (IP_BIND_ADDRESS_NO_PORT)
	if errno != 0 {
		return errno, byNobody
	}
	setPort(sa, 0)
	switch errno = s.bind(sa); errno {
	case 0:
	case unix.EINVAL: // it is bound, or connected; then listen(2) fails
		return 0, byNobody
	default:
		return errno, byNobody
	}
	at, errno := name()
	switch {
	case errno != 0:
		return errno, byNobody
	case !l.policy.Allows(at.Port()):
		errno = l.refuse(c, s, "the port may not be bound")
		s.unbind()
		return errno, byRules
	}
	if errno = l.gate.AskAs(unix.SYS_BIND, c, s.details(at)); errno != 0 {
		s.unbind()
		return errno, byGate
	}
	return 0, byNobody
}

// askIfMoved asks about the port of a socket that listens on another one than it showed before: another thread has disconnected it meanwhile.
func (l *Listen) askIfMoved(c *seccompnotif.Call, s *socket, before uint16, name func() (netip.AddrPort, unix.Errno)) (unix.Errno, refusal) {
	if s.localPort() == before {
		return 0, byNobody
	}
	at, errno := name()
	if errno == 0 {
		errno = l.gate.AskAs(unix.SYS_BIND, c, s.details(at))
	}
	if errno != 0 {
		s.stopListening()
		return errno, byGate
	}
	return 0, byNobody
}

// stopListening ends the listening. Nobody was accepted.
func (s *socket) stopListening() { _ = unix.Shutdown(s.fd, unix.SHUT_RDWR) }

// unbind has a TCP socket give up a port that the kernel has chosen, which it does when it ends to listen.
func (s *socket) unbind() {
	if s.listen(0) == 0 {
		s.stopListening()
	}
}

func (l *Listen) reason(s *socket) string {
	if s.localPort() == 0 {
		return "the socket is not bound, and the kernel would choose a port that may not be bound"
	}
	return "the port may not be bound"
}

// refuse records a denial, and returns its errno.
func (l *Listen) refuse(c *seccompnotif.Call, s *socket, because string) unix.Errno {
	at := netip.AddrPort{}
	if port := s.localPort(); port != 0 {
		at = netip.AddrPortFrom(s.localAddr(), port)
	}
	return l.record(c, s, "listen", at, because)
}

// record records that a call is refused, and returns its errno.
func (l *Listen) record(c *seccompnotif.Call, s *socket, call string, at netip.AddrPort, because string) unix.Errno {
	if l.denials == nil {
		return deniedErrno
	}
	d := newDenial(c, at)
	d.Syscall, d.Protocol, d.Because = call, s.protocolName(), because
	if !l.denials.Repeats(d) {
		d.Comm = comm(l.host, c)
		l.denials.Add(d)
	}
	return deniedErrno
}

// listen calls listen(2).
func (s *socket) listen(backlog int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_LISTEN, uintptr(s.fd), uintptr(backlog), 0)
	return errno
}

// localPort returns the port that an IPv4 or IPv6 socket has, 0 if it has none or that cannot be told.
func (s *socket) localPort() uint16 {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(name.Port)
	case *unix.SockaddrInet6:
		return uint16(name.Port)
	default:
		return 0
	}
}
