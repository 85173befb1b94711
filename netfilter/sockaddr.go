package netfilter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxSockaddr is the longest address the kernel copies, sizeof(struct __kernel_sockaddr_storage) of <linux/socket.h>.
const maxSockaddr = 128

// Offsets in struct sockaddr_in, sockaddr_in6, sockaddr_un and sockaddr_nl, see ip(7), ipv6(7), unix(7), netlink(7).
const (
	familySize     = 2
	portOffset     = 2
	inet4Offset    = 4
	inet6Offset    = 8
	inet6MinLength = 24 // SIN6_LEN_RFC2133 of <net/ipv6.h>: the scope id may be missing
	netlinkPID     = 4
	netlinkGroups  = 8
)

// family returns an address's family, and false if the address is too short to have one.
func family(sa []byte) (uint16, bool) {
	if len(sa) < familySize {
		return 0, false
	}
	return binary.NativeEndian.Uint16(sa), true
}

// inet4 reads a struct sockaddr_in, whatever its family says.
func inet4(sa []byte) (netip.AddrPort, bool) {
	if len(sa) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, false
	}
	addr := netip.AddrFrom4([4]byte(sa[inet4Offset : inet4Offset+4]))
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(sa[portOffset:])), true
}

// inet6 reads a struct sockaddr_in6, whatever its family says. The scope id is left where it is.
func inet6(sa []byte) (netip.AddrPort, bool) {
	if len(sa) < inet6MinLength {
		return netip.AddrPort{}, false
	}
	addr := netip.AddrFrom16([16]byte(sa[inet6Offset : inet6Offset+16]))
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(sa[portOffset:])), true
}

// inetAddress reads an address by its family, as any socket that takes it for an IPv4 or IPv6 address would. False means that
// it is of another family, or too short.
func inetAddress(sa []byte) (netip.AddrPort, bool) {
	switch fam, _ := family(sa); fam {
	case unix.AF_INET:
		return inet4(sa)
	case unix.AF_INET6:
		return inet6(sa)
	default:
		return netip.AddrPort{}, false
	}
}

// setAddr overwrites the address, but not the port, of a struct sockaddr_in or sockaddr_in6 that inet4 or inet6 has read.
func setAddr(sa []byte, addr netip.Addr) {
	if addr.Is4() {
		a := addr.As4()
		copy(sa[inet4Offset:], a[:])
		return
	}
	a := addr.As16()
	copy(sa[inet6Offset:], a[:])
}

// setPort overwrites the port of such an address.
func setPort(sa []byte, port uint16) { binary.BigEndian.PutUint16(sa[portOffset:], port) }

// inetDestination reads where an address leads when a socket of family domain (AF_INET or AF_INET6) is given it, the way the
// kernel reads it. forSend tells a send's address from that of a connect, which differ in AF_UNSPEC: connect takes it for
// "disconnect", an IPv4 send for AF_INET and an IPv6 send for no address. The invalid AddrPort means that the call names no
// destination. An errno is what the kernel answers to such an address.
func inetDestination(domain int, sa []byte, forSend bool) (netip.AddrPort, unix.Errno) {
	fam, ok := family(sa)
	if !ok {
		return netip.AddrPort{}, unix.EINVAL
	}
	var to netip.AddrPort
	switch {
	case fam == unix.AF_UNSPEC && (!forSend || domain == unix.AF_INET6):
		return netip.AddrPort{}, 0
	case fam == unix.AF_INET, fam == unix.AF_UNSPEC:
		to, ok = inet4(sa)
	case fam == unix.AF_INET6 && domain == unix.AF_INET6:
		to, ok = inet6(sa)
	default:
		return netip.AddrPort{}, unix.EAFNOSUPPORT
	}
	if !ok {
		return netip.AddrPort{}, unix.EINVAL
	}
	return to, 0
}

// isAbstract tells whether a struct sockaddr_un names an abstract socket, see unix(7).
func isAbstract(sa []byte) bool { return len(sa) > familySize && sa[familySize] == 0 }

// isPath tells whether a struct sockaddr_un names a socket in the file system.
func isPath(sa []byte) bool { return len(sa) > familySize && sa[familySize] != 0 }

// toKernel tells whether a struct sockaddr_nl names the kernel itself, and no other process or multicast group.
func toKernel(sa []byte) bool {
	return len(sa) >= unix.SizeofSockaddrNetlink &&
		binary.NativeEndian.Uint32(sa[netlinkPID:]) == 0 && binary.NativeEndian.Uint32(sa[netlinkGroups:]) == 0
}
