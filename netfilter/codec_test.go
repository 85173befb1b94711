package netfilter

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// sockaddr4 and sockaddr6 lay out addresses; family may be a lie.
func sockaddr4(family uint16, to netip.AddrPort) []byte {
	sa := make([]byte, unix.SizeofSockaddrInet4)
	binary.NativeEndian.PutUint16(sa, family)
	binary.BigEndian.PutUint16(sa[2:], to.Port())
	a := to.Addr().As4()
	copy(sa[4:], a[:])
	return sa
}

func sockaddr6(family uint16, to netip.AddrPort) []byte {
	sa := make([]byte, unix.SizeofSockaddrInet6)
	binary.NativeEndian.PutUint16(sa, family)
	binary.BigEndian.PutUint16(sa[2:], to.Port())
	a := to.Addr().As16()
	copy(sa[8:], a[:])
	return sa
}

func sockaddr(to netip.AddrPort) []byte {
	if to.Addr().Is4() {
		return sockaddr4(unix.AF_INET, to)
	}
	return sockaddr6(unix.AF_INET6, to)
}

func TestInetDestination(t *testing.T) {
	four, six := netip.MustParseAddrPort("1.2.3.4:80"), netip.MustParseAddrPort("[fd00::1]:80")
	none := netip.AddrPort{}
	for _, row := range []struct {
		name    string
		domain  int
		sa      []byte
		forSend bool
		want    netip.AddrPort
		errno   unix.Errno
	}{
		{"IPv4", unix.AF_INET, sockaddr(four), false, four, 0},
		{"IPv4, longer than need be", unix.AF_INET, append(sockaddr(four), make([]byte, 100)...), false, four, 0},
		{"IPv4, too short", unix.AF_INET, sockaddr(four)[:15], false, none, unix.EINVAL},
		{"IPv6", unix.AF_INET6, sockaddr(six), false, six, 0},
		{"IPv6 without scope id", unix.AF_INET6, sockaddr(six)[:24], false, six, 0},
		{"IPv6, too short", unix.AF_INET6, sockaddr(six)[:23], false, none, unix.EINVAL},
		{"IPv4 on an IPv6 socket", unix.AF_INET6, sockaddr(four), true, four, 0},
		{"IPv6 on an IPv4 socket", unix.AF_INET, sockaddr(six), true, none, unix.EAFNOSUPPORT},
		{"disconnect", unix.AF_INET, sockaddr4(unix.AF_UNSPEC, four), false, none, 0},
		{"disconnect IPv6", unix.AF_INET6, sockaddr6(unix.AF_UNSPEC, six), false, none, 0},
		{"IPv4 send without family goes there", unix.AF_INET, sockaddr4(unix.AF_UNSPEC, four), true, four, 0},
		{"IPv6 send without family has no address", unix.AF_INET6, sockaddr6(unix.AF_UNSPEC, six), true, none, 0},
		{"Unix address", unix.AF_INET, sockaddr4(unix.AF_UNIX, four), true, none, unix.EAFNOSUPPORT},
		{"nothing", unix.AF_INET, nil, false, none, unix.EINVAL},
		{"half a family", unix.AF_INET, []byte{2}, false, none, unix.EINVAL},
	} {
		if got, errno := inetDestination(row.domain, row.sa, row.forSend); got != row.want || errno != row.errno {
			t.Errorf("%s: %v, %v", row.name, got, errno)
		}
	}
}

func TestOwnAddr(t *testing.T) {
	for _, row := range []struct{ unspecified, bound, want string }{
		{"0.0.0.0", "0.0.0.0", "127.0.0.1"},
		{"0.0.0.0", "10.0.0.1", "10.0.0.1"},
		{"0.0.0.0", "::ffff:10.0.0.1", "10.0.0.1"},
		{"::ffff:0.0.0.0", "::", "::ffff:127.0.0.1"},
		{"::ffff:0.0.0.0", "::ffff:10.0.0.1", "::ffff:10.0.0.1"},
		{"::", "::", "::1"},
		{"::", "fd00::1", "::1"},
		{"::", "::ffff:10.0.0.1", "::ffff:127.0.0.1"},
	} {
		if got := ownAddr(netip.MustParseAddr(row.unspecified), netip.MustParseAddr(row.bound)); got.String() != row.want {
			t.Errorf("%s of a socket bound to %s is %s, want %s", row.unspecified, row.bound, got, row.want)
		}
	}
	if got := ownAddr(netip.IPv4Unspecified(), netip.Addr{}); got.String() != "127.0.0.1" {
		t.Error(got)
	}
}

