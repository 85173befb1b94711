package netfilter

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// reach is how much of a protocol a policy allows, as far as that decides who enforces it.
type reach uint8

const (
	reachNone   reach = iota // no destination
	reachAll                 // every destination
	reachPorts               // some ports, each at every address
	reachJudged              // anything else: each destination has to be looked at
)

// reachOf returns how much of a protocol the policy allows, and the ports if it is reachPorts. It may answer reachJudged for a
// policy that, looked at more closely, allows less.
func (p Policy) reachOf(protocol Protocol) (reach, Ports) {
	if len(p.layers) == 0 && !p.Unrestricted() && !unnamed.Has(protocol) {
		return reachNone, nil
	}
	all, ports := true, Ports(nil) // what the layers so far allow at every address
	judged := false
	for _, layer := range p.layers {
		any, anywhere, addressed := summarise(layer.rules, protocol)
		switch {
		case !any:
			return reachNone, nil
		case addressed:
			judged = true
			continue
		case anywhere.All():
			continue
		case all:
			all, ports = false, anywhere
		default:
			ports = ports.Intersect(anywhere)
		}
		if len(ports) == 0 {
			return reachNone, nil
		}
	}
	any, anywhere, addressed := summarise(p.deny.rules, protocol)
	switch {
	case !any:
	case anywhere.All():
		return reachNone, nil
	case all || addressed:
		judged = true // "all but a few ports" is no list of ports
	default:
		if ports = ports.subtract(anywhere); len(ports) == 0 {
			return reachNone, nil
		}
	}
	switch {
	case judged:
		return reachJudged, nil
	case all:
		return reachAll, nil
	default:
		return reachPorts, ports
	}
}

// summarise tells of the rules for a protocol whether there are any, which ports they have at every address, and whether
// some of them say more than that about particular addresses.
func summarise(rules []Rule, protocol Protocol) (any bool, anywhere Ports, addressed bool) {
	for _, rule := range rules {
		if !rule.Protocols.Has(protocol) {
			continue
		}
		any = true
		if rule.AnyAddress() {
			anywhere = append(anywhere, rule.portRanges()...)
		}
	}
	anywhere = anywhere.normalise()
	for _, rule := range rules {
		if rule.Protocols.Has(protocol) && !rule.AnyAddress() {
			own := rule.portRanges().normalise()
			addressed = addressed || own.Intersect(anywhere).Len() != own.Len()
		}
	}
	return any, anywhere, addressed
}

func (r Rule) portRanges() Ports {
	if len(r.Ports) == 0 {
		return AnyPort()
	}
	ports := make(Ports, len(r.Ports))
	for i, port := range r.Ports {
		ports[i] = PortRange{port, port}
	}
	return ports
}

// subtract returns the ports of p that are not in q.
func (p Ports) subtract(q Ports) Ports {
	rest := Ports{}
	next := 1 // the first port not in the ranges of q looked at so far
	for _, r := range q {
		if int(r.First) > next {
			rest = append(rest, PortRange{uint16(next), r.First - 1})
		}
		next = int(r.Last) + 1
	}
	if next <= 65535 {
		rest = append(rest, PortRange{uint16(next), 65535})
	}
	return p.Intersect(rest)
}

// NeedsSupervisor tells whether destinations have to be judged one by one, so that [Policy.Notifications] must be notified and
// handled by [Egress]. If it is false, [Policy.Denials] and [Policy.TCPPortsOnly] together enforce the policy and nothing is
// trapped.
func (p Policy) NeedsSupervisor() bool {
	if p.watched {
		return true
	}
	for protocol := range protocolCount {
		reach, _ := p.reachOf(protocol)
		if reach == reachJudged || reach == reachPorts && protocol != TCP {
			return true
		}
	}
	return false
}

// TCPPortsOnly returns the ports that TCP may connect to, ascending, and true, if a list of ports at any address says all that
// the policy says of TCP and nothing else of it needs the supervisor. Landlock enforces that alone: its ruleset handles
// LANDLOCK_ACCESS_NET_CONNECT_TCP and allows the ports returned, which are none if no TCP destination is allowed. It takes
// [Policy.Denials] besides. False means that Landlock has no list to enforce: either the supervisor judges, or TCP is
// unrestricted.
func (p Policy) TCPPortsOnly() ([]uint16, bool) {
	reach, ports := p.reachOf(TCP)
	if p.NeedsSupervisor() || reach == reachAll {
		return nil, false
	}
	return ports.appendTo(make([]uint16, 0, ports.Len())), true
}

