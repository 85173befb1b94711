package netfilter

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// TestJudged makes every kind of call towards allowed and denied servers and looks at who was reached.
func TestJudged(t *testing.T) {
	n := newNetwork(t)
	type twin struct{ allowed, denied *server }
	twins := map[string]twin{}
	for name, addrs := range map[string][2]string{"4": {"10.1.0.1:0", "10.1.0.2:0"}, "6": {"[fd00:1::1]:0", "[fd00:1::2]:0"}} {
		for _, kind := range []string{"tcp", "udp"} {
			twins[kind+name] = twin{n.listen(t, kind, addrs[0]), n.listen(t, kind, addrs[1])}
		}
	}
	p := policy(t, "10.1.0.0/16 fd00:1::/64", "10.1.0.2 fd00:1::2")

	mapped := func(s *server) string {
		return fmt.Sprintf("[::ffff:%s]:%d", s.addr.Addr(), s.addr.Port())
	}
	plain := func(s *server) string { return s.addr.String() }
	unspecified := unix.AF_UNSPEC
	for _, row := range []struct {
		name  string
		twins string
		to    func(*server) string
		attempt
		errno unix.Errno // of the allowed attempt
		lost  bool       // the allowed attempt reaches nobody either
	}{
		{"connect", "tcp4", plain, attempt{Call: "connect", Type: unix.SOCK_STREAM}, 0, false},
		{"connect IPv6", "tcp6", plain, attempt{Call: "connect", Type: unix.SOCK_STREAM}, 0, false},
		{"connect mapped", "tcp4", mapped, attempt{Call: "connect", Type: unix.SOCK_STREAM, Family: unix.AF_INET6}, 0, false},
		{"connect nonblocking", "tcp4", plain, attempt{Call: "connect", Type: unix.SOCK_STREAM | unix.SOCK_NONBLOCK}, 0, false},
		{"connect nonblocking IPv6", "tcp6", plain, attempt{Call: "connect", Type: unix.SOCK_STREAM | unix.SOCK_NONBLOCK}, 0, false},
		{"connect UDP", "udp4", plain, attempt{Call: "connect", Type: unix.SOCK_DGRAM}, 0, false},
		{"connect UDP IPv6", "udp6", plain, attempt{Call: "connect", Type: unix.SOCK_DGRAM}, 0, false},
		{"connect UDP, IPv4 on an IPv6 socket", "udp4", plain, attempt{Call: "connect", Type: unix.SOCK_DGRAM, Family: unix.AF_INET6}, 0, false},
		{"connect UDP nonblocking", "udp4", plain, attempt{Call: "connect", Type: unix.SOCK_DGRAM | unix.SOCK_NONBLOCK}, 0, false},
		{"sendto", "udp4", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM}, 0, false},
		{"sendto IPv6", "udp6", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM}, 0, false},
		{"sendto mapped", "udp4", mapped, attempt{Call: "sendto", Type: unix.SOCK_DGRAM, Family: unix.AF_INET6}, 0, false},
		{"sendto, IPv4 on an IPv6 socket", "udp4", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM, Family: unix.AF_INET6}, 0, false},
		{"sendto without family", "udp4", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM, As: &unspecified}, 0, false},
		{"sendto nonblocking", "udp4", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, Flags: unix.MSG_DONTWAIT}, 0, false},
		{"sendto fast open", "tcp4", plain, attempt{Call: "sendto", Type: unix.SOCK_STREAM, Flags: unix.MSG_FASTOPEN}, 0, false},
		{"sendmsg", "udp4", plain, attempt{Call: "sendmsg", Type: unix.SOCK_DGRAM}, 0, false},
		{"sendmsg IPv6", "udp6", plain, attempt{Call: "sendmsg", Type: unix.SOCK_DGRAM}, 0, false},
		{"sendmsg mapped", "udp4", mapped, attempt{Call: "sendmsg", Type: unix.SOCK_DGRAM, Family: unix.AF_INET6}, 0, false},
		{"sendmsg with packet information", "udp4", plain, attempt{Call: "sendmsg", Type: unix.SOCK_DGRAM, Control: appendControl(nil, unix.SOL_IP, unix.IP_PKTINFO, make([]byte, unix.SizeofInet4Pktinfo))}, 0, false},
		{"sendmsg fast open", "tcp6", plain, attempt{Call: "sendmsg", Type: unix.SOCK_STREAM, Flags: unix.MSG_FASTOPEN}, 0, false},
		{"sendmmsg", "udp4", plain, attempt{Call: "sendmmsg", Type: unix.SOCK_DGRAM}, 0, false},
		{"sendmmsg IPv6", "udp6", plain, attempt{Call: "sendmmsg", Type: unix.SOCK_DGRAM}, 0, false},
		{"sendmmsg fast open", "tcp4", plain, attempt{Call: "sendmmsg", Type: unix.SOCK_STREAM, Flags: unix.MSG_FASTOPEN}, 0, false},
		// An address too short for any destination is left to the kernel, which must not go there.
		{"connect, short address", "tcp4", plain, attempt{Call: "connect", Type: unix.SOCK_STREAM, Cut: 15}, unix.EINVAL, true},
		{"connect UDP, short address", "udp4", plain, attempt{Call: "connect", Type: unix.SOCK_DGRAM, Cut: 15}, unix.EINVAL, true},
		{"sendto, short address", "udp4", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM, Cut: 15}, unix.EINVAL, true},
		{"sendto, short address, mapped socket", "udp4", plain, attempt{Call: "sendto", Type: unix.SOCK_DGRAM, Family: unix.AF_INET6, Cut: 15}, unix.EINVAL, true},
		{"fast open, short address", "tcp4", plain, attempt{Call: "sendto", Type: unix.SOCK_STREAM, Flags: unix.MSG_FASTOPEN, Cut: 15}, unix.EINVAL, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			pair := twins[row.twins]
			good, bad := row.attempt, row.attempt
			good.To, bad.To = row.to(pair.allowed), row.to(pair.denied)
			good.Data, bad.Data = "welcome", "contraband"
			results, g := run[[]outcome](t, n, p, "attempts", guestOptions{args: []attempt{bad, good}})
			if denied := results[0].Errno; denied != deniedErrno && (!row.lost || denied != row.errno) {
				t.Errorf("the denied attempt ends with %v", denied)
			}
			want := len(good.Data)
			if row.Call == "sendmmsg" {
				want = 1000*want + 1
			}
			if row.errno != 0 {
				want = -1
			}
			if results[1].Errno != row.errno || results[1].N != want {
				t.Errorf("the allowed attempt ends with %+v", results[1])
			}
			if !row.lost {
				if got := pair.allowed.next(); got != good.Data {
					t.Errorf("the allowed server got %q", got)
				}
				log := g.denied()
				if len(log) != 1 || log[0].Addr.Unmap() != pair.denied.addr.Addr() || log[0].Port != pair.denied.addr.Port() ||
					log[0].Protocol != row.twins[:3] || log[0].Syscall != row.Call || log[0].PID != g.cmd.Process.Pid ||
					!strings.Contains(log[0].String(), "denied by rule") {
					t.Errorf("denials: %v", log)
				}
			}
			pair.allowed.untouched()
			pair.denied.untouched()
		})
	}
}

