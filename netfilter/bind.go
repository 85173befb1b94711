package netfilter

import (
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// bind handles bind(fd, addr, length) for a gate that wants to be asked about it. Whatever the socket is, the call is made on the guest's
// behalf: the socket and the address that somebody was asked about are then those that are used.
func (e *Egress) bind(c *seccompnotif.Call) seccompnotif.Action {
	return e.gate.Later(func() seccompnotif.Action { return answer(0, e.bindAsking(c)) })
}

func (e *Egress) bindAsking(c *seccompnotif.Call) unix.Errno {
	m := getScratch()
	defer m.put()
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return errno
	}
	defer s.close()
	sa, errno := m.readName(c, c.Arg(1), int(int32(c.Arg(2))))
	if errno != 0 {
		return errno
	}
	switch {
	case s.isInet():
		return e.bindInet(c, &s, sa)
	case s.domain == unix.AF_UNIX:
		return e.bindUnix(c, &s, sa)
	case s.domain == unix.AF_NETLINK:
		// Nobody is asked, as about sends: it is the kernel that is spoken to. Multicast groups take the guest's own capabilities.
		errno, err := e.host.AsGuest(c, false, func() unix.Errno { return s.bind(sa) })
		if err != nil {
			return errnoOf(err, unix.EACCES)
		}
		return errno
	default:
		return e.refuse(c, &s, noDestination, Verdict{}, "no rule can allow this kind of socket")
	}
}

// bindInet binds an IPv4 or IPv6 socket. The call is not under the guest's Landlock rules, so the ports that TCP may bind are judged here.
func (e *Egress) bindInet(c *seccompnotif.Call, s *socket, sa []byte) unix.Errno {
	if s.inet == notJudgeable {
		return e.refuse(c, s, noDestination, Verdict{}, "no rule can allow this protocol")
	}
	at, ok := bindAddress(s.domain, sa)
	if !ok {
		return unix.EINVAL // the kernel refuses it, too
	}
	if s.inet == inetTCP && !e.binds.Allows(at.Port()) {
		return e.refuse(c, s, at, Verdict{}, "the port may not be bound")
	}
	if errno := e.ask(c, s, at); errno != 0 {
		return errno
	}
	if e.ports != nil && s.inet == inetTCP {
		return e.ports.bindTCP(c, s, sa)
	}
	if s.inet != inetPing && !mayBind(e.host, c, s, at.Port()) {
		return unix.EACCES
	}
	return s.bind(sa)
}

// bindUnix binds a Unix socket. A path is made in the guest's root, by a thread with its user, groups, capabilities, umask and Landlock rules.
func (e *Egress) bindUnix(c *seccompnotif.Call, s *socket, sa []byte) unix.Errno {
	if errno := e.ask(c, s, noDestination); errno != 0 {
		return errno
	}
	if !isPath(sa) {
		return s.bind(sa) // names that only sockets have
	}
	errno, err := e.host.AsConfinedGuest(c, e.confine, func() unix.Errno { return s.bind(sa) })
	if err != nil {
		return errnoOf(err, unix.EACCES)
	}
	return errno
}
