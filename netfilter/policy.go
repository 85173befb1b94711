package netfilter

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// Policy says which destinations may be reached. It is a value: it never changes once made, may be copied and used by several
// goroutines, and knows nothing of system calls. The zero value allows everything; [NewPolicy] with a list of no rules makes the opposite.
//
// A policy has layers of allow rules, all of which must allow a destination, and one list of deny rules, none of which may
// match it. A policy from one source has at most one layer. Every further source that states allow rules adds a layer: sets of
// rules intersect exactly that way, without any rule having to be rewritten.
type Policy struct {
	layers  []ruleSet
	deny    ruleSet
	names   Names // what names stand for; never changed
	watched bool
}

// ruleSet is rules with their index; without rules index is nil.
type ruleSet struct {
	rules []Rule
	index *index
}

func newRuleSet(rules []Rule, names Names) ruleSet {
	if len(rules) == 0 {
		return ruleSet{}
	}
	rules = slices.Clone(rules)
	return ruleSet{rules, newIndex(rules, names)}
}

// match returns a rule that matches, or nil.
func (s *ruleSet) match(protocol Protocol, addr netip.Addr, port uint16) *Rule {
	if s.index == nil {
		return nil
	}
	if n := s.index.match(protocol, addr, port); n != noRule {
		return &s.rules[n]
	}
	return nil
}

// NewPolicy returns the policy of one source. A nil allow means that the source says nothing of what is allowed. If no other
// source does either, TCP and UDP may go wherever deny does not forbid, as if the rule "*" allowed it; ICMP is never implied.
// An allow that is not nil and has no rule allows nothing. Rules of allow that have names match nothing until [Policy.Pin] says
// what the names stand for; rules of deny must not have any.
func NewPolicy(allow, deny []Rule) Policy {
	p := Policy{deny: newRuleSet(deny, nil)}
	if allow != nil {
		p.layers = []ruleSet{newRuleSet(allow, nil)}
	}
	return p
}

// Watched returns p for a guest whose every call that reaches out is looked at, whether the rules need it or not: somebody is to be
// asked about them, or the rules may become more. The policy's JSON form does not tell.
func (p Policy) Watched() Policy {
	p.watched = true
	return p
}

// Tighten returns the policy that allows what both p and q allow. A name that both have pinned keeps the addresses that it has in p.
func (p Policy) Tighten(q Policy) Policy {
	deny := p.deny
	switch {
	case len(p.deny.rules) == 0:
		deny = q.deny
	case len(q.deny.rules) > 0:
		deny = newRuleSet(slices.Concat(p.deny.rules, q.deny.rules), nil)
	}
	both := Policy{layers: slices.Concat(p.layers, q.layers), deny: deny, watched: p.watched || q.watched}
	if len(p.names)+len(q.names) == 0 {
		return both
	}
	return both.Pin(p.names.merge(q.names))
}

// Allows tells whether a destination may be reached. An IPv4-mapped IPv6 address is judged as the IPv4 it is, a zone is
// disregarded, and so is the port of an ICMP destination. Deny rules for an IPv4 address hold for it behind the well-known prefix of
// NAT64, too. The invalid address and an unknown protocol are allowed only by a
// policy without any rule. Allows does not allocate.
//
// The unspecified addresses 0.0.0.0 and :: are judged as written, though the kernel takes them for the host itself when they
// are a destination; [Egress] replaces them before it asks.
func (p Policy) Allows(protocol Protocol, addr netip.Addr, port uint16) bool {
	return p.Judge(protocol, addr, port).Allowed
}

// Verdict is the answer to whether a destination may be reached, and why.
type Verdict struct {
	Allowed bool
	// Rule is the deny rule that matched; nil if the destination is allowed, or denied because some layer of allow rules has
	// none for it. It must not be changed.
	Rule *Rule
	// Layer is which of the layers of allow rules, counted from 0, has none for a destination that is denied without a Rule.
	Layer int
}

// Reason says in a few words why a destination is denied.
func (v Verdict) Reason() string {
	switch {
	case v.Allowed:
		return "allowed"
	case v.Rule != nil:
		return "denied by rule " + v.Rule.String()
	default:
		return "no rule allows it"
	}
}

// Judge is [Policy.Allows] with the reason. It does not allocate.
func (p Policy) Judge(protocol Protocol, addr netip.Addr, port uint16) Verdict {
	if p.Unrestricted() {
		return Verdict{Allowed: true}
	}
	if protocol >= protocolCount || !addr.IsValid() {
		return Verdict{}
	}
	if rule := p.denying(protocol, addr, port); rule != nil {
		return Verdict{Rule: rule}
	}
	if len(p.layers) == 0 {
		return Verdict{Allowed: unnamed.Has(protocol)}
	}
	for i := range p.layers {
		if p.layers[i].match(protocol, addr, port) == nil {
			return Verdict{Layer: i}
		}
	}
	return Verdict{Allowed: true}
}

// deniesAll tells whether a destination is denied for every protocol. It does not allocate.
func (p Policy) deniesAll(addr netip.Addr, port uint16) bool {
	for protocol := range protocolCount {
		if p.Allows(protocol, addr, port) {
			return false
		}
	}
	return true
}

// Unrestricted tells whether the policy has neither allow layers nor deny rules.
func (p Policy) Unrestricted() bool { return len(p.layers) == 0 && len(p.deny.rules) == 0 }

// AllowLayers returns a copy of the layers of allow rules, each of which must allow a destination.
func (p Policy) AllowLayers() [][]Rule {
	layers := make([][]Rule, len(p.layers))
	for i, layer := range p.layers {
		layers[i] = append([]Rule{}, layer.rules...)
	}
	return layers
}

// DenyRules returns a copy of the deny rules.
func (p Policy) DenyRules() []Rule { return slices.Clone(p.deny.rules) }

// String describes the policy in one line, for people.
func (p Policy) String() string {
	if p.Unrestricted() {
		return "unrestricted"
	}
	join := func(rules []Rule) string {
		if len(rules) == 0 {
			return "nothing"
		}
		texts := make([]string, len(rules))
		for i, rule := range rules {
			texts[i] = rule.String()
		}
		return strings.Join(texts, "; ")
	}
	var parts []string
	for i, layer := range p.layers {
		part := "allow "
		if i > 0 {
			part = "and of that only "
		}
		parts = append(parts, part+join(layer.rules))
	}
	if len(p.deny.rules) > 0 {
		parts = append(parts, "deny "+join(p.deny.rules))
	}
	return strings.Join(parts, ", ")
}

// policyJSON is a policy as JSON: rules in canonical form, allow a list of layers.
type policyJSON struct {
	Allow [][]Rule `json:"allow,omitempty"`
	Deny  []Rule   `json:"deny,omitempty"`
	Names Names    `json:"names,omitempty"`
}

// MarshalJSON returns {"allow": [[rule, ...], ...], "deny": [rule, ...], "names": {name: [address, ...], ...}} with rules in
// canonical form. Members without content are left out.
func (p Policy) MarshalJSON() ([]byte, error) {
	return json.Marshal(policyJSON{p.AllowLayers(), p.deny.rules, p.names})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Policy) UnmarshalJSON(text []byte) error {
	var j policyJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	read := Policy{deny: newRuleSet(j.Deny, nil)}
	for _, layer := range j.Allow {
		read.layers = append(read.layers, newRuleSet(layer, nil))
	}
	if len(j.Names) > 0 {
		read = read.Pin(j.Names)
	}
	*p = read
	return nil
}
