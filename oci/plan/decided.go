package plan

import (
	"sync"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// Decider tells which rule of which source has denied a destination. It is safe for concurrent use.
type Decider struct {
	layers []string // source of each layer of allow rules
	deny   func() map[string]string
}

// Decider returns who tells of p's rules.
func (p *Plan) Decider() Decider {
	return Decider{p.Policy.Provenance[keyAllow], sync.OnceValue(func() map[string]string { return denySources(p.Policy.Network) })}
}

// denySources is where each deny rule, in its canonical form, comes from.
func denySources(n policy.Network) map[string]string {
	sources := make(map[string]string, len(n.Deny))
	for i, text := range n.Deny {
		rule, err := netfilter.ParseRule(text)
		if err != nil || i >= len(n.DenyFrom) { // such a plan is not made
			continue
		}
		if canonical := rule.String(); sources[canonical] == "" {
			sources[canonical] = n.DenyFrom[i]
		}
	}
	return sources
}

// Rule returns the rule that a verdict of denial rests on, and the source that gave it: "FILE:LINE" or "annotation". Without such
// a rule it is the source of the allow rules that have none for the destination; it is empty if there are no allow rules.
func (d Decider) Rule(v netfilter.Verdict) (rule, source string) {
	switch {
	case v.Allowed:
		return "", ""
	case v.Rule != nil:
		rule = v.Rule.String()
		return rule, d.deny()[rule]
	case v.Layer < len(d.layers):
		return "", d.layers[v.Layer]
	}
	return "", ""
}
