package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/resolve"
)

// netAdmin lets a task change its network namespace's routes and packet filters.
const netAdmin = uint64(1) << unix.CAP_NET_ADMIN

const (
	keyAllow = "network.allow"
	keyDeny  = "network.deny"
)

// Names returns the host names in a policy's rules, sorted: what [Request.Names] must have the answers for. Malformed rules are left to [New].
func Names(p policy.Policy) []string {
	var list []string
	for _, layer := range p.Network.Allow {
		for _, text := range layer {
			if !mayHaveName(text) {
				continue
			}
			if rule, err := netfilter.ParseRule(text); err == nil && rule.Name != "" {
				list = append(list, rule.Name)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// mayHaveName tells, from the characters alone, whether a rule could have a name: there is none without a letter, a dash or an underscore.
func mayHaveName(rule string) bool {
	if _, after, found := strings.Cut(rule, "://"); found {
		rule = after
	}
	return strings.Trim(rule, "0123456789.:/,*[]") != ""
}

// network works out the egress rules: a layer for each source, all of which must allow.
func (p *Plan) network(answers map[string]resolve.Answer) (netfilter.Policy, error) {
	var out netfilter.Policy
	n := p.Policy.Network
	if n.Restricted() && p.Process.Capabilities.Bounding&netAdmin != 0 {
		return out, fmt.Errorf("%s: process.capabilities has CAP_NET_ADMIN, with which the workload could redirect to anywhere what the rules allow: drop it",
			p.key(keyAllow, keyDeny))
	}
	for i, layer := range n.Allow {
		rules, err := netfilter.ParseRules(layer)
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.keyOf(keyAllow, i), err)
		}
		out = out.Tighten(netfilter.NewPolicy(rules, nil))
	}
	if len(n.Deny) > 0 {
		rules, err := netfilter.ParseDenyRules(n.Deny)
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.key(keyDeny), err)
		}
		out = out.Tighten(netfilter.NewPolicy(nil, rules))
	}
	return p.pin(out, answers)
}

// pin has the names of the rules stand for what the host found.
func (p *Plan) pin(policy netfilter.Policy, answers map[string]resolve.Answer) (netfilter.Policy, error) {
	wanted := policy.Names()
	switch {
	case len(wanted) == 0:
		return policy, nil
	case len(wanted) > resolve.MaxNames:
		return policy, fmt.Errorf("%s: %d host names; at most %d are looked up", p.key(keyAllow), len(wanted), resolve.MaxNames)
	}
	pinned := make(netfilter.Names, len(wanted))
	for i, layer := range policy.AllowLayers() {
		for _, rule := range layer {
			if rule.Name == "" {
				continue
			}
			answer := answers[rule.Name]
			if answer.Err == nil && len(answer.Addrs) == 0 {
				answer.Err = errors.New("was not looked up")
			}
			if answer.Err != nil {
				return policy, fmt.Errorf("%s: endpoint rule %q: %q: %w", p.keyOf(keyAllow, i), rule, rule.Name, answer.Err)
			}
			pinned[rule.Name] = answer.Addrs
		}
	}
	return policy.Pin(pinned), nil
}