// TestRace has a guest change an address while it is judged. The forbidden server must never hear of it, which is worth
// something only because it does when the call is let through after the same judgement.
func TestRace(t *testing.T) {
	n := newNetwork(t)
	allowed, denied := n.listen(t, "udp", "10.1.0.1:0"), n.listen(t, "udp", fmt.Sprintf("10.1.0.2:%d", 0))
	// The guest swaps addresses, not ports.
	for denied.addr.Port() != allowed.addr.Port() {
		denied = n.listen(t, "udp", fmt.Sprintf("10.1.0.2:%d", allowed.addr.Port()))
	}
	if err := allowed.udp.SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	p := policy(t, "10.1.0.1", "")
	const rounds = 3000
	args := map[string]any{"Allowed": allowed.addr.String(), "Denied": denied.addr.String(), "Rounds": rounds}

	// On a busy machine the two threads may hardly run at the same time.
	deadline := time.Now().Add(time.Minute)
	for {
		got, _ := run[[]int](t, n, p, "race", guestOptions{args: args, quiet: true})
		if got[0] > 0 && got[0] < rounds {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d calls were allowed of %d, with %d swaps: there was no race", got[0], rounds, got[1])
			break
		}
	}
	denied.untouched()

	let := seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action {
		m := getScratch()
		defer m.put()
		sa, errno := m.readName(c, c.Arg(4), int(c.Arg(5)))
		to, _ := inet4(sa)
		if errno != 0 || !p.Allows(UDP, to.Addr(), to.Port()) {
			return seccompnotif.Errno(deniedErrno)
		}
		return seccompnotif.Continue() // what must never be done: this is the control
	})
	for reached := false; !reached; reached = denied.heard() {
		run[[]int](t, n, p, "race", guestOptions{args: args, handlers: map[int]seccompnotif.Handler{unix.SYS_SENDTO: let}})
		if time.Now().After(deadline.Add(time.Minute)) {
			t.Fatal("the control did not reach the forbidden server, so the test proves nothing")
		}
	}
}

