package netfilter

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop is what the benchmarks run.
type loop struct {
	To     string
	Rounds int
}

// deniedLoop connects one socket again and again.
func deniedLoop(me *self) any {
	var args loop
	me.arguments(&args)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		panic(err)
	}
	sa := sockaddr(netip.MustParseAddrPort(args.To))
	once := func() unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)))
		return errno
	}
	for range 200 {
		once()
	}
	me.tell("ready")
	me.wait()
	start, others := time.Now(), 0
	for range args.Rounds {
		if once() != deniedErrno {
			others++
		}
	}
	return []int64{int64(time.Since(start)), int64(others)}
}

// connectLoop makes connections to itself.
func connectLoop(me *self) any {
	var args loop
	me.arguments(&args)
	sa := sockaddr(netip.MustParseAddrPort(args.To))
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		if _, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(listener), pointer(sa), uintptr(len(sa))); errno != 0 {
			err = errno
		}
	}
	if err == nil {
		err = unix.Listen(listener, 10)
	}
	if err != nil {
		panic(err)
	}
	var spent time.Duration
	failed := 0
	for i := range args.Rounds + 100 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			panic(err)
		}
		start := time.Now()
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)))
		if i >= 100 {
			spent += time.Since(start)
		}
		if errno != 0 {
			failed++
		} else if peer, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, 0, 0, 0); errno == 0 {
			unix.Close(int(peer))
		}
		// A reset, so that ports do not run out.
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
	return []int64{int64(spent), int64(failed)}
}

// sendOrder sends numbered messages over a connected stream, by sendmsg and by write in turn.
func sendOrder(me *self) any {
	var args loop
	me.arguments(&args)
	fd, r := connected(args.To)
	if r.Errno != 0 {
		return r
	}
	sa := sockaddr(netip.MustParseAddrPort(args.To))
	for i := range args.Rounds {
		line := fmt.Appendf(nil, "%08d\n", i)
		if i%2 == 0 {
			if r := raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(newMessage(sa, line, nil))), 0, 0, 0, 0); r.Errno != 0 || r.N != len(line) {
				return r
			}
		} else if _, err := unix.Write(fd, line); err != nil {
			return outcome{-1, err.(unix.Errno), "write"}
		}
	}
	unix.Close(fd)
	return outcome{}
}

// sendQueue sends numbered datagrams over firstExtra.
func sendQueue(me *self) any {
	var args loop
	me.arguments(&args)
	for i := range args.Rounds {
		r := raw("sendmsg", unix.SYS_SENDMSG, firstExtra, uintptr(unsafe.Pointer(newMessage(nil, fmt.Appendf(nil, "%08d", i), nil))), 0, 0, 0, 0)
		if r.Errno != 0 {
			return r
		}
	}
	return outcome{}
}
