package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// embed returns an IPv4 address behind the well-known prefix.
func embed(addr netip.Addr) netip.Addr {
	a := addr.As4()
	return netip.MustParseAddr(fmt.Sprintf("64:ff9b::%02x%02x:%02x%02x", a[0], a[1], a[2], a[3]))
}

func TestTranslated(t *testing.T) {
	for text, want := range map[string]string{
		"64:ff9b::10.1.2.3": "10.1.2.3", "64:ff9b::": "0.0.0.0", "64:ff9b::ffff:ffff": "255.255.255.255", "64:ff9b::a01:203%eth0": "10.1.2.3",
		"64:ff9b::1:10.1.2.3": "", "64:ff9b:1::10.1.2.3": "", "64:ff9a::10.1.2.3": "", "::10.1.2.3": "", "::ffff:10.1.2.3": "", "2002:a01:203::": "", "10.1.2.3": "",
	} {
		got, ok := translated(netip.MustParseAddr(text))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s is %s, %v", text, got, ok)
		}
	}
	if _, ok := translated(netip.Addr{}); ok {
		t.Error("no address is translated")
	}
}

// FuzzNAT64: a destination behind the well-known prefix is denied if the IPv4 address is denied, or it is itself, and never allowed for the sake of
// IPv4's rules. What is no such destination is judged as its rules say, one by one.
func FuzzNAT64(f *testing.F) {
	f.Add("10.0.0.0/8", "*", []byte{10, 1, 2, 3}, uint16(80))
	f.Add("tcp://10.1.2.3:80", "64:ff9b::/96", []byte{10, 1, 2, 3}, uint16(80))
	f.Add("64:ff9b::a01:203", "10.1.2.3", []byte{10, 1, 2, 3}, uint16(81))
	f.Add("icmp://0.0.0.0/0", "icmp://*", []byte{0, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3}, uint16(0))
	f.Add("0.0.0.0/0", "*", []byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3}, uint16(9))
	f.Fuzz(func(t *testing.T, deny, allow string, raw []byte, port uint16) {
		denied, err := ParseDenyRules(strings.Fields(deny))
		if err != nil {
			return
		}
		allowed, err := ParseRules(strings.Fields(allow))
		addr, ok := netip.AddrFromSlice(raw)
		if err != nil || !ok {
			return
		}
		p := NewPolicy(allowed, denied)
		loose := NewPolicy(allowed, nil)
		for protocol := range protocolCount {
			by := func(list []Rule, addr netip.Addr) bool {
				return slices.ContainsFunc(list, func(r Rule) bool { return r.Matches(protocol, addr, port) })
			}
			to := []netip.Addr{addr}
			if addr.Is4() {
				to = append(to, embed(addr))
			}
			for _, to := range to {
				inner, translates := translated(to)
				want := loose.Allows(protocol, to, port) && !by(denied, to) && !(translates && by(denied, inner))
				if got := p.Allows(protocol, to, port); got != want {
					t.Fatalf("deny %q allow %q: %v %v:%d is %v", deny, allow, protocol, to, port, got)
				}
			}
		}
	})
}

// TestNAT64 has a guest reach for denied and allowed addresses behind the well-known prefix.
func TestNAT64(t *testing.T) {
	n := newNetwork(t)
	n.do(t, func() error {
		for _, last := range []string{"1", "2"} {
			if err := ip("addr add 64:ff9b::a01:" + last + "/128 dev lo nodad"); err != nil {
				return err
			}
		}
		return nil
	})
	server := n.plain(t)
	listener := server.serve("[::]:80")
	g := &container{guest: n.start(t, policy(t, "-", "10.1.0.2:80"), "sockets", guestOptions{})}
	for addr, want := range map[string]unix.Errno{
		"[64:ff9b::10.1.0.1]:80": 0, "[64:ff9b::10.1.0.2]:80": deniedErrno, "10.1.0.1:80": 0, "10.1.0.2:80": deniedErrno, "[64:ff9b::10.1.0.2]:81": unix.ECONNREFUSED,
	} {
		to := netip.MustParseAddrPort(addr)
		family := unix.AF_INET6
		if to.Addr().Is4() {
			family = unix.AF_INET
		}
		g.expect(want, command{Call: "connect", FD: g.socket(family), Addr: addr})
		if want == 0 {
			server.must(command{Call: "accept", FD: listener})
		}
	}
	log := g.denied()
	if len(log) != 2 || !slices.ContainsFunc(log, func(d Denial) bool {
		return d.Addr == netip.MustParseAddr("64:ff9b::10.1.0.2") && strings.Contains(d.String(), "denied by rule 10.1.0.2:80")
	}) {
		t.Errorf("on record: %v", log)
	}
}
