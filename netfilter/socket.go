package netfilter

import (
	"errors"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// socket is our duplicate of a guest's socket. It shares the guest's open file: state, options and flags are the guest's.
type socket struct {
	fd       int
	domain   int
	kind     int // SOCK_STREAM and so on
	protocol int
	inet     inetKind
}

// inetKind says which rules an IPv4 or IPv6 socket is judged by.
type inetKind uint8

const (
	notJudgeable inetKind = iota // no rule speaks of such sockets: raw, MPTCP, SCTP and others
	inetTCP
	inetUDP
	inetPing
)

// openSocket duplicates the guest's descriptor fd. The caller closes the socket. ENOTSOCK means that it is something else.
func openSocket(c *seccompnotif.Call, fd int) (socket, unix.Errno) {
	duplicate, err := c.File(fd)
	if err != nil {
		return socket{}, errnoOf(err, unix.EACCES)
	}
	s := socket{fd: duplicate}
	for _, option := range [...]struct {
		name int
		to   *int
	}{{unix.SO_DOMAIN, &s.domain}, {unix.SO_TYPE, &s.kind}, {unix.SO_PROTOCOL, &s.protocol}} {
		if *option.to, err = unix.GetsockoptInt(duplicate, unix.SOL_SOCKET, option.name); err != nil {
			s.close()
			if errors.Is(err, unix.EBADF) { // our duplicate of an O_PATH descriptor
				return socket{}, unix.EBADF
			}
			return socket{}, errnoOf(err, unix.EACCES)
		}
	}
	if s.isInet() {
		s.inet = inetKindOf(s.kind, s.protocol)
	}
	return s, 0
}

func inetKindOf(kind, protocol int) inetKind {
	switch {
	case kind == unix.SOCK_STREAM && protocol == unix.IPPROTO_TCP:
		return inetTCP
	case kind == unix.SOCK_DGRAM && protocol == unix.IPPROTO_UDP:
		return inetUDP
	case kind == unix.SOCK_DGRAM && (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6):
		return inetPing
	default:
		return notJudgeable
	}
}

// rules returns the protocol whose rules judge the socket.
func (k inetKind) rules() Protocol {
	switch k {
	case inetUDP:
		return UDP
	case inetPing:
		return ICMP
	default:
		return TCP
	}
}

// protocolName names what the socket speaks, for a denial.
func (s *socket) protocolName() string {
	switch {
	case s.inet != notJudgeable:
		return s.inet.rules().String()
	case s.domain == unix.AF_UNIX:
		return "unix"
	case s.domain == unix.AF_NETLINK:
		return "netlink"
	case s.domain == unix.AF_PACKET:
		return "packet"
	case s.domain == unix.AF_VSOCK:
		return "vsock"
	case s.isInet() && s.kind == unix.SOCK_RAW:
		return "raw"
	case s.isInet() && s.protocol == unix.IPPROTO_MPTCP:
		return "mptcp"
	case s.isInet() && s.protocol == unix.IPPROTO_SCTP:
		return "sctp"
	default:
		return "other"
	}
}

func (s *socket) close() { unix.Close(s.fd) }

func (s *socket) isInet() bool { return s.domain == unix.AF_INET || s.domain == unix.AF_INET6 }

// isStream tells whether a send may be cut short and continued.
func (s *socket) isStream() bool { return s.kind == unix.SOCK_STREAM }

// nonblocking tells whether the guest's open file has O_NONBLOCK. Another thread of the guest can change that at any time.
func (s *socket) nonblocking() bool {
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_NONBLOCK != 0
}

// connect calls connect(2) with an address of ours. It blocks if the socket does.
func (s *socket) connect(sa []byte) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(sa))), uintptr(len(sa)))
	return errno
}

// send calls sendmsg(2) without blocking and without a signal. Every slice is memory of ours.
func (s *socket) send(name, data, control []byte, flags uint32) (int, unix.Errno) {
	iov := unix.Iovec{Base: unsafe.SliceData(data)}
	iov.SetLen(len(data))
	var message unix.Msghdr
	message.Iov = &iov
	message.SetIovlen(1)
	if len(name) > 0 {
		message.Name, message.Namelen = &name[0], uint32(len(name))
	}
	if len(control) > 0 {
		message.Control = &control[0]
		message.SetControllen(len(control))
	}
	n, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&message)), uintptr(flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
	runtime.KeepAlive(data)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// localAddr returns the address that an IPv4 or IPv6 socket is bound to, the zero Addr if that cannot be told.
func (s *socket) localAddr() netip.Addr {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.Addr{}
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(name.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(name.Addr)
	default:
		return netip.Addr{}
	}
}

// errnoOf returns the errno in err, or otherwise if there is none.
func errnoOf(err error, otherwise unix.Errno) unix.Errno {
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, seccompnotif.ErrGone):
		return unix.ESRCH // nobody gets to see it
	default:
		return otherwise
	}
}
