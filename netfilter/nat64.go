package netfilter

import (
	"bytes"
	"net/netip"
)

// nat64Prefix begins the IPv6 addresses that a NAT64 gateway takes for the IPv4 address in their last four bytes: 64:ff9b::/96, the
// well-known prefix of RFC 6052. Prefixes of a network's own are not known here.
var nat64Prefix = [...]byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}

// translated returns the IPv4 address that a NAT64 gateway would make of an address with the well-known prefix, and false if it has
// none. Protocol and port stay what they are; an ICMPv6 echo request becomes an ICMP one (RFC 7915).
func translated(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	a := addr.As16()
	if !bytes.Equal(a[:len(nat64Prefix)], nat64Prefix[:]) {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(a[len(nat64Prefix):])), true
}

// denying returns a deny rule that matches a destination, or the IPv4 address that it may be translated to on its way; nil if none does.
// Rules that allow do not see through the translation: whether there is a gateway that does it, and where it sends to, is not theirs to
// say.
func (p *Policy) denying(protocol Protocol, addr netip.Addr, port uint16) *Rule {
	if rule := p.deny.match(protocol, addr, port); rule != nil {
		return rule
	}
	if addr, ok := translated(addr); ok {
		return p.deny.match(protocol, addr, port)
	}
	return nil
}
