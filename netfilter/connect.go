package netfilter

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// connect handles connect(fd, addr, length).
func (e *Egress) connect(c *seccompnotif.Call) seccompnotif.Action {
	if e.asks(c) {
		return e.gate.Later(func() seccompnotif.Action { return e.connectFrom(c, true) })
	}
	return e.connectFrom(c, false)
}

// connectFrom takes what the guest has given.
func (e *Egress) connectFrom(c *seccompnotif.Call, onWorker bool) seccompnotif.Action {
	m := getScratch()
	defer m.put()
	sa, unreadable := m.readName(c, c.Arg(1), int(int32(c.Arg(2))))
	if unreadable == 0 && e.refusedUnseen(c, sa) {
		return seccompnotif.Errno(deniedErrno)
	}
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 { // comes before what is wrong with the address, as in the kernel
		return seccompnotif.Errno(errno)
	}
	if unreadable != 0 {
		s.close()
		return seccompnotif.Errno(unreadable)
	}
	return e.connectSocket(c, s, sa, onWorker)
}

// connectSocket connects a socket, which it takes over.
func (e *Egress) connectSocket(c *seccompnotif.Call, s socket, sa []byte, onWorker bool) seccompnotif.Action {
	if e.asIssued && s.inet != inetTCP {
		s.close()
		return seccompnotif.Continue() // safe, see Egress.asIssued
	}
	if s.domain == unix.AF_UNIX {
		if onWorker {
			if errno := e.ask(c, &s, noDestination); errno != 0 {
				s.close()
				return seccompnotif.Errno(errno)
			}
			return e.connectUnix(c, s, slices.Clone(sa))
		}
		s.close() // so that nothing is left open if the worker never runs
		sa = slices.Clone(sa)
		return seccompnotif.Defer(func() seccompnotif.Action {
			s, errno := openSocket(c, int(int32(c.Arg(0))))
			if errno != 0 {
				return seccompnotif.Errno(errno)
			}
			return e.connectSocket(c, s, sa, true)
		})
	}
	errno, goesOn := e.connectInet(c, &s, sa)
	if goesOn {
		return e.lot.park(newConnect(s, slices.Clone(sa)))
	}
	s.close()
	if errno == errAsIssued {
		return seccompnotif.Continue() // safe, see Egress.asIssued
	}
	return answer(0, errno)
}

// errAsIssued is the errno, of no meaning to the kernel, of a call that may go on as it was issued.
const errAsIssued = unix.Errno(0xfffc)

// connectInet judges the address and connects any socket that is none of Unix. It returns true where the kernel goes on
// connecting, and the guest is to wait for that.
func (e *Egress) connectInet(c *seccompnotif.Call, s *socket, sa []byte) (_ unix.Errno, goesOn bool) {
	switch {
	case s.isInet():
		to, errno := e.destination(c, s, sa)
		if errno != 0 {
			return errno, false
		}
		// Only a stream can take time to connect; disconnecting, which is what no destination means, does not.
		if s.inet != inetTCP || !to.IsValid() || s.nonblocking() {
			return s.connect(sa), false
		}
		errno = s.tryConnect(sa)
		return errno, errno == unix.EINPROGRESS || errno == unix.EALREADY
	case s.domain == unix.AF_NETLINK && toKernel(sa):
		return s.connect(sa), false
	default:
		return e.refuse(c, s, noDestination, Verdict{}, "no rule can allow this kind of socket"), false
	}
}

// destination judges where an IPv4 or IPv6 socket is to be connected to, and makes of sa what the kernel is to be told. The invalid
// AddrPort means that it is to be disconnected. errAsIssued says that nobody but the kernel has to do with it.
func (e *Egress) destination(c *seccompnotif.Call, s *socket, sa []byte) (netip.AddrPort, unix.Errno) {
	port, refused := uint16(0), unix.Errno(0)
	named, ok := inetAddress(sa)
	if ok && s.inet == inetTCP {
		port, refused = e.route(c, s, named)
	}
	if e.asIssued && refused == 0 && port == named.Port() {
		return netip.AddrPort{}, errAsIssued
	}
	to, errno := e.judgeInet(c, s, sa, false)
	if errno != 0 || !to.IsValid() {
		return netip.AddrPort{}, errno
	}
	if errno := e.ask(c, s, to); errno != 0 {
		return netip.AddrPort{}, errno
	}
	if s.inet == inetTCP {
		setPort(sa, port)
	}
	return to, refused
}

// newConnect returns the wait for a connection that TCP is making. The kernel goes on by itself; a later attempt on the same
// socket with the same address, both of which are ours, picks the result up, exactly as a connect that was interrupted and
// started again does.
func newConnect(s socket, sa []byte) *parked {
	p := &parked{socket: s, pollable: true, timedOut: unix.EINPROGRESS}
	p.stopped = func(errno unix.Errno) seccompnotif.Action { return seccompnotif.Errno(errno) }
	p.again = func() (seccompnotif.Action, progress) {
		errno := p.socket.tryConnect(sa)
		if errno == unix.EINPROGRESS || errno == unix.EALREADY {
			return seccompnotif.Action{}, stuck
		}
		return answer(0, errno), done
	}
	return p
}

// tryConnect is connect(2) on a blocking socket without waiting: EINPROGRESS and EALREADY mean that the kernel goes on
// connecting, EAGAIN that a Unix socket has no room.
//
// O_NONBLOCK is no way to that, since it belongs to the open file that the guest shares. SO_SNDTIMEO does too, but for all that
// happens meanwhile, which is nothing that takes time, it is only another thread of the guest that could notice. A negative
// time-out is none at all (sock_set_timeout in the kernel, which notes the first ten of a boot in its log).
func (s *socket) tryConnect(sa []byte) unix.Errno {
	guests, err := unix.GetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err == nil {
		err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: -1})
	}
	if err != nil {
		return errnoOf(err, unix.EACCES)
	}
	errno := s.connect(sa)
	if errno == unix.EINPROGRESS {
		// A peer on the same host has answered by now, but what it said is looked at only as the first call ends.
		errno = s.connect(sa)
	}
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, guests); err != nil && errno == 0 {
		errno = errnoOf(err, unix.EACCES)
	}
	return errno
}
