package netfilter

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// sockDiagByFamily is SOCK_DIAG_BY_FAMILY of <linux/sock_diag.h>.
const sockDiagByFamily = 20

// sendNetlink sends a request over a netlink socket, on a worker with the guest's capabilities.
//
// Egress rules say nothing of netlink, and most requests never get here: sendto with a netlink address is not notified. What
// does is sendmsg, and that cannot be let through, since another socket may have taken the descriptor's place by the time the
// kernel looks. But neither may any request be sent on the guest's behalf: some name processes and descriptors, which the
// kernel would look up among the supervisor's. So only requests known to name neither are.
func (e *Egress) sendNetlink(c *seccompnotif.Call, s *socket, t *transfer) (int, unix.Errno) {
	if !t.onWorker {
		return 0, errLater
	}
	if len(t.message.name) > 0 && !toKernel(t.message.name) {
		return 0, e.refuse(c, s, noDestination, Verdict{}, "netlink messages to other processes are not carried out on the guest's behalf")
	}
	if errno := t.fetch(); errno != 0 {
		return 0, errno
	}
	if !harmlessRequests(s.protocol, t.whole) {
		return 0, e.refuse(c, s, noDestination, Verdict{}, "this netlink request is not carried out on the guest's behalf")
	}
	var n int
	errno, err := e.host.AsGuest(c, false, func() (errno unix.Errno) {
		n, errno = s.send(t.message.name, t.whole, nil, t.progress.flags)
		return errno
	})
	if err != nil {
		return 0, errnoOf(err, unix.EACCES)
	}
	return n, errno
}

// harmlessRequests tells whether every request in a netlink message is one that names neither a process nor a descriptor.
func harmlessRequests(protocol int, data []byte) bool {
	for len(data) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(data))
		if size < unix.NLMSG_HDRLEN || size > len(data) {
			return false
		}
		if !harmlessRequest(protocol, binary.NativeEndian.Uint16(data[4:]), data[unix.NLMSG_HDRLEN:size]) {
			return false
		}
		data = data[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(data)):]
	}
	return true // less than a header is left, which the kernel passes over
}

func harmlessRequest(protocol int, request uint16, body []byte) bool {
	switch protocol {
	case unix.NETLINK_SOCK_DIAG:
		return request == sockDiagByFamily
	case unix.NETLINK_ROUTE:
		switch request {
		case unix.RTM_GETLINK,
			unix.RTM_GETADDR, unix.RTM_NEWADDR, unix.RTM_DELADDR,
			unix.RTM_GETROUTE, unix.RTM_NEWROUTE, unix.RTM_DELROUTE,
			unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH,
			unix.RTM_GETRULE, unix.RTM_NEWRULE, unix.RTM_DELRULE:
			return true
		case unix.RTM_NEWLINK, unix.RTM_SETLINK:
			return harmlessLink(body)
		}
	}
	return false
}

// harmlessLink tells whether a change of an interface has only attributes that name nothing beyond the interface. Among the
// others are IFLA_NET_NS_PID and IFLA_NET_NS_FD, and IFLA_LINKINFO, which can hold those.
func harmlessLink(body []byte) bool {
	if len(body) < unix.SizeofIfInfomsg {
		return false
	}
	attrs := body[unix.SizeofIfInfomsg:]
	for len(attrs) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < unix.SizeofRtAttr || size > len(attrs) {
			return false
		}
		switch binary.NativeEndian.Uint16(attrs[2:]) {
		case unix.IFLA_IFNAME, unix.IFLA_ADDRESS, unix.IFLA_BROADCAST, unix.IFLA_MTU, unix.IFLA_TXQLEN, unix.IFLA_EXT_MASK:
		default:
			return false
		}
		attrs = attrs[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(attrs)):]
	}
	return true
}
