package netfilter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	scenarios["race"] = race
	scenarios["partial sendmmsg"] = partialSendmmsg
	scenarios["slow connect"] = slowConnect
	scenarios["many connects"] = manyConnects
	scenarios["big send"] = bigSend
	scenarios["broken pipe"] = brokenPipe
	scenarios["unix"] = unixSockets
	scenarios["pass"] = passDescriptor
	scenarios["credentials"] = credentials
	scenarios["netlink"] = netlink
	scenarios["denied loop"] = deniedLoop
	scenarios["connect loop"] = connectLoop
	scenarios["send order"] = sendOrder
	scenarios["ancestor"] = ancestor
}

// race calls connect and sendto with an address that another thread keeps changing between the allowed and the denied one.
func race(me *self) any {
	var args struct {
		Allowed, Denied string
		Rounds          int
	}
	me.arguments(&args)
	shared := sockaddr(netip.MustParseAddrPort(args.Allowed))
	good := *(*uint32)(unsafe.Pointer(&shared[4]))
	other := sockaddr(netip.MustParseAddrPort(args.Denied))
	bad := *(*uint32)(unsafe.Pointer(&other[4]))
	word := (*uint32)(unsafe.Pointer(&shared[4]))
	var stop atomic.Bool
	var swaps atomic.Int64
	go func() {
		for !stop.Load() {
			atomic.StoreUint32(word, bad)
			atomic.StoreUint32(word, good)
			swaps.Add(1)
		}
	}()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		panic(err)
	}
	data := []byte("race")
	sent := 0
	for range args.Rounds {
		if raw("sendto", unix.SYS_SENDTO, uintptr(fd), pointer(data), uintptr(len(data)), 0, pointer(shared), uintptr(len(shared))).Errno == 0 {
			sent++
		}
	}
	stop.Store(true)
	runtime.KeepAlive(shared)
	return []int{sent, int(swaps.Load())}
}

// partialSendmmsg sends to an allowed, a denied and again the allowed address, in one call.
func partialSendmmsg(me *self) any {
	var args struct {
		Allowed, Denied string
		Flags           int
	}
	me.arguments(&args)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		panic(err)
	}
	good, bad := sockaddr(netip.MustParseAddrPort(args.Allowed)), sockaddr(netip.MustParseAddrPort(args.Denied))
	return []outcome{
		sendmmsg(fd, args.Flags, newMessage(good, []byte("one"), nil), newMessage(bad, []byte("two"), nil), newMessage(good, []byte("three"), nil)),
		sendmmsg(fd, args.Flags, newMessage(bad, []byte("four"), nil), newMessage(good, []byte("five"), nil)),
		sendmmsg(fd, args.Flags, newMessage(good, []byte("six"), nil), newMessage(good, []byte("seven"), nil)),
	}
}

// slowConnect makes blocking connections, one on a thread of its own for each address.
func slowConnect(me *self) any {
	var args struct {
		Slow    string
		Quick   string
		Timeout int // milliseconds; 0 = none
		Signal  bool
	}
	me.arguments(&args)
	signalled := make(chan struct{})
	if args.Signal {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGUSR1)
		go func() {
			defer close(signalled)
			<-signals
			me.tell("signalled")
		}()
	} else {
		close(signalled)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	if args.Timeout > 0 {
		timeout := unix.NsecToTimeval(int64(args.Timeout) * 1e6)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
			panic(err)
		}
	}
	done := make(chan outcome)
	sa := sockaddr(netip.MustParseAddrPort(args.Slow))
	go func() {
		runtime.LockOSThread()
		me.tell(unix.Gettid())
		done <- raw("connect", unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0)
	}()
	if args.Quick != "" {
		me.wait()
		me.tell(attempt{Call: "connect", Type: unix.SOCK_STREAM, To: args.Quick, Data: "quick"}.make())
	}
	r := <-done
	<-signalled
	timeout, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil || timeout.Nano() != int64(args.Timeout)*1e6 {
		return outcome{-1, unix.EBADMSG, fmt.Sprintf("SO_SNDTIMEO became %v, %v", timeout, err)}
	}
	return r
}

