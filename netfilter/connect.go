package netfilter

import (
	"runtime"

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

// connectOnce judges and makes the connection. With mayBlock false it does nothing where the connection might block, and
// returns true.
func (e *Egress) connectOnce(c *seccompnotif.Call, m *scratch, mayBlock bool) (_ unix.Errno, blocks bool) {
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return errno, false
	}
	defer s.close()
	sa, errno := m.readName(c, c.Arg(1), int(int32(c.Arg(2))))
	if errno != 0 {
		return errno, false
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
			return 0, true
		}
		return e.connectPatiently(c, &s, sa, unix.EINPROGRESS), false
	case s.domain == unix.AF_UNIX:
		if !mayBlock {
			return 0, true
		}
		return e.connectUnix(c, &s, sa), false
	case s.domain == unix.AF_NETLINK && toKernel(sa):
		return s.connect(sa), false
	default:
		return e.refuse(c, &s, noDestination, Verdict{}, "no rule can allow this kind of socket"), false
	}
}

// connectPatiently makes the connection of a blocking socket, on a worker. timedOut is what the kernel answers when the
// socket's SO_SNDTIMEO is over.
//
// A worker blocked in connect could not be called back: when the guest is killed or gets a signal it would stay until TCP
// gives up, which takes minutes. O_NONBLOCK is no way out, since it belongs to the open file that the guest shares. So each
// attempt is made with the shortest SO_SNDTIMEO, which the guest's own is put back in place of right after; the kernel then
// goes on connecting by itself while the worker polls and looks after the guest. The attempt that follows picks up the result,
// exactly as a connect that was interrupted and started again does.
func (e *Egress) connectPatiently(c *seccompnotif.Call, s *socket, sa []byte, timedOut unix.Errno) unix.Errno {
	w := newWaiter(e.host, c, s, timedOut)
	for {
		errno := s.connectBriefly(sa)
		switch errno {
		case unix.EINPROGRESS, unix.EALREADY: // TCP is at it
			if errno := w.writable(s); errno != 0 {
				return errno
			}
		case unix.EAGAIN: // the backlog of a Unix socket is full
			if errno := w.over(); errno != 0 {
				return errno
			}
		case unix.EINTR: // a signal of the Go runtime
		default:
			return errno
		}
	}
}

// connectBriefly is connect(2) for a tick of the kernel's clock at most, 1 to 10 ms, if the socket blocks at all.
func (s *socket) connectBriefly(sa []byte) unix.Errno {
	guests, err := unix.GetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil {
		return errnoOf(err, unix.EACCES)
	}
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 1}); err != nil {
		return errnoOf(err, unix.EACCES)
	}
	errno := s.connect(sa)
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, guests); err != nil && errno == 0 {
		errno = errnoOf(err, unix.EACCES)
	}
	runtime.KeepAlive(guests)
	return errno
}
