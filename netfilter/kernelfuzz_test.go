package netfilter

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addressReader tells where the kernel itself takes an address to lead, in a network where every address is the host's own.
type addressReader struct {
	sniffer int // sees every UDP packet over IPv4
}

func newAddressReader(t testing.TB, n *network) *addressReader {
	t.Helper()
	r := &addressReader{}
	n.do(t, func() (err error) {
		for _, command := range []string{"route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"} {
			if err := ip(command); err != nil {
				return err
			}
		}
		r.sniffer, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
		return err
	})
	t.Cleanup(func() { unix.Close(r.sniffer) })
	return r
}

// connected returns the peer of a UDP socket of the domain that is given the address; the zero value if it has none.
func (r *addressReader) connected(fd int, sa []byte) (netip.AddrPort, unix.Errno) {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(sa))), uintptr(len(sa)))
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	switch peer, _ := unix.Getpeername(fd); peer := peer.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(peer.Addr), uint16(peer.Port)), 0
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(peer.Addr), uint16(peer.Port)), 0
	}
	return netip.AddrPort{}, 0
}

// sent returns where a datagram to the address from an unconnected socket of IPv4 went.
func (r *addressReader) sent(fd int, sa []byte) (netip.AddrPort, unix.Errno) {
	packet := make([]byte, 128)
	for {
		if _, _, err := unix.Recvfrom(r.sniffer, packet, 0); err != nil {
			break // what is left of earlier ones is gone
		}
	}
	payload := [4]byte{'f', 'u', 'z', 'z'}
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&payload)), uintptr(len(payload)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(unsafe.SliceData(sa))), uintptr(len(sa)))
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	n, _, err := unix.Recvfrom(r.sniffer, packet, 0)
	const destination, udp = 16, 20 // offsets in a packet without options
	if err != nil || n < udp+4 {
		return netip.AddrPort{}, 0
	}
	to := netip.AddrFrom4([4]byte(packet[destination:udp]))
	return netip.AddrPortFrom(to, binary.BigEndian.Uint16(packet[udp+2:])), 0
}

// FuzzSockaddrAgainstTheKernel gives addresses to real sockets: wherever the kernel goes, that must be what is judged.
func FuzzSockaddrAgainstTheKernel(f *testing.F) {
	for _, to := range []string{"10.1.0.1:80", "0.0.0.0:9", "127.0.0.1:65535", "[::1]:80", "[::]:7", "[::ffff:10.1.0.2]:8", "[::ffff:0.0.0.0]:8", "[2001:db8::1]:1"} {
		sa := sockaddr(netip.MustParseAddrPort(to))
		for _, six := range []bool{false, true} {
			f.Add(sa, six, false)
			f.Add(sa, six, true)
			f.Add(append(sa[:len(sa):len(sa)], 1, 2, 3), six, true)
			f.Add(sa[:len(sa)-4], six, false)
			unspecified := append([]byte{0, 0}, sa[2:]...)
			f.Add(unspecified, six, true)
			f.Add(unspecified, six, false)
		}
	}
	if os.Geteuid() != 0 {
		f.Skip("SKIPPED, NOT TESTED: network namespaces take root")
	}
	n := newNetwork(f)
	reader := newAddressReader(f, n)
	f.Fuzz(func(t *testing.T, sa []byte, six, forSend bool) {
		if len(sa) > maxSockaddr || six && forSend {
			return
		}
		domain := unix.AF_INET
		if six {
			domain = unix.AF_INET6
		}
		fd := -1
		n.do(t, func() (err error) {
			fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			return err
		})
		defer unix.Close(fd)
		went, refused := netip.AddrPort{}, unix.Errno(0)
		if forSend {
			went, refused = reader.sent(fd, sa)
		} else {
			went, refused = reader.connected(fd, sa)
		}
		judged, errno := inetDestination(domain, sa, forSend)
		if judged.IsValid() && judged.Addr().Unmap().IsUnspecified() {
			judged = netip.AddrPortFrom(ownAddr(judged.Addr(), netip.Addr{}), judged.Port())
		}
		switch {
		case refused != 0: // nothing went anywhere
		case !went.IsValid():
			// A peer with port 0 is not told by getpeername.
			if judged.IsValid() && judged.Port() != 0 && !forSend {
				t.Errorf("%x is judged as %v, and the kernel takes it for none", sa, judged)
			}
		case errno != 0 || judged.Addr().Unmap() != went.Addr().Unmap() || judged.Port() != went.Port():
			t.Errorf("%x is judged as %v (%v), and leads to %v", sa, judged, errno, went)
		}
	})
}