func TestSendmmsgPartial(t *testing.T) {
	n := newNetwork(t)
	allowed, denied := n.listen(t, "udp", "10.1.0.1:0"), n.listen(t, "udp", "10.1.0.2:0")
	got, g := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "partial sendmmsg",
		guestOptions{args: map[string]any{"Allowed": allowed.addr.String(), "Denied": denied.addr.String()}})
	for i, want := range []outcome{{3*1000 + 1, 0, ""}, {-1, deniedErrno, "sendmmsg"}, {(3+5)*1000 + 2, 0, ""}} {
		if got[i] != want {
			t.Errorf("call %d: %+v, want %+v", i, got[i], want)
		}
	}
	for _, want := range []string{"one", "six", "seven"} {
		if got := allowed.next(); got != want {
			t.Errorf("the server got %q, not %q", got, want)
		}
	}
	allowed.untouched()
	denied.untouched()
	if len(g.denied()) != 2 {
		t.Errorf("denials: %v", g.denied())
	}
}

// TestUnspecified checks that 0.0.0.0 and ::, which the kernel takes for the host itself, are judged as what they become.
func TestUnspecified(t *testing.T) {
	n := newNetwork(t)
	for _, row := range []struct{ name, kind, server, to, bind, denied string }{
		{"IPv4", "tcp", "127.0.0.1:0", "0.0.0.0", "", "127.0.0.0/8"},
		{"IPv4 UDP", "udp", "127.0.0.1:0", "0.0.0.0", "", "127.0.0.0/8"},
		{"IPv4, bound", "tcp", "10.1.0.2:0", "0.0.0.0", "10.1.0.2:0", "10.1.0.2"},
		{"IPv4 UDP, bound", "udp", "10.1.0.2:0", "0.0.0.0", "10.1.0.2:0", "10.1.0.2"},
		{"IPv6", "tcp", "[::1]:0", "::", "", "::1"},
		{"IPv6 UDP, bound", "udp", "[::1]:0", "::", "[fd00:1::2]:0", "::1"},
		{"mapped", "tcp", "127.0.0.1:0", "::ffff:0.0.0.0", "", "127.0.0.0/8"},
		{"IPv6 on a socket bound to a mapped address", "udp", "127.0.0.1:0", "::", "[::ffff:10.1.0.2]:0", "127.0.0.0/8"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := n.listen(t, row.kind, row.server)
			calls := []string{"connect"}
			kind := unix.SOCK_STREAM
			if row.kind == "udp" {
				kind = unix.SOCK_DGRAM
				calls = []string{"connect", "sendto", "sendmsg"}
			}
			var list []attempt
			for _, call := range calls {
				list = append(list, attempt{Call: call, Type: kind, Bind: row.bind, Data: "self",
					To: netip.AddrPortFrom(netip.MustParseAddr(row.to), server.addr.Port()).String()})
			}
			results, _ := run[[]outcome](t, n, policy(t, "-", row.denied), "attempts", guestOptions{args: list})
			for i, r := range results {
				if r.Errno != deniedErrno {
					t.Errorf("%s: denied attempt: %+v", calls[i], r)
				}
			}
			server.untouched()
			results, _ = run[[]outcome](t, n, policy(t, row.denied, ""), "attempts", guestOptions{args: list})
			for i, r := range results {
				if r.Errno != 0 {
					t.Errorf("%s: allowed attempt: %+v", calls[i], r)
				} else if got := server.next(); got != "self" {
					t.Errorf("%s: %q", calls[i], got)
				}
			}
			server.untouched()
		})
	}
}

func TestPing(t *testing.T) {
	n := newNetwork(t)
	echo := "\x08\x00\x00\x00\x00\x01\x00\x01ping"
	ping := func(call, to string) attempt {
		return attempt{Call: call, Type: unix.SOCK_DGRAM, Protocol: unix.IPPROTO_ICMP, To: to + ":0", Data: echo}
	}
	got, _ := run[[]outcome](t, n, policy(t, "icmp://10.1.0.1 10.1.0.2", ""), "attempts", guestOptions{args: []attempt{
		ping("sendto", "10.1.0.1"), ping("connect", "10.1.0.1"), ping("sendmsg", "10.1.0.1"), ping("sendto", "10.1.0.2"), ping("connect", "10.1.0.2"),
	}})
	for i, r := range got {
		if want := map[bool]unix.Errno{true: 0, false: deniedErrno}[i < 3]; r.Errno != want {
			t.Errorf("attempt %d: %+v", i, r)
		}
	}
}

