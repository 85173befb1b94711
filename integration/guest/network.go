package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// answerTimeout is how long, in milliseconds, a server may take to answer before the guest calls it unreachable.
const answerTimeout = 5000

// network reaches a server in one named way and prints what the server answered.
// Its arguments are: connect|connect-nonblock|fastopen|sendto|sendmsg|sendmmsg, tcp|udp|icmp, HOST:PORT. A host that is a name is tried at each of its
// addresses.
func network(args []string) (answer string, err error) {
	if len(args) != 3 {
		return "", fmt.Errorf("network: want HOW PROTOCOL HOST:PORT, got %q", args)
	}
	list, err := destinations(args[2])
	if err != nil {
		return "", err
	}
	for _, to := range list {
		if answer, err = reachOne(args[0], args[1], to); err == nil {
			return answer, nil
		}
	}
	return "", err
}

// destinations are the addresses of HOST:PORT.
func destinations(text string) ([]netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(text); err == nil {
		return []netip.AddrPort{to}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
	var list []netip.AddrPort
	for _, addr := range addrs {
		list = append(list, netip.AddrPortFrom(addr.Unmap(), uint16(number)))
	}
	return list, err
}

func reachOne(how, protocol string, to netip.AddrPort) (string, error) {
	if protocol == "icmp" {
		return ping(to)
	}
	kind := unix.SOCK_STREAM
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	if how == "connect-nonblock" {
		kind |= unix.SOCK_NONBLOCK
	}
	family, address := sockaddr(to)
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("socket: %w", err)
	}
	if err := reach(how, fd, address, to); err != nil {
		return "", err
	}
	return readAnswer(fd)
}

// ping sends an echo request over a ping socket, and prints "pong" when the reply is there; see icmp(7).
func ping(to netip.AddrPort) (string, error) {
	family, address := sockaddr(to)
	protocol, request, reply := unix.IPPROTO_ICMP, byte(8), byte(0) // ICMP_ECHO, ICMP_ECHOREPLY
	if family == unix.AF_INET6 {
		protocol, request, reply = unix.IPPROTO_ICMPV6, 128, 129 // ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return "", err
	}
	if err := unix.Sendto(fd, []byte{request, 0, 0, 0, 0, 0, 0, 1}, 0, address); err != nil {
		return "", err
	}
	if err := wait(fd, unix.POLLIN); err != nil {
		return "", err
	}
	buf := make([]byte, 256)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	if n < 1 || buf[0] != reply {
		return "", fmt.Errorf("ping: %x is no echo reply", buf[:n])
	}
	return "pong", nil
}

func sockaddr(to netip.AddrPort) (family int, address unix.Sockaddr) {
	if to.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

func reach(how string, fd int, address unix.Sockaddr, to netip.AddrPort) error {
	hello := []byte("hello\n")
	switch how {
	case "connect", "connect-nonblock":
		err := unix.Connect(fd, address)
		if err == unix.EINPROGRESS {
			err = finishConnect(fd)
		}
		if err != nil {
			return err
		}
		return unix.Send(fd, hello, unix.MSG_NOSIGNAL)
	case "fastopen":
		return unix.Sendto(fd, hello, unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, address)
	case "sendto":
		return unix.Sendto(fd, hello, unix.MSG_NOSIGNAL, address)
	case "sendmsg":
		return unix.Sendmsg(fd, hello, nil, address, unix.MSG_NOSIGNAL)
	case "sendmmsg":
		return sendmmsg(fd, hello, to)
	}
	return fmt.Errorf("network: no way %q", how)
}

func finishConnect(fd int) error {
	if err := wait(fd, unix.POLLOUT); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

func readAnswer(fd int) (string, error) {
	if err := wait(fd, unix.POLLIN); err != nil {
		return "", err
	}
	buf := make([]byte, 256)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

func wait(fd int, events int16) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, answerTimeout)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		return nil
	}
}

// mmsghdr is struct mmsghdr of sendmmsg(2), which x/sys has no type for.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      uint32
}

// sendmmsg sends the payload twice in one call, to a raw sockaddr of the kind to has.
func sendmmsg(fd int, payload []byte, to netip.AddrPort) error {
	port := to.Port()<<8 | to.Port()>>8
	v4 := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port}
	v6 := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to.Addr().As16()}
	name, size := (*byte)(unsafe.Pointer(&v6)), uint32(unsafe.Sizeof(v6))
	if to.Addr().Is4() {
		v4.Addr = to.Addr().As4()
		name, size = (*byte)(unsafe.Pointer(&v4)), uint32(unsafe.Sizeof(v4))
	}
	iov := unix.Iovec{Base: &payload[0]}
	iov.SetLen(len(payload))
	header := unix.Msghdr{Name: name, Namelen: size, Iov: &iov}
	header.SetIovlen(1)
	messages := [2]mmsghdr{{header: header}, {header: header}}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if int(n) != len(messages) {
		return fmt.Errorf("sendmmsg sent %d of %d", n, len(messages))
	}
	return nil
}

// socket opens a socket of one named kind and prints "opened".
func socket(args []string) (string, error) {
	kinds := map[string][3]int{
		"tcp":   {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		"udp":   {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		"ping":  {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP},
		"raw":   {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		"mptcp": {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
		"unix":  {unix.AF_UNIX, unix.SOCK_STREAM, 0},
	}
	kind, ok := kinds[args[0]]
	if !ok {
		return "", fmt.Errorf("socket: no kind %q", args[0])
	}
	fd, err := unix.Socket(kind[0], kind[1]|unix.SOCK_CLOEXEC, kind[2])
	if err != nil {
		return "", err
	}
	return "opened", unix.Close(fd)
}
