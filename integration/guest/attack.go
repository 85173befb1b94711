package main

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attackTally counts how tries to reach a server have ended.
type attackTally struct{ passed, refused, breached atomic.Int64 }

func (a *attackTally) note(to, denied netip.AddrPort, err error) {
	switch {
	case err == nil && to == denied:
		a.breached.Add(1)
	case err == nil:
		a.passed.Add(1)
	case err == unix.EACCES || err == unix.EPERM:
		a.refused.Add(1)
	}
}

// attack tries to reach the second of two addresses, of which only the first is allowed, with many goroutines at once: by dialling, as
// programs do, and by system calls whose address another goroutine rewrites. It prints how the tries ended.
func attack(args []string) (string, error) {
	if len(args) != 2 {
		return "", fmt.Errorf("attack: want ALLOWED DENIED, got %q", args)
	}
	allowed, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return "", err
	}
	denied, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return "", err
	}
	var tally attackTally
	var all sync.WaitGroup
	for i := range 40 {
		for _, to := range []netip.AddrPort{allowed, denied} {
			network := [...]string{"tcp", "udp"}[i%2]
			all.Go(func() { tally.note(to, denied, dialOnce(network, to)) })
		}
	}
	all.Wait()
	var collector sync.WaitGroup
	stop := make(chan struct{})
	collector.Go(func() { collect(stop) })
	for range 4 {
		all.Go(func() { rewriteWhileConnecting(allowed, denied, &tally, 3000) })
	}
	all.Wait()
	close(stop)
	collector.Wait()
	return fmt.Sprintf("go: passed %d refused %d breached %d", tally.passed.Load(), tally.refused.Load(), tally.breached.Load()), nil
}

func dialOnce(network string, to netip.AddrPort) error {
	conn, err := net.Dial(network, to.String())
	if err != nil {
		if op, ok := err.(*net.OpError); ok {
			if call, ok := op.Err.(interface{ Unwrap() error }); ok {
				return call.Unwrap()
			}
		}
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("x"))
	return err
}

// collect has the collector run, and so every thread interrupted by signals, all the time.
func collect(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			runtime.GC()
		}
	}
}

// rewriteWhileConnecting connects a socket so many times to an address that another goroutine changes meanwhile.
func rewriteWhileConnecting(allowed, denied netip.AddrPort, tally *attackTally, times int) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(fd)
	sa := &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: allowed.Port()<<8 | allowed.Port()>>8}
	address := (*uint32)(unsafe.Pointer(&sa.Addr))
	one, other := allowed.Addr().As4(), denied.Addr().As4()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				for range 100 {
					atomic.StoreUint32(address, *(*uint32)(unsafe.Pointer(&one)))
					atomic.StoreUint32(address, *(*uint32)(unsafe.Pointer(&other)))
				}
			}
		}
	}()
	for range times {
		_, _, errno := syscall.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(sa)), unsafe.Sizeof(*sa))
		if errno != 0 {
			tally.note(allowed, denied, errno)
			continue
		}
		peer, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		tally.note(netip.AddrPortFrom(netip.AddrFrom4(peer.(*unix.SockaddrInet4).Addr), denied.Port()), denied, nil)
	}
	close(stop)
	<-stopped
}
