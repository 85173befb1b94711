package netfilter

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Listen judges and carries out listen(2) where [BindPolicy.Notifications] says so: a TCP socket may listen only on a port that may be
// bound. It is safe for concurrent use.
//
// The call says nothing but a descriptor, which another thread could make another socket; so it is made on a duplicate, whatever kind of
// socket that is. A client of a Unix socket that listens this way finds the guest's user and group at the other end, and the
// supervisor's process id.
type Listen struct {
	policy  BindPolicy
	denials DenialLog
	host    *seccompnotif.Host
}

// NewListen returns the handler. Denials, if not nil, records what is refused. Close releases what it holds.
func NewListen(policy BindPolicy, denials DenialLog) (*Listen, error) {
	host, err := seccompnotif.OpenHost()
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &Listen{policy, denials, host}, nil
}

// Close releases the descriptors that l holds. The handler may not run any more.
func (l *Listen) Close() error { return l.host.Close() }

// Handle is the handler of listen(fd, backlog).
func (l *Listen) Handle(c *seccompnotif.Call) seccompnotif.Action {
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	defer s.close()
	backlog := int(int32(c.Arg(1)))
	switch {
	case !s.isInet():
		errno, err := l.host.AsGuest(c, false, func() unix.Errno { return s.listen(backlog) })
		if err != nil {
			return seccompnotif.Errno(errnoOf(err, unix.EACCES))
		}
		return answer(0, errno)
	case s.inet == notJudgeable && s.isStream():
		// MPTCP and its like were refused when sockets are made; this one came from elsewhere.
		return l.refuse(c, &s, "no rule can allow this protocol")
	case s.inet != inetTCP:
		return answer(0, s.listen(backlog)) // which no such socket can
	}
	// A socket that was connected and is not any more still shows the port that it had, and listens on another one.
	if !l.policy.Allows(s.localPort()) {
		return l.refuse(c, &s, l.reason(&s))
	}
	errno = s.listen(backlog)
	if errno == 0 && !l.policy.Allows(s.localPort()) {
		reason := l.reason(&s)
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // ends the listening; nobody was accepted
		return l.refuse(c, &s, reason)
	}
	return answer(0, errno)
}

func (l *Listen) reason(s *socket) string {
	if s.localPort() == 0 {
		return "the socket is not bound, and the kernel would choose a port that may not be bound"
	}
	return "the port may not be bound"
}

// refuse records a denial and answers it.
func (l *Listen) refuse(c *seccompnotif.Call, s *socket, because string) seccompnotif.Action {
	at := netip.AddrPort{}
	if port := s.localPort(); port != 0 {
		at = netip.AddrPortFrom(s.localAddr(), port)
	}
	return seccompnotif.Errno(l.record(c, s, "listen", at, because))
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
