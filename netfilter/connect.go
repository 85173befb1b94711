package netfilter

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// connect handles connect(fd, addr, length).
func (e *Egress) connect(c *seccompnotif.Call) seccompnotif.Action {
	m := getScratch()
	defer m.put()
	errno, blocks := e.connectOnce(c, m, false)
	if blocks {
		// What was judged is not kept: the worker looks at everything anew, so nothing is left open if it never runs.
		return seccompnotif.Defer(func() seccompnotif.Action {
			m := getScratch()
			defer m.put()
			errno, _ := e.connectOnce(c, m, true)
			return answer(0, errno)
		})
	}
	return answer(0, errno)
}

// connectOnce judges and makes the connection. With mayBlock false it returns true where that takes time: what is done by then
// is no harm to do again.
func (e *Egress) connectOnce(c *seccompnotif.Call, m *scratch, mayBlock bool) (_ unix.Errno, blocks bool) {
	sa, unreadable := m.readName(c, c.Arg(1), int(int32(c.Arg(2))))
	if unreadable == 0 && e.refusedUnseen(c, sa) {
		return deniedErrno, false
	}
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 { // comes before what is wrong with the address, as in the kernel
		return errno, false
	}
	defer s.close()
	if unreadable != 0 {
		return unreadable, false
	}
	switch {
	case s.isInet():
		to, errno := e.judgeInet(c, &s, sa, false)
		if errno != 0 {
			return errno, false
		}
		// Only a stream can take time to connect; disconnecting, which is what no destination means, does not.
		if s.inet != inetTCP || !to.IsValid() || s.nonblocking() {
			return s.connect(sa), false
		}
		if !mayBlock {
			errno := s.tryConnect(sa)
			return errno, errno == unix.EINPROGRESS || errno == unix.EALREADY
		}
		return e.connectPatiently(c, &s, sa, unix.EINPROGRESS), false
	case s.domain == unix.AF_UNIX:
		if !mayBlock {
			return 0, true
		}
		return e.connectUnix(c, s, sa), false
	case s.domain == unix.AF_NETLINK && toKernel(sa):
		return s.connect(sa), false
	default:
		return e.refuse(c, &s, noDestination, Verdict{}, "no rule can allow this kind of socket"), false
	}
}

// connectPatiently makes the connection of a blocking socket, on a worker. timedOut is what the kernel answers when the
// socket's SO_SNDTIMEO is over.
//
// A worker blocked in connect(2) could not be called back: when the guest is killed or gets a signal it would stay until TCP
// gives up, which takes minutes. So each attempt returns at once. The kernel goes on connecting by itself, while the worker
// polls and looks after the guest; a later attempt picks the result up, exactly as a connect that was interrupted and started
// again does.
func (e *Egress) connectPatiently(c *seccompnotif.Call, s *socket, sa []byte, timedOut unix.Errno) unix.Errno {
	w := newWaiter(e.host, c, s, time.Now(), timedOut)
	for {
		errno := s.tryConnect(sa)
		switch errno {
		case unix.EINPROGRESS, unix.EALREADY: // TCP is at it
			errno = w.writable(s)
		case unix.EAGAIN: // the backlog of a Unix socket is full, which no poll tells the end of
			errno = w.pause()
		default:
			return errno
		}
		if errno != 0 {
			return errno
		}
	}
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
