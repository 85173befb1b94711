package netfilter

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// noRule stands where a rule's number would, when no rule matches.
const noRule = -1

// index finds the rules that match a destination in time that grows with the logarithm of their number, without allocating.
// The zero value matches nothing. It does not change once built.
type index struct {
	protocols [protocolCount]struct{ v4, v6 prefixTable }
}

// newIndex indexes rules; the numbers it answers are positions in rules.
func newIndex(rules []Rule, names Names) *index {
	ix := new(index)
	for p := range protocolCount {
		if p == UDP && !slices.ContainsFunc(rules, func(r Rule) bool { return r.Protocols.Has(TCP) != r.Protocols.Has(UDP) }) {
			ix.protocols[UDP] = ix.protocols[TCP] // most rules are for both, and a table does not change
			continue
		}
		var v4, v6 []numberedRule
		for i, rule := range rules {
			if !rule.Protocols.Has(p) {
				continue
			}
			rule.eachPrefix(names, func(prefix netip.Prefix) {
				if !prefix.IsValid() || prefix.Addr().Is4() {
					v4 = append(v4, newNumberedRule(prefixOr(prefix, netip.IPv4Unspecified()), i))
				}
				if !prefix.IsValid() || prefix.Addr().Is6() {
					v6 = append(v6, newNumberedRule(prefixOr(prefix, netip.IPv6Unspecified()), i))
				}
			})
		}
		anyPort := p == ICMP
		ix.protocols[p].v4 = newPrefixTable(rules, v4, anyPort).narrow()
		ix.protocols[p].v6 = newPrefixTable(rules, v6, anyPort)
	}
	return ix
}

// prefixOr returns prefix, or the one of length zero around addr if prefix stands for any address.
func prefixOr(prefix netip.Prefix, addr netip.Addr) netip.Prefix {
	if prefix.IsValid() {
		return prefix
	}
	return netip.PrefixFrom(addr, 0)
}

// match returns the number of a rule that matches, or noRule.
func (ix *index) match(protocol Protocol, addr netip.Addr, port uint16) int {
	if protocol >= protocolCount || !addr.IsValid() {
		return noRule
	}
	tables := &ix.protocols[protocol]
	if addr.Is4() || addr.Is4In6() {
		a := addr.As4()
		return tables.v4.match(tables.v4.interval4(binary.BigEndian.Uint32(a[:])), port)
	}
	a := addr.As16()
	return tables.v6.match(tables.v6.interval(key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}), port)
}

// numberedRule is a rule's number and one of its prefixes: the first address and the last.
type numberedRule struct {
	first, last key
	number      int32
}

func newNumberedRule(prefix netip.Prefix, number int) numberedRule {
	first, last := bounds(prefix)
	return numberedRule{first, last, int32(number)}
}

// compare orders rules by prefix, the larger of two that begin together first, and those of one prefix by number.
func (r numberedRule) compare(q numberedRule) int {
	if c := r.first.compare(q.first); c != 0 {
		return c
	}
	if c := q.last.compare(r.last); c != 0 {
		return c
	}
	return cmp.Compare(r.number, q.number)
}

// key is an address as a number; IPv4 addresses use the lower 32 bits.
type key struct{ high, low uint64 }

func (k key) compare(l key) int {
	if c := cmp.Compare(k.high, l.high); c != 0 {
		return c
	}
	return cmp.Compare(k.low, l.low)
}

// next returns k+1, and false if there is none in 128 bits.
func (k key) next() (key, bool) {
	k.low++
	if k.low == 0 {
		k.high++
		return k, k.high != 0
	}
	return k, true
}

// prefixTable is the rules of one protocol and family. Two prefixes are disjoint or one holds the other, so the distinct
// prefixes form a forest, and the addresses fall into intervals within which the same prefixes match: the innermost one
// and those around it.
type prefixTable struct {
	starts  []key    // ascending; interval i reaches to starts[i+1]
	starts4 []uint32 // in their place for IPv4: a quarter of the memory to search
	inner   []int32  // for each interval the innermost prefix in nodes, or noRule
	nodes   []prefixNode
	ports   []portRule // of all nodes, one after the other
}

// prefixNode is a distinct prefix and all rules that have it.
type prefixNode struct {
	parent  int32 // the next larger prefix around it, or noRule
	anyPort int32 // a rule of this prefix, or of one around it, that is for any port, or noRule
	// from and to are where the node's own ports are in prefixTable.ports, ascending.
	from, to int32
}

type portRule struct {
	port uint16
	rule int32
}