// minInetAddress is the length of the shortest address with which connect, sendto or sendmsg reaches an IPv4 or IPv6
// destination, sizeof(struct sockaddr_in). The kernel answers EINVAL to anything shorter, for every protocol. It is a power of
// two, so that "at least" can be asked of the bits of a register.
const minInetAddress = unix.SizeofSockaddrInet4

// longAddress matches where argument arg, an address length, is at least minInetAddress.
func longAddress(arg int) seccompnotif.Match {
	return seccompnotif.Match{Arg: arg, Op: seccompnotif.AnyBit, Mask: math.MaxUint32 &^ (minInetAddress - 1)}
}

// Notifications returns the uses of system calls that [Egress] has to judge, none if the policy does not need the supervisor.
//
// Two uses are left to the kernel on the strength of their registers: an address shorter than any IPv4 or IPv6 address (those
// of netlink sockets, and many of Unix sockets), and sendto without an address, which is send(2). The latter is what keeps the
// data path of connected sockets untrapped. Where sendmsg has its address lies in memory, so it is always notified.
func (p Policy) Notifications() []seccompnotif.Notification {
	if !p.NeedsSupervisor() {
		return nil
	}
	if p.watched {
		// Whoever watches is told of Unix sockets as well.
		return []seccompnotif.Notification{
			{Syscall: "connect"},
			{Syscall: "sendto", When: []seccompnotif.Match{{Arg: 4, Op: seccompnotif.NotEqual, Value: 0, Wide: true}}},
			{Syscall: "sendmsg"},
			{Syscall: "sendmmsg"},
		}
	}
	return []seccompnotif.Notification{
		{Syscall: "connect", When: []seccompnotif.Match{longAddress(2)}},
		{Syscall: "sendto", When: []seccompnotif.Match{{Arg: 4, Op: seccompnotif.NotEqual, Value: 0, Wide: true}, longAddress(5)}},
		{Syscall: "sendmsg"},
		{Syscall: "sendmmsg"},
	}
}

// Notified returns the names of the system calls of [Policy.Notifications].
func (p Policy) Notified() []string {
	var names []string
	for _, n := range p.Notifications() {
		names = append(names, n.Syscall)
	}
	return names
}

// Denials returns what the filter must deny on registers alone for the policy to hold. Without rules it is nothing, unless the policy
// is watched ([Policy.Watched]). Otherwise:
//
//   - Sockets are TCP, UDP, ping, Unix or netlink. UDP and ping sockets are refused (EACCES) where no rule allows any of
//     their destinations; raw sockets always (EPERM), other types, protocols such as MPTCP and SCTP, and families such
//     as AF_PACKET and AF_VSOCK as if the kernel lacked them.
//   - io_uring is refused (ENOSYS), since it makes sockets and connects them past any filter.
//   - Where Landlock alone restricts TCP, so is TCP fast open by a send (EOPNOTSUPP, as when it is switched off), which
//     connects without Landlock's being asked.
//   - Where addresses are judged, the socket options for source routes are refused (EPERM), which send packets by way of
//     addresses that were not judged, and so is all of SCTP's (ENOPROTOOPT), one of which connects.
//
// Sockets made elsewhere and received are not stopped by the first point. [Egress] judges or refuses them; where nothing is
// trapped, Landlock judges their TCP connects, and others are not covered.
func (p Policy) Denials() []seccompnotif.Denial {
	if p.Unrestricted() && !p.watched {
		return nil
	}
	udp, _ := p.reachOf(UDP)
	icmp, _ := p.reachOf(ICMP)
	denials := socketDenials(udp != reachNone, icmp != reachNone)
	denials = append(denials, ringDenials()...)
	if _, ok := p.TCPPortsOnly(); ok {
		denials = append(denials, fastOpenDenials()...)
	}
	if p.NeedsSupervisor() {
		denials = append(denials, sourceRouteDenials()...)
	}
	return denials
}

// ringDenials returns the system calls of io_uring.
func ringDenials() (denials []seccompnotif.Denial) {
	for _, name := range []string{"io_uring_setup", "io_uring_enter", "io_uring_register"} {
		denials = append(denials, seccompnotif.Denial{Syscall: name, Errno: unix.ENOSYS})
	}
	return denials
}

// equal and unequal compare an int argument.
func equal(arg int, value uint64) seccompnotif.Match {
	return seccompnotif.Match{Arg: arg, Op: seccompnotif.Equal, Value: value}
}

func unequal(arg int, value uint64) seccompnotif.Match {
	return seccompnotif.Match{Arg: arg, Op: seccompnotif.NotEqual, Value: value}
}