// TestSocketGate tries to make every kind of socket.
func TestSocketGate(t *testing.T) {
	n := newNetwork(t)
	make := func(family, kind, protocol int) attempt {
		return attempt{Call: "connect", Family: family, Type: kind, Protocol: protocol, To: "10.1.0.1:9"}
	}
	const otherTypeBits = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	for _, row := range []struct {
		name    string
		attempt attempt
		tcp     unix.Errno // socket's answer under tcp://*:80, which traps nothing
		all     unix.Errno // under 10.0.0.0/8 icmp://*
	}{
		{"TCP", make(unix.AF_INET, unix.SOCK_STREAM, 0), 0, 0},
		{"TCP named", make(unix.AF_INET6, unix.SOCK_STREAM|otherTypeBits, unix.IPPROTO_TCP), 0, 0},
		{"UDP", make(unix.AF_INET, unix.SOCK_DGRAM, 0), unix.EACCES, 0},
		{"UDP named", make(unix.AF_INET6, unix.SOCK_DGRAM|otherTypeBits, unix.IPPROTO_UDP), unix.EACCES, 0},
		{"ping", make(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), unix.EACCES, 0},
		{"ping IPv6", make(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6), unix.EACCES, 0},
		{"raw", make(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), unix.EPERM, unix.EPERM},
		{"raw IPv6", make(unix.AF_INET6, unix.SOCK_RAW|otherTypeBits, unix.IPPROTO_RAW), unix.EPERM, unix.EPERM},
		{"MPTCP", make(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), unix.EPROTONOSUPPORT, unix.EPROTONOSUPPORT},
		{"MPTCP IPv6", make(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), unix.EPROTONOSUPPORT, unix.EPROTONOSUPPORT},
		{"SCTP", make(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP), unix.EPROTONOSUPPORT, unix.EPROTONOSUPPORT},
		{"SCTP packets", make(unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP), unix.ESOCKTNOSUPPORT, unix.ESOCKTNOSUPPORT},
		{"UDP-Lite", make(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE), unix.EPROTONOSUPPORT, unix.EPROTONOSUPPORT},
		{"old packet socket", make(unix.AF_INET, unix.SOCK_PACKET, 0), unix.ESOCKTNOSUPPORT, unix.ESOCKTNOSUPPORT},
		{"packet", make(unix.AF_PACKET, unix.SOCK_RAW, 0), unix.EAFNOSUPPORT, unix.EAFNOSUPPORT},
		{"vsock", make(unix.AF_VSOCK, unix.SOCK_STREAM, 0), unix.EAFNOSUPPORT, unix.EAFNOSUPPORT},
		{"netlink", make(unix.AF_NETLINK, unix.SOCK_RAW, 0), 0, 0},
		{"unix", make(unix.AF_UNIX, unix.SOCK_STREAM, 0), 0, 0},
		{"unix packets", make(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0), 0, 0},
	} {
		for rules, want := range map[string]unix.Errno{"tcp://*:80": row.tcp, "10.0.0.0/8 icmp://*": row.all} {
			results, _ := run[[]outcome](t, n, policy(t, rules, ""), "attempts", guestOptions{args: []attempt{row.attempt}})
			got := unix.Errno(0)
			if results[0].At == "socket" {
				got = results[0].Errno
			}
			if got != want {
				t.Errorf("%s under %s: socket answers %v, want %v", row.name, rules, got, want)
			}
		}
	}
}

// TestFastOpenGate: with Landlock alone nothing looks at where a fast open goes, so it is refused.
func TestFastOpenGate(t *testing.T) {
	n := newNetwork(t)
	server := n.listen(t, "tcp", "10.1.0.1:0")
	var list []attempt
	for _, call := range []string{"sendto", "sendmsg", "sendmmsg"} {
		list = append(list, attempt{Call: call, Type: unix.SOCK_STREAM, To: server.addr.String(), Flags: unix.MSG_FASTOPEN, Data: "fast"})
	}
	got, _ := run[[]outcome](t, n, policy(t, "tcp://*:80", ""), "attempts", guestOptions{args: list})
	for i, r := range got {
		if r.Errno != unix.EOPNOTSUPP {
			t.Errorf("%s: %+v", list[i].Call, r)
		}
	}
	server.untouched()
	if got, _ = run[[]outcome](t, n, policy(t, "tcp://*", ""), "attempts", guestOptions{args: list[:1]}); got[0].Errno != 0 || server.next() != "fast" {
		t.Errorf("where TCP is not restricted: %+v", got)
	}
}

