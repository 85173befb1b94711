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

// ViewNotifications returns the uses of system calls by which the tables of TCP sockets are read: opens for reading, and openat2, whose
// flags lie in memory.
func ViewNotifications() []seccompnotif.Notification {
	reads := func(flags int) []seccompnotif.Match {
		const others = unix.O_ACCMODE | unix.O_CREAT | unix.O_DIRECTORY | unix.O_PATH
		return []seccompnotif.Match{{Arg: flags, Op: seccompnotif.MaskedEqual, Mask: others, Value: unix.O_RDONLY}}
	}
	return []seccompnotif.Notification{{Syscall: "openat", When: reads(2)}, {Syscall: "open", When: reads(1)}, {Syscall: "openat2"}}
}

// PortDenials returns what would bind TCP ports, or tell of them, past a [PortSpace]: MPTCP sockets (EPROTONOSUPPORT, upon which
// programs make TCP ones), io_uring (ENOSYS), and the netlink sockets with which ss(8) lists sockets (EPROTONOSUPPORT, upon which
// it reads /proc/net).
func PortDenials() []seccompnotif.Denial {
	var denials []seccompnotif.Denial
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		denials = append(denials, seccompnotif.Denial{Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []seccompnotif.Match{equal(0, family), equal(2, unix.IPPROTO_MPTCP)}})
	}
	denials = append(denials, seccompnotif.Denial{
		Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []seccompnotif.Match{equal(0, unix.AF_NETLINK), equal(2, unix.NETLINK_SOCK_DIAG)},
	})
	return append(denials, ringDenials()...)
}