// socketTypeMask is SOCK_TYPE_MASK of <linux/net.h>: the bits of socket's second argument that are the type.
const socketTypeMask = 0xf

// socketDenials returns what socket(family, type, protocol) must not make.
func socketDenials(udp, icmp bool) []seccompnotif.Denial {
	const family, kind, protocol = 0, 1, 2
	typeIs := func(t uint64) seccompnotif.Match {
		return seccompnotif.Match{Arg: kind, Op: seccompnotif.MaskedEqual, Mask: socketTypeMask, Value: t}
	}
	var denials []seccompnotif.Denial
	deny := func(errno unix.Errno, when ...seccompnotif.Match) {
		denials = append(denials, seccompnotif.Denial{Syscall: "socket", Errno: errno, When: when})
	}
	deny(unix.EAFNOSUPPORT, unequal(family, unix.AF_UNIX), unequal(family, unix.AF_NETLINK), unequal(family, unix.AF_INET), unequal(family, unix.AF_INET6))
	for _, f := range []uint64{unix.AF_INET, unix.AF_INET6} {
		inet := func(errno unix.Errno, when ...seccompnotif.Match) {
			deny(errno, slices.Insert(when, 0, equal(family, f))...)
		}
		inet(unix.EPERM, typeIs(unix.SOCK_RAW))
		// The types beyond SOCK_STREAM (1), SOCK_DGRAM (2) and SOCK_RAW (3): SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET.
		inet(unix.ESOCKTNOSUPPORT, seccompnotif.Match{Arg: kind, Op: seccompnotif.AnyBit, Mask: socketTypeMask &^ 3})
		inet(unix.EPROTONOSUPPORT, typeIs(unix.SOCK_STREAM), unequal(protocol, 0), unequal(protocol, unix.IPPROTO_TCP))
		inet(unix.EPROTONOSUPPORT, typeIs(unix.SOCK_DGRAM), unequal(protocol, 0), unequal(protocol, unix.IPPROTO_UDP),
			unequal(protocol, unix.IPPROTO_ICMP), unequal(protocol, unix.IPPROTO_ICMPV6))
		if !udp {
			inet(unix.EACCES, typeIs(unix.SOCK_DGRAM), equal(protocol, 0))
			inet(unix.EACCES, typeIs(unix.SOCK_DGRAM), equal(protocol, unix.IPPROTO_UDP))
		}
		if !icmp {
			inet(unix.EACCES, typeIs(unix.SOCK_DGRAM), equal(protocol, unix.IPPROTO_ICMP))
			inet(unix.EACCES, typeIs(unix.SOCK_DGRAM), equal(protocol, unix.IPPROTO_ICMPV6))
		}
	}
	return denials
}

// fastOpenDenials returns the sends that would connect a TCP socket.
func fastOpenDenials() []seccompnotif.Denial {
	var denials []seccompnotif.Denial
	for _, call := range []struct {
		name  string
		flags int // the argument that has the flags
	}{{"sendto", 3}, {"sendmsg", 2}, {"sendmmsg", 3}} {
		denials = append(denials, seccompnotif.Denial{
			Syscall: call.name, Errno: unix.EOPNOTSUPP,
			When: []seccompnotif.Match{{Arg: call.flags, Op: seccompnotif.AnyBit, Mask: unix.MSG_FASTOPEN}},
		})
	}
	return denials
}

// sourceRouteDenials returns the socket options that make packets take a way of the guest's choice: the first hop, whose
// address nobody judged, is then what stands in the packet as its destination.
func sourceRouteDenials() []seccompnotif.Denial {
	const level, name = 1, 2
	var denials []seccompnotif.Denial
	for _, option := range []struct{ level, name uint64 }{
		{unix.SOL_IP, unix.IP_OPTIONS},
		{unix.SOL_IPV6, unix.IPV6_RTHDR},
		{unix.SOL_IPV6, unix.IPV6_2292RTHDR},
		{unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS},
		{unix.SOL_IPV6, ipv6FlowLabelManager}, // a flow label may have a route in it
	} {
		denials = append(denials, seccompnotif.Denial{
			Syscall: "setsockopt", Errno: unix.EPERM,
			When: []seccompnotif.Match{equal(level, option.level), equal(name, option.name)},
		})
	}
	for _, call := range []string{"setsockopt", "getsockopt"} { // SCTP_SOCKOPT_CONNECTX, and SCTP_SOCKOPT_CONNECTX3
		denials = append(denials, seccompnotif.Denial{Syscall: call, Errno: unix.ENOPROTOOPT, When: []seccompnotif.Match{equal(level, solSCTP)}})
	}
	return denials
}
