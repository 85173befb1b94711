package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// network parses the egress rules: a layer for each source, all of which must allow.
func network(n policy.Network) (netfilter.Policy, error) {
	var out netfilter.Policy
	for _, layer := range n.Allow {
		rules, err := netfilter.ParseRules(layer)
		if err != nil {
			return out, fmt.Errorf("network.allow: %w", err)
		}
		if rules == nil {
			rules = []netfilter.Rule{}
		}
		out = out.Tighten(netfilter.NewPolicy(rules, nil))
	}
	if len(n.Deny) > 0 {
		rules, err := netfilter.ParseRules(n.Deny)
		if err != nil {
			return out, fmt.Errorf("network.deny: %w", err)
		}
		out = out.Tighten(netfilter.NewPolicy(nil, rules))
	}
	return out, nil
}

// planOverlay decides the second filter. It is empty, and none is installed, where the policy asks for nothing that needs one.
func (p *Plan) planOverlay(r Request) error {
	deny, err := seccompnotif.ParseSyscallList(r.Policy.Syscalls.Deny)
	if err != nil {
		return fmt.Errorf("syscalls.deny: %w", err)
	}
	allow, err := seccompnotif.ParseSyscallList(r.Policy.Syscalls.Allow)
	if err != nil {
		return fmt.Errorf("syscalls.allow: %w", err)
	}
	p.Overlay.NotifyWhen = p.Network.Notifications()
	p.Overlay.Deny = p.Network.Denials()
	var base []seccompnotif.Denial
	if len(p.Overlay.NotifyWhen) > 0 {
		base = seccompnotif.DefaultDenials()
		if p.Namespaces.Has(specs.PIDNamespace) {
			// Nobody outside can be traced from a PID namespace.
			base = seccompnotif.Without(base, "ptrace")
		}
	}
	denials, err := seccompnotif.Denials(base, deny, allow)
	if err != nil {
		return fmt.Errorf("syscalls: %w", err)
	}
	p.Overlay.Deny = append(p.Overlay.Deny, denials...)
	return nil
}

// HasOverlay says whether there is a second filter at all.
func (p *Plan) HasOverlay() bool {
	return len(p.Overlay.Notify)+len(p.Overlay.NotifyWhen)+len(p.Overlay.Deny) > 0
}
