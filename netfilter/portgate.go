package netfilter

import (
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// PortNotifications returns the uses of system calls that a [PortSpace] has to be asked about: what binds a TCP socket, what names
// the port of one, and what connects one, which is the business of [Egress].
func PortNotifications() []seccompnotif.Notification {
	fastOpen := func(flags int) []seccompnotif.Match {
		return []seccompnotif.Match{{Arg: flags, Op: seccompnotif.AnyBit, Mask: unix.MSG_FASTOPEN}}
	}
	return []seccompnotif.Notification{
		{Syscall: "bind", When: []seccompnotif.Match{longAddress(2)}},
		{Syscall: "listen"},
		{Syscall: "getsockname"},
		{Syscall: "getpeername"},
		{Syscall: "connect", When: []seccompnotif.Match{longAddress(2)}},
		{Syscall: "sendto", When: fastOpen(3)},
		{Syscall: "sendmsg", When: fastOpen(2)},
		{Syscall: "sendmmsg", When: fastOpen(3)},
	}
}

// PortDenials returns what would bind TCP ports past a [PortSpace]: MPTCP sockets (EPROTONOSUPPORT, upon which programs make TCP
// ones) and io_uring (ENOSYS).
func PortDenials() []seccompnotif.Denial {
	var denials []seccompnotif.Denial
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		denials = append(denials, seccompnotif.Denial{Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []seccompnotif.Match{equal(0, family), equal(2, unix.IPPROTO_MPTCP)}})
	}
	return append(denials, ringDenials()...)
}
