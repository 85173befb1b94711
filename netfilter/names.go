package netfilter

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Names is what host names stand for: the addresses of each, without duplicates, in the order in which they are to be tried. The
// names are spelt as [Rule.Name] has them.
type Names map[string][]netip.Addr

// Names returns the host names that the policy's rules have, sorted.
func (p Policy) Names() []string {
	var names []string
	for _, layer := range p.layers {
		for _, rule := range layer.rules {
			if rule.Name != "" {
				names = append(names, rule.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Pin returns the policy with each name standing for the addresses given, for good. Until then, and where none are given, a rule
// with a name matches nothing.
func (p Policy) Pin(names Names) Policy {
	pinned := Policy{deny: p.deny, layers: slices.Clone(p.layers), watched: p.watched}
	for _, name := range p.Names() {
		if addrs := names[name]; len(addrs) > 0 {
			if pinned.names == nil {
				pinned.names = make(Names)
			}
			pinned.names[name] = slices.Clone(addrs)
		}
	}
	for i, layer := range pinned.layers {
		if slices.ContainsFunc(layer.rules, func(r Rule) bool { return r.Name != "" }) {
			pinned.layers[i] = newRuleSet(layer.rules, pinned.names)
		}
	}
	return pinned
}

// Pinned returns a copy of what the policy's names stand for; nil if no name is pinned.
func (p Policy) Pinned() Names {
	if p.names == nil {
		return nil
	}
	names := make(Names, len(p.names))
	for name, addrs := range p.names {
		names[name] = slices.Clone(addrs)
	}
	return names
}

// merge returns the names of both; where both have a name, n's addresses stay.
func (n Names) merge(more Names) Names {
	if len(n) == 0 {
		return more
	}
	merged := maps.Clone(n)
	for name, addrs := range more {
		if _, taken := merged[name]; !taken {
			merged[name] = addrs
		}
	}
	return merged
}

// eachPrefix calls f with every prefix that a rule is for; the zero prefix is any address.
func (r Rule) eachPrefix(names Names, f func(netip.Prefix)) {
	if r.Name == "" {
		f(r.Prefix)
		return
	}
	for _, addr := range names[r.Name] {
		addr = addr.Unmap().WithZone("")
		f(netip.PrefixFrom(addr, addr.BitLen()))
	}
}

// isHostName tells whether text has the form of a host name (RFC 1123, 2.1, underscores allowed). What a C library would take for
// an IPv4 address in one of its older notations has not: its last label is a number.
func isHostName(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
		last = label
	}
	return !isNumber(last)
}

// isNumber tells whether inet_aton(3) would read text as a number: decimal, octal or hexadecimal.
func isNumber(text string) bool {
	if hex, is := strings.CutPrefix(strings.ToLower(text), "0x"); is {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return text != "" && strings.Trim(text, "0123456789") == ""
}