// newPrefixTable makes a table of some of the rules. anyPort has it disregard their ports.
func newPrefixTable(rules []Rule, list []numberedRule, anyPort bool) prefixTable {
	slices.SortFunc(list, numberedRule.compare)
	var t prefixTable
	var lasts []key                       // by node: its last address
	open := []int32{noRule}               // the nodes around the current position, outermost first
	close := func(before key, all bool) { // ends the nodes that end before a position
		for top := open[len(open)-1]; top != noRule && (all || lasts[top].compare(before) < 0); top = open[len(open)-1] {
			open = open[:len(open)-1]
			if after, ok := lasts[top].next(); ok {
				t.begin(after, open[len(open)-1])
			}
		}
	}
	for i := 0; i < len(list); {
		first, last := list[i].first, list[i].last
		close(first, false)
		node := prefixNode{parent: open[len(open)-1], anyPort: noRule, from: int32(len(t.ports))}
		for ; i < len(list) && list[i].first == first && list[i].last == last; i++ {
			t.add(&node, rules[list[i].number], list[i].number, anyPort)
		}
		if node.anyPort == noRule && node.parent != noRule {
			node.anyPort = t.nodes[node.parent].anyPort
		}
		t.finish(&node)
		number := int32(len(t.nodes))
		t.nodes, lasts, open = append(t.nodes, node), append(lasts, last), append(open, number)
		t.begin(first, number)
	}
	close(key{}, true)
	return t
}

// begin starts an interval; one that begins at the same address is replaced.
func (t *prefixTable) begin(at key, inner int32) {
	if n := len(t.starts); n > 0 && t.starts[n-1] == at {
		t.inner[n-1] = inner
		return
	}
	t.starts, t.inner = append(t.starts, at), append(t.inner, inner)
}

// add adds a rule to the last node.
func (t *prefixTable) add(n *prefixNode, rule Rule, number int32, anyPort bool) {
	if anyPort || len(rule.Ports) == 0 {
		if n.anyPort == noRule {
			n.anyPort = number
		}
		return
	}
	for _, port := range rule.Ports {
		t.ports = append(t.ports, portRule{port, number})
	}
}

// finish makes the ports of the last node searchable, keeping the first rule of each.
func (t *prefixTable) finish(n *prefixNode) {
	own := t.ports[n.from:]
	if len(own) > 1 {
		slices.SortFunc(own, func(a, b portRule) int {
			if c := cmp.Compare(a.port, b.port); c != 0 {
				return c
			}
			return cmp.Compare(a.rule, b.rule)
		})
		own = slices.CompactFunc(own, func(a, b portRule) bool { return a.port == b.port })
	}
	t.ports = t.ports[:int(n.from)+len(own)]
	n.to = int32(len(t.ports))
}

// bounds returns the first and last address of a prefix.
func bounds(prefix netip.Prefix) (first, last key) {
	if prefix.Addr().Is4() {
		a := prefix.Addr().As4()
		n := binary.BigEndian.Uint32(a[:])
		host := uint32(1)<<(32-prefix.Bits()) - 1 // a shift by 32 gives 0, so that /0 has all bits
		return key{low: uint64(n)}, key{low: uint64(n | host)}
	}
	a := prefix.Addr().As16()
	first = key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
	last = first
	switch bits := prefix.Bits(); {
	case bits <= 64:
		last.high |= 1<<(64-bits) - 1
		last.low = ^uint64(0)
	default:
		last.low |= 1<<(128-bits) - 1
	}
	return first, last
}

// narrow makes a table of IPv4 prefixes compact.
func (t prefixTable) narrow() prefixTable {
	for i, start := range t.starts {
		if start.low > math.MaxUint32 { // what comes after the last address
			t.inner = t.inner[:i]
			break
		}
		t.starts4 = append(t.starts4, uint32(start.low))
	}
	t.starts = nil
	return t
}

// interval returns the interval that an address is in, or noRule if it lies before the first: the last that starts at or before
// the address. The searches are written out because a comparison through a function would take most of their time.
func (t *prefixTable) interval(at key) int {
	low, high := 0, len(t.starts)
	for low < high {
		middle := int(uint(low+high) / 2)
		if start := &t.starts[middle]; start.high < at.high || start.high == at.high && start.low <= at.low {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low - 1
}

// interval4 is interval for IPv4.
func (t *prefixTable) interval4(at uint32) int {
	low, high := 0, len(t.starts4)
	for low < high {
		middle := int(uint(low+high) / 2)
		if t.starts4[middle] <= at {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low - 1
}

// match returns the number of a rule that matches an address in an interval, or noRule.
func (t *prefixTable) match(interval int, port uint16) int {
	if interval == noRule {
		return noRule
	}
	innermost := t.inner[interval]
	if innermost == noRule {
		return noRule
	}
	if rule := t.nodes[innermost].anyPort; rule != noRule {
		return int(rule)
	}
	for n := innermost; n != noRule; n = t.nodes[n].parent {
		if rule := t.matchPort(&t.nodes[n], port); rule != noRule {
			return rule
		}
	}
	return noRule
}

func (t *prefixTable) matchPort(n *prefixNode, port uint16) int {
	own := t.ports[n.from:n.to]
	i, found := slices.BinarySearchFunc(own, port, func(r portRule, port uint16) int { return cmp.Compare(r.port, port) })
	if !found {
		return noRule
	}
	return int(own[i].rule)
}