func FuzzInetDestination(f *testing.F) {
	f.Add(sockaddr(netip.MustParseAddrPort("1.2.3.4:5")), true, true)
	f.Add(sockaddr(netip.MustParseAddrPort("[::1]:5")), false, true)
	f.Fuzz(func(t *testing.T, sa []byte, six, forSend bool) {
		domain := unix.AF_INET
		if six {
			domain = unix.AF_INET6
		}
		to, errno := inetDestination(domain, sa, forSend)
		if errno != 0 || !to.IsValid() {
			return
		}
		// What was read is where a changed address lands.
		other := netip.IPv6Loopback()
		if to.Addr().Is4() {
			other = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		setAddr(sa, other)
		if again, errno := inetDestination(domain, sa, forSend); errno != 0 || again != netip.AddrPortFrom(other, to.Port()) {
			t.Errorf("%v became %v, %v", to, again, errno)
		}
	})
}

func TestParseHeader(t *testing.T) {
	header := func(name uint64, nameLen int32, iov, iovLen, control, controlLen uint64) *[msghdrSize]byte {
		var raw [msghdrSize]byte
		binary.NativeEndian.PutUint64(raw[0:], name)
		binary.NativeEndian.PutUint32(raw[8:], uint32(nameLen))
		binary.NativeEndian.PutUint64(raw[16:], iov)
		binary.NativeEndian.PutUint64(raw[24:], iovLen)
		binary.NativeEndian.PutUint64(raw[32:], control)
		binary.NativeEndian.PutUint64(raw[40:], controlLen)
		return &raw
	}
	if h, errno := parseHeader(header(1, 500, 2, 1024, 3, 4)); errno != 0 || h.nameLen != maxSockaddr || h.iovLen != 1024 || h.controlLen != 4 {
		t.Errorf("%+v, %v", h, errno)
	}
	if h, errno := parseHeader(header(0, -1, 0, 0, 0, 0)); errno != 0 || h.nameLen != 0 {
		t.Errorf("%+v, %v", h, errno)
	}
	for name, row := range map[string]struct {
		raw  *[msghdrSize]byte
		want unix.Errno
	}{
		"negative name":      {header(1, -1, 0, 0, 0, 0), unix.EINVAL},
		"too many buffers":   {header(0, 0, 0, 1025, 0, 0), unix.EMSGSIZE},
		"huge count":         {header(0, 0, 0, 1<<63, 0, 0), unix.EMSGSIZE},
		"too much ancillary": {header(0, 0, 0, 0, 1, 1<<40), unix.ENOBUFS},
	} {
		if _, errno := parseHeader(row.raw); errno != row.want {
			t.Errorf("%s: %v", name, errno)
		}
	}
}

func iovecs(pairs ...uint64) []byte {
	var raw []byte
	for _, n := range pairs {
		raw = binary.NativeEndian.AppendUint64(raw, n)
	}
	return raw
}

func TestParseIovecs(t *testing.T) {
	spans, total, errno := parseIovecs(iovecs(100, 5, 200, 0, 300, 7), nil)
	if errno != 0 || total != 12 || len(spans) != 2 || spans[1] != (span{300, 7}) {
		t.Errorf("%v, %d, %v", spans, total, errno)
	}
	if spans, total, errno = parseIovecs(iovecs(1, maxTransfer-1, 2, 5, 3, 5), nil); errno != 0 || total != maxTransfer || spans[1].size != 1 || len(spans) != 2 {
		t.Errorf("%v, %d, %v", spans, total, errno)
	}
	if _, _, errno = parseIovecs(iovecs(1, 1<<63), nil); errno != unix.EINVAL {
		t.Error(errno)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(make([]byte, msghdrSize), iovecs(1, 2))
	f.Fuzz(func(t *testing.T, raw, vectors []byte) {
		if len(raw) >= msghdrSize {
			if h, errno := parseHeader((*[msghdrSize]byte)(raw)); errno == 0 && (h.nameLen < 0 || h.nameLen > maxSockaddr || h.iovLen > maxIovecs || h.controlLen > maxControl) {
				t.Errorf("%+v", h)
			}
		}
		spans, total, errno := parseIovecs(vectors, nil)
		sum := 0
		for _, s := range spans {
			sum += s.size
		}
		if errno == 0 && (sum != total || total < 0 || total > maxTransfer) {
			t.Errorf("%d bytes in spans, %d told", sum, total)
		}
	})
}

func TestControl(t *testing.T) {
	pktinfo := appendControl(nil, unix.SOL_IP, unix.IP_PKTINFO, make([]byte, 12))
	if errno := checkInetControl(appendControl(pktinfo, unix.SOL_UDP, unix.UDP_SEGMENT, make([]byte, 2))); errno != 0 {
		t.Error(errno)
	}
	for name, m := range map[string][2]int32{
		"IPv4 source route": {unix.SOL_IP, unix.IP_RETOPTS},
		"IPv6 source route": {unix.SOL_IPV6, unix.IPV6_RTHDR},
		"old source route":  {unix.SOL_IPV6, unix.IPV6_2292RTHDR},
		"mark":              {unix.SOL_SOCKET, unix.SO_MARK},
		"descriptors":       {unix.SOL_SOCKET, unix.SCM_RIGHTS},
		"unknown level":     {4711, 1},
	} {
		if errno := checkInetControl(appendControl(pktinfo, m[0], m[1], make([]byte, 8))); errno != unix.EPERM {
			t.Errorf("%s: %v", name, errno)
		}
	}
	for name, raw := range map[string][]byte{
		"shorter than its header": append(binary.NativeEndian.AppendUint64(nil, 15), make([]byte, 8)...),
		"beyond the buffer":       append(binary.NativeEndian.AppendUint64(nil, 17), make([]byte, 8)...),
		"huge":                    append(binary.NativeEndian.AppendUint64(nil, 1<<63), make([]byte, 8)...),
	} {
		if errno := checkInetControl(raw); errno != unix.EINVAL {
			t.Errorf("%s: %v", name, errno)
		}
	}
	rights := appendControl(nil, unix.SOL_SOCKET, unix.SCM_RIGHTS, []byte{7, 0, 0, 0, 8, 0, 0, 0})
	rights = appendControl(rights, unix.SOL_SOCKET, unix.SCM_CREDENTIALS, []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0})
	fds, stated, errno := splitUnixControl(rights, nil)
	if errno != 0 || len(fds) != 2 || fds[1] != 8 || *stated != (unix.Ucred{Pid: 1, Uid: 2, Gid: 3}) {
		t.Errorf("%v, %v, %v", fds, stated, errno)
	}
	if _, _, errno := splitUnixControl(appendControl(nil, unix.SOL_SOCKET, unix.SCM_RIGHTS, make([]byte, 4*(scmMaxFD+1))), nil); errno != unix.EINVAL {
		t.Error(errno)
	}
}

func FuzzControl(f *testing.F) {
	f.Add(appendControl(nil, unix.SOL_SOCKET, unix.SCM_RIGHTS, []byte{7, 0, 0, 0}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkInetControl(raw)
		if fds, _, errno := splitUnixControl(raw, nil); errno == 0 && len(fds) > scmMaxFD {
			t.Errorf("%d descriptors", len(fds))
		}
	})
}

func FuzzHarmlessRequests(f *testing.F) {
	f.Add(unix.NETLINK_ROUTE, append(binary.NativeEndian.AppendUint32(nil, 16), make([]byte, 12)...))
	f.Fuzz(func(t *testing.T, protocol int, data []byte) { harmlessRequests(protocol, data) })
}

func TestHarmlessRequests(t *testing.T) {
	request := func(kind uint16, size uint32) []byte {
		b := binary.NativeEndian.AppendUint32(nil, size)
		b = binary.NativeEndian.AppendUint16(b, kind)
		return append(b, make([]byte, 10)...)
	}
	get, set := request(unix.RTM_GETROUTE, 16), request(unix.RTM_SETLINK, 16)
	link := func(attrs ...uint16) []byte {
		b := append(request(unix.RTM_NEWLINK, uint32(32+8*len(attrs))), make([]byte, 16)...)
		for _, a := range attrs {
			b = binary.NativeEndian.AppendUint16(b, 8)
			b = binary.NativeEndian.AppendUint16(b, a)
			b = append(b, 1, 0, 0, 0)
		}
		return b
	}
	for name, row := range map[string]struct {
		data []byte
		want bool
	}{
		"get":               {get, true},
		"two gets":          {append(append([]byte{}, get...), get...), true},
		"set":               {set, false},
		"set behind a get":  {append(append([]byte{}, get...), set...), false},
		"longer than there": {request(unix.RTM_GETROUTE, 17), false},
		"shorter than can":  {request(unix.RTM_GETROUTE, 15), false},
		"nothing":           {nil, true},
		"link up":           {link(), true},
		"link renamed":      {link(unix.IFLA_MTU, unix.IFLA_IFNAME), true},
		"link moved by pid": {link(unix.IFLA_MTU, unix.IFLA_NET_NS_PID), false},
		"link moved by fd":  {link(unix.IFLA_NET_NS_FD), false},
		"link made":         {link(unix.IFLA_LINKINFO), false},
		"nested flag":       {link(unix.IFLA_MTU | unix.NLA_F_NESTED), false},
	} {
		if harmlessRequests(unix.NETLINK_ROUTE, row.data) != row.want {
			t.Error(name)
		}
	}
	if harmlessRequests(unix.NETLINK_GENERIC, get) {
		t.Error("generic netlink is let through")
	}
}