// manyConnects makes many blocking connections to one address, and when all are under way perhaps one to another.
func manyConnects(me *self) any {
	var args struct {
		Slow, Quick string
		Count       int
	}
	me.arguments(&args)
	sa := sockaddr(netip.MustParseAddrPort(args.Slow))
	results := make(chan unix.Errno)
	for range args.Count {
		go func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				panic(err)
			}
			r := raw("connect", unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0)
			unix.Close(fd)
			results <- r.Errno
		}()
	}
	me.wait()
	if args.Quick != "" {
		me.tell(attempt{Call: "connect", Type: unix.SOCK_STREAM, To: args.Quick, Data: "quick"}.make())
	}
	tally := map[string]int{}
	for range args.Count {
		tally[(<-results).Error()]++
	}
	return tally
}

// connected makes a TCP socket and connects it.
func connected(to string) (int, outcome) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	sa := sockaddr(netip.MustParseAddrPort(to))
	return fd, raw("connect", unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0)
}

// bigSend sends more than any buffer holds with one sendmsg and returns how much that was and its digest.
func bigSend(me *self) any {
	var args struct {
		To   string
		Size int
		Type int
	}
	me.arguments(&args)
	fd, r := connected(args.To)
	if r.Errno != 0 {
		return r
	}
	if args.Type&unix.SOCK_NONBLOCK != 0 {
		if err := unix.SetNonblock(fd, true); err != nil {
			panic(err)
		}
	}
	data := make([]byte, args.Size)
	for i := range data {
		data[i] = byte(i>>16 ^ i>>8 ^ i)
	}
	r = raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(newMessage(nil, data, nil))), 0, 0, 0, 0)
	runtime.KeepAlive(data)
	if r.Errno == 0 {
		sum := sha256.Sum256(data[:r.N])
		r.At = hex.EncodeToString(sum[:])
	}
	unix.Close(fd)
	return r
}

// brokenPipe sends over a connection that the other end has reset, and counts the signals.
func brokenPipe(me *self) any {
	var args struct {
		To    string
		Flags int
	}
	me.arguments(&args)
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGPIPE)
	fd, r := connected(args.To)
	if r.Errno != 0 {
		return []outcome{r}
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		panic(err)
	}
	r = raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(newMessage(nil, []byte("late"), nil))), uintptr(args.Flags), 0, 0, 0)
	count := 0
	if args.Flags&unix.MSG_NOSIGNAL == 0 {
		<-signals // it is there before the call returns, but Go passes it on through a thread of its own
		count++
	}
	return []outcome{r, {N: count + len(signals)}}
}

// become gives up root for a user, in this thread alone.
func become(uid, gid int) {
	for _, r := range []outcome{
		raw("setgroups", unix.SYS_SETGROUPS, 0, 0, 0, 0, 0, 0),
		raw("setresgid", unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid), 0, 0, 0),
		raw("setresuid", unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid), 0, 0, 0),
	} {
		if r.Errno != 0 {
			panic(r.At)
		}
	}
}

// onThread runs f on a thread that has its own root, working directory and umask, and is not used again.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

