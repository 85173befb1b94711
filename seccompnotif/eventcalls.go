package seccompnotif

import (
	"slices"

	"golang.org/x/sys/unix"
)

// EventCall is a system call that makes an [Event].
type EventCall struct {
	Name     string
	Category Category
	Held     bool
	// OnBehalf says that what matters about the call lies in memory, so that only a handler which makes the call on the guest's
	// behalf can ask about it. A [Gate] asks about all others by itself.
	OnBehalf bool
	// When says which uses of the call make an event, judged by registers alone; all, if it is empty.
	When []Match
}

// Calls come in families: what one of them does, the others do as well, so they are judged alike.
var eventCalls = [...]EventCall{
	{Name: "open", Category: File, Held: true},
	{Name: "creat", Category: File, Held: true},
	{Name: "openat", Category: File, Held: true},
	{Name: "openat2", Category: File, Held: true},

	{Name: "connect", Category: Network, Held: true, OnBehalf: true},
	{Name: "sendto", Category: Network, Held: true, OnBehalf: true, When: []Match{{Arg: 4, Op: NotEqual, Value: 0, Wide: true}}},
	{Name: "sendmsg", Category: Network, Held: true, OnBehalf: true},
	{Name: "sendmmsg", Category: Network, Held: true, OnBehalf: true},
	{Name: "bind", Category: Network, Held: true, OnBehalf: true},
	{Name: "socket", Category: Network},
	{Name: "listen", Category: Network},

	{Name: "execve", Category: Proc, Held: true},
	{Name: "execveat", Category: Proc, Held: true},
	{Name: "fork", Category: Proc},
	{Name: "vfork", Category: Proc},
	// Threads are no processes. clone3, whose flags lie in memory, is for the overlay to refuse: libc then calls clone.
	{Name: "clone", Category: Proc, When: []Match{{Arg: 0, Op: MaskedEqual, Mask: unix.CLONE_THREAD, Value: 0}}},

	// Memory of files is not the guest's own.
	{Name: "mmap", Category: Memory, When: []Match{{Arg: 3, Op: AnyBit, Mask: unix.MAP_ANONYMOUS}}},
	{Name: "mremap", Category: Memory},
}

// EventCalls returns every system call that can make an event.
func EventCalls() []EventCall { return slices.Clone(eventCalls[:]) }

// FindEventCall returns the call of that name.
func FindEventCall(name string) (EventCall, bool) {
	for _, call := range eventCalls {
		if call.Name == name {
			return call, true
		}
	}
	return EventCall{}, false
}

// registers returns what a call's registers say for its event. The kernel never reads them again.
func registers(name string, c *Call) Details {
	switch name {
	case "open":
		return Details{Flags: uint32(c.Arg(1))}
	case "creat":
		return Details{Flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC}
	case "openat":
		return Details{Flags: uint32(c.Arg(2))}
	case "clone":
		return Details{Flags: uint32(c.Arg(0))}
	case "mmap":
		return Details{Size: c.Arg(1)}
	case "mremap":
		return Details{Size: c.Arg(2)}
	case "socket":
		return Details{Protocol: socketName(uint32(c.Arg(0)), uint32(c.Arg(1)), uint32(c.Arg(2)))}
	}
	return Details{}
}

// socketTypes is SOCK_TYPE_MASK of <linux/net.h>: the bits of socket's second argument that are the type.
const socketTypes = 0xf

// socketName names what a socket would speak.
func socketName(family, kind, protocol uint32) string {
	const unspecified = 0
	kind &= socketTypes
	switch family {
	case unix.AF_UNIX:
		return "unix"
	case unix.AF_NETLINK:
		return "netlink"
	case unix.AF_INET, unix.AF_INET6:
	default:
		return "other"
	}
	switch {
	case kind == unix.SOCK_STREAM && (protocol == unspecified || protocol == unix.IPPROTO_TCP):
		return "tcp"
	case kind == unix.SOCK_DGRAM && (protocol == unspecified || protocol == unix.IPPROTO_UDP):
		return "udp"
	case kind == unix.SOCK_DGRAM && (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6):
		return "icmp"
	case kind == unix.SOCK_RAW:
		return "raw"
	}
	return "other"
}