// TestGivenSockets judges sockets that the guest did not make, among them kinds that it could not.
func TestGivenSockets(t *testing.T) {
	n := newNetwork(t)
	allowed, denied := n.listen(t, "udp", "10.1.0.1:0"), n.listen(t, "udp", "10.1.0.2:0")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	give := func(kind, protocol int) *os.File {
		var fd int
		n.do(t, func() (err error) {
			fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, protocol)
			return err
		})
		return os.NewFile(uintptr(fd), "given")
	}
	hand := func(f *os.File) {
		if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	list := []attempt{
		{Call: "sendto", To: denied.addr.String(), Data: "contraband"},
		{Call: "sendmsg", To: denied.addr.String(), Data: "contraband"},
		{Call: "connect", To: denied.addr.String(), Data: "contraband"},
		{Call: "sendto", To: allowed.addr.String(), Data: "welcome"},
	}
	// Under tcp:// rules alone the guest can make no UDP socket, and none that it is given goes anywhere.
	for rules, want := range map[string]unix.Errno{"10.1.0.1": 0, "tcp://10.1.0.1": deniedErrno} {
		inherited := give(unix.SOCK_DGRAM, 0)
		hand(give(unix.SOCK_DGRAM, 0))
		got, _ := run[[]outcome](t, n, policy(t, rules, ""), "ancestor", guestOptions{args: list, extra: []*os.File{inherited, theirs}})
		inherited.Close()
		for i, r := range got {
			if i%4 != 3 && r.Errno != deniedErrno || i%4 == 3 && r.Errno != want {
				t.Errorf("%s: attempt %d: %+v", rules, i, r)
			}
		}
		if want == 0 {
			for range 2 {
				if got := allowed.next(); got != "welcome" {
					t.Errorf("the server got %q", got)
				}
			}
		}
		allowed.untouched()
		denied.untouched()
	}
	// A raw socket goes nowhere at all.
	inherited := give(unix.SOCK_RAW, unix.IPPROTO_UDP)
	defer inherited.Close()
	hand(give(unix.SOCK_STREAM, unix.IPPROTO_MPTCP))
	got, g := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "ancestor", guestOptions{args: list, extra: []*os.File{inherited, theirs}})
	for i, r := range got {
		if r.Errno != deniedErrno {
			t.Errorf("raw and MPTCP: attempt %d: %+v", i, r)
		}
	}
	if log := g.denied(); log[0].Protocol != "raw" || log[4].Protocol != "mptcp" {
		t.Errorf("denials: %v", log)
	}
}

func TestSourceRoutes(t *testing.T) {
	n := newNetwork(t)
	server := n.listen(t, "udp", "10.1.0.1:0")
	const looseSourceRoute = 131 // IPOPT_LSRR of <linux/ip.h>
	option := []byte{looseSourceRoute, 7, 4, 10, 1, 0, 2, 0}
	list := []attempt{{Call: "sendmsg", Type: unix.SOCK_DGRAM, To: server.addr.String(), Data: "roundabout", Control: appendControl(nil, unix.SOL_IP, unix.IP_RETOPTS, option)}}
	got, _ := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "attempts", guestOptions{args: list})
	if got[0].Errno != unix.EPERM {
		t.Errorf("%+v", got)
	}
	server.untouched()
	options, _ := run[[]unix.Errno](t, n, policy(t, "10.1.0.1", ""), "source routes", guestOptions{})
	for i, errno := range options {
		if (errno == unix.EPERM) != (i < 5) {
			t.Errorf("option %d: %v", i, errno)
		}
	}
}

func TestIOURing(t *testing.T) {
	n := newNetwork(t)
	for _, rules := range []string{"10.1.0.1", "tcp://*:80"} {
		if got, _ := run[outcome](t, n, policy(t, rules, ""), "io_uring", guestOptions{}); got.Errno != unix.ENOSYS {
			t.Errorf("%s: %+v", rules, got)
		}
	}
}

func TestNetlink(t *testing.T) {
	n := newNetwork(t)
	got, g := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "netlink", guestOptions{})
	for i, row := range []struct {
		name string
		want unix.Errno
	}{
		{"question by sendto", 0},
		{"question by sendmsg", 0},
		{"question about processes and descriptors", deniedErrno},
		{"change by root", 0},
		{"change by somebody else", unix.EPERM}, // though root made the socket, and the supervisor sends
	} {
		if got[i].Errno != row.want {
			t.Errorf("%s: %+v, want %v", row.name, got[i], row.want)
		}
	}
	if log := g.denied(); len(log) != 1 || log[0].Protocol != "netlink" {
		t.Errorf("denials: %v", log)
	}
}