// netlink asks for addresses by sendto and by sendmsg, sets an interface up as root and as somebody else, and asks what is not
// carried out.
func netlink(me *self) any {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		panic(err)
	}
	kernel := make([]byte, unix.SizeofSockaddrNetlink)
	*(*uint16)(unsafe.Pointer(&kernel[0])) = unix.AF_NETLINK
	request := func(kind, flags uint16, body []byte) []byte {
		b := append(make([]byte, unix.NLMSG_HDRLEN), body...)
		*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{Len: uint32(len(b)), Type: kind, Flags: unix.NLM_F_REQUEST | flags}
		return b
	}
	// answered returns the error in the kernel's answer, if there is one.
	answered := func(r outcome) outcome {
		if r.Errno != 0 {
			return r
		}
		b := make([]byte, 65536)
		n, err := unix.Read(fd, b)
		if err != nil {
			return outcome{-1, err.(unix.Errno), "read"}
		}
		for more := b; err == nil; { // the rest of a long answer
			_, _, err = unix.Recvfrom(fd, more[n:], unix.MSG_DONTWAIT)
		}
		if h := (*unix.NlMsghdr)(unsafe.Pointer(&b[0])); n >= unix.NLMSG_HDRLEN+4 && h.Type == unix.NLMSG_ERROR {
			return result("answer", 0, unix.Errno(-*(*int32)(unsafe.Pointer(&b[unix.NLMSG_HDRLEN]))))
		}
		return r
	}
	sendmsg := func(b []byte) outcome {
		return answered(raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(newMessage(kernel, b, nil))), 0, 0, 0, 0))
	}
	get := request(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	up := make([]byte, unix.SizeofIfInfomsg)
	*(*unix.IfInfomsg)(unsafe.Pointer(&up[0])) = unix.IfInfomsg{Index: 1, Flags: unix.IFF_UP, Change: unix.IFF_UP}
	set := request(unix.RTM_NEWLINK, unix.NLM_F_ACK, up)
	results := []outcome{
		answered(raw("sendto", unix.SYS_SENDTO, uintptr(fd), pointer(get), uintptr(len(get)), 0, pointer(kernel), uintptr(len(kernel)))),
		sendmsg(get),
		sendmsg(request(unix.RTM_GETNSID, 0, make([]byte, 4))),
		sendmsg(set),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock
		become(4242, 4343)
		results = append(results, sendmsg(set))
	}()
	<-done
	return results
}

// ancestor uses sockets that it was given: firstExtra is inherited, another comes over firstExtra+1.
func ancestor(me *self) any {
	var args []attempt
	me.arguments(&args)
	b, oob := make([]byte, 1), make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(firstExtra+1, b, oob, 0)
	if err != nil {
		panic(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		panic(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		panic(err)
	}
	var results []outcome
	for _, fd := range []int{firstExtra, fds[0]} {
		for _, a := range args {
			a.FD = fd
			results = append(results, a.make())
		}
	}
	return results
}

// zeroCopy sends messages with MSG_ZEROCOPY and counts how many the kernel says are done.
func zeroCopy(me *self) any {
	var args loop
	me.arguments(&args)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)
	}
	if err != nil {
		panic(err)
	}
	sa := sockaddr(netip.MustParseAddrPort(args.To))
	if r := raw("connect", unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0); r.Errno != 0 {
		return r
	}
	for i := range args.Rounds {
		data := bytes.Repeat([]byte{byte('a' + i)}, 30000)
		r := raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(newMessage(nil, data, nil))), unix.MSG_ZEROCOPY, 0, 0, 0)
		if r.Errno != 0 || r.N != len(data) {
			return r
		}
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		panic(err)
	}
	done := 0
	for done < args.Rounds {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		if n, err := unix.Poll(poll, 10000); n == 0 && err == nil {
			break
		}
		oob := make([]byte, 200)
		_, n, _, _, err := unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			continue // only a hang-up
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			panic("no notification")
		}
		e := (*unix.SockExtendedErr)(unsafe.Pointer(&messages[0].Data[0]))
		done += int(e.Data-e.Info) + 1
	}
	return outcome{N: done}
}

func init() {
	scenarios["queue"] = sendQueue
	scenarios["zero copy"] = zeroCopy
	scenarios["io_uring"] = func(*self) any {
		params := make([]byte, 256)
		return raw("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, pointer(params), 0, 0, 0, 0)
	}
	scenarios["source routes"] = func(*self) any {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
		if err != nil {
			panic(err)
		}
		value := make([]byte, 8)
		var results []unix.Errno
		for _, option := range [][2]uintptr{
			{unix.SOL_IP, unix.IP_OPTIONS}, {unix.SOL_IPV6, unix.IPV6_RTHDR}, {unix.SOL_IPV6, unix.IPV6_2292RTHDR}, {unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS}, {unix.SOL_IPV6, ipv6FlowLabelManager},
			{unix.SOL_IP, unix.IP_TTL}, {unix.SOL_IPV6, unix.IPV6_TCLASS}, {unix.SOL_TCP, unix.IP_OPTIONS},
		} {
			results = append(results, raw("setsockopt", unix.SYS_SETSOCKOPT, uintptr(fd), option[0], option[1], pointer(value), uintptr(len(value)), 0).Errno)
		}
		return results
	}
}
