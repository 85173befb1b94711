package netfilter

import (
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scenarios are what guests can do.
var scenarios = map[string]func(*self) any{
	"attempts": func(me *self) any {
		var list []attempt
		me.arguments(&list)
		results := make([]outcome, len(list))
		for i, a := range list {
			results[i] = a.make()
		}
		return results
	},
}

// attempt is one try to reach somebody.
type attempt struct {
	Call     string // connect, sendto, sendmsg, sendmmsg
	Family   int    // of the socket; 0 = that of To
	Type     int    // of the socket, flags included
	Protocol int
	FD       int    // use this descriptor instead of making a socket
	To       string // address and port
	As       *int   // the family that the address claims to have
	Cut      int    // length of the address; 0 = all of it
	Bind     string // address that the socket is bound to before
	Data     string
	Flags    int
	Control  []byte
}

// outcome is what came of a system call.
type outcome struct {
	N     int
	Errno unix.Errno
	At    string // the call that failed
}

func result(at string, n uintptr, errno unix.Errno) outcome {
	if errno != 0 {
		return outcome{-1, errno, at}
	}
	return outcome{int(n), 0, ""}
}

func (a attempt) make() outcome {
	to := netip.MustParseAddrPort(a.To)
	sa := sockaddr(to)
	family := a.Family
	if family == 0 {
		family = unix.AF_INET
		if to.Addr().Is6() {
			family = unix.AF_INET6
		}
	}
	if a.As != nil {
		*(*uint16)(unsafe.Pointer(&sa[0])) = uint16(*a.As)
	}
	if a.Cut > 0 {
		sa = sa[:a.Cut]
	}
	fd := a.FD
	if fd == 0 {
		var err error
		if fd, err = unix.Socket(family, a.Type, a.Protocol); err != nil {
			return outcome{-1, err.(unix.Errno), "socket"}
		}
		defer unix.Close(fd)
	}
	if a.Bind != "" {
		local := sockaddr(netip.MustParseAddrPort(a.Bind))
		if r := raw("bind", unix.SYS_BIND, uintptr(fd), pointer(local), uintptr(len(local)), 0, 0, 0); r.Errno != 0 {
			return r
		}
	}
	switch a.Call {
	case "connect":
		r := raw("connect", unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0)
		runtime.KeepAlive(sa)
		if r.Errno == unix.EINPROGRESS && a.Type&unix.SOCK_NONBLOCK != 0 {
			r = finished(fd)
		}
		if r.Errno == 0 && a.Data != "" {
			n, err := unix.Write(fd, []byte(a.Data))
			if err != nil {
				return outcome{-1, err.(unix.Errno), "write"}
			}
			r.N = n
		}
		return r
	case "sendto":
		data := []byte(a.Data)
		r := raw("sendto", unix.SYS_SENDTO, uintptr(fd), pointer(data), uintptr(len(data)), uintptr(a.Flags), pointer(sa), uintptr(len(sa)))
		runtime.KeepAlive(data)
		runtime.KeepAlive(sa)
		return r
	case "sendmsg":
		header := newMessage(sa, []byte(a.Data), a.Control)
		return raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(header)), uintptr(a.Flags), 0, 0, 0)
	default:
		return sendmmsg(fd, a.Flags, newMessage(sa, []byte(a.Data), a.Control))
	}
}

// finished waits for a connection that was begun.
func finished(fd int) outcome {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(poll, 10000); n != 1 || err != nil {
		return outcome{-1, unix.ETIMEDOUT, "poll"}
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno != 0 {
		return outcome{-1, unix.Errno(errno), "connect"}
	}
	return outcome{}
}

// newMessage makes a message whose data lies in two places.
func newMessage(sa, data, control []byte) *unix.Msghdr {
	half := len(data) / 2
	iov := make([]unix.Iovec, 3) // the middle one is empty
	for i, part := range [][]byte{data[:half], nil, data[half:]} {
		iov[i].Base = unsafe.SliceData(part)
		iov[i].SetLen(len(part))
	}
	m := &unix.Msghdr{Iov: &iov[0]}
	m.SetIovlen(len(iov))
	if len(sa) > 0 {
		m.Name, m.Namelen = &sa[0], uint32(len(sa))
	}
	if len(control) > 0 {
		m.Control = &control[0]
		m.SetControllen(len(control))
	}
	return m
}

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	sent uint32
	_    [4]byte
}

func sendmmsg(fd, flags int, messages ...*unix.Msghdr) outcome {
	list := make([]mmsghdr, len(messages))
	for i, m := range messages {
		list[i] = mmsghdr{Msghdr: *m, sent: 0xdead}
	}
	r := raw("sendmmsg", unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), uintptr(flags), 0, 0)
	for i := range max(r.N, 0) {
		r.N += int(list[i].sent) * 1000 // 1000 times the bytes, and the messages
	}
	return r
}

func raw(at string, trap uintptr, args ...uintptr) outcome {
	n, _, errno := unix.Syscall6(trap, args[0], args[1], args[2], args[3], args[4], args[5])
	return result(at, n, errno)
}

func pointer(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
