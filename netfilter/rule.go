package netfilter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Protocol is what a destination is reached by.
type Protocol uint8

// The protocols that rules can name.
const (
	TCP Protocol = iota
	UDP
	ICMP // echo requests through ping sockets, for IPv4 and IPv6 alike; see icmp(7)

	protocolCount
)

// String returns the protocol's name as rules spell it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	default:
		return "protocol " + strconv.Itoa(int(p))
	}
}

// Protocols is a set of protocols.
type Protocols uint8

// ProtocolSet returns the set of the protocols given.
func ProtocolSet(of ...Protocol) Protocols {
	var set Protocols
	for _, p := range of {
		set |= 1 << p
	}
	return set
}

// Has tells whether p is in the set.
func (s Protocols) Has(p Protocol) bool { return p < protocolCount && s&(1<<p) != 0 }

// unnamed is what a rule without a scheme speaks of. ICMP is never implied.
const unnamed = Protocols(1<<TCP | 1<<UDP)

// Rule is one endpoint rule: the destinations that some protocols reach at some addresses and ports.
type Rule struct {
	Protocols Protocols    // not empty: TCP and UDP together, or one protocol alone
	Name      string       // the host whose addresses are meant, see [Policy.Pin]; Prefix is the zero value then
	Prefix    netip.Prefix // the addresses; without a name the zero value means any address of both families
	Ports     []uint16     // ascending, without duplicates; none means any port
}

// AnyAddress tells whether the rule is for every address of both families. Neither 0.0.0.0/0 nor ::/0 is.
func (r Rule) AnyAddress() bool { return r.Name == "" && !r.Prefix.IsValid() }

// Matches tells whether the rule speaks of a destination. An IPv4-mapped IPv6 address is the IPv4 address it maps, and a zone
// is disregarded. The port of an ICMP destination is disregarded. A rule with a name matches nothing: it takes a [Policy] to
// know what addresses the name stands for.
func (r Rule) Matches(protocol Protocol, addr netip.Addr, port uint16) bool {
	if r.Name != "" || !r.Protocols.Has(protocol) || !addr.IsValid() {
		return false
	}
	if !r.AnyAddress() && !r.Prefix.Contains(addr.Unmap().WithZone("")) {
		return false
	}
	return protocol == ICMP || len(r.Ports) == 0 || slices.Contains(r.Ports, port)
}

// String returns the rule in its canonical form, which [ParseRule] reads back to an equal rule.
func (r Rule) String() string {
	var b strings.Builder
	if r.Protocols != unnamed {
		for p := range protocolCount {
			if r.Protocols.Has(p) {
				b.WriteString(p.String() + "://")
				break
			}
		}
	}
	target := "*"
	switch {
	case r.Name != "":
		target = r.Name
	case r.Prefix.IsValid():
		target = r.Prefix.String()
		if r.Prefix.IsSingleIP() {
			target = r.Prefix.Addr().String()
		}
		if r.Prefix.Addr().Is6() && len(r.Ports) > 0 {
			target = "[" + target + "]"
		}
	}
	b.WriteString(target)
	for i, port := range r.Ports {
		if i == 0 {
			b.WriteByte(':')
		} else {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(port)))
	}
	return b.String()
}

// MarshalText returns the canonical form.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [ParseRule] accepts.
func (r *Rule) UnmarshalText(text []byte) error {
	rule, err := ParseRule(string(text))
	if err == nil {
		*r = rule
	}
	return err
}
