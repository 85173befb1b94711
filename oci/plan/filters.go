package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// netAdmin lets a task change its network namespace's routes and packet filters.
const netAdmin = uint64(1) << unix.CAP_NET_ADMIN

// network parses the egress rules: a layer for each source, all of which must allow.
func (p *Plan) network() (netfilter.Policy, error) {
	var out netfilter.Policy
	n := p.Policy.Network
	if n.Restricted() && p.Process.Capabilities.Bounding&netAdmin != 0 {
		return out, fmt.Errorf("%s: process.capabilities has CAP_NET_ADMIN, with which the workload could redirect to anywhere what the rules allow: drop it",
			p.key("network.allow", "network.deny"))
	}
	for _, layer := range n.Allow {
		rules, err := netfilter.ParseRules(layer)
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.key("network.allow"), err)
		}
		if rules == nil {
			rules = []netfilter.Rule{}
		}
		out = out.Tighten(netfilter.NewPolicy(rules, nil))
	}
	if len(n.Deny) > 0 {
		rules, err := netfilter.ParseRules(n.Deny)
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.key("network.deny"), err)
		}
		out = out.Tighten(netfilter.NewPolicy(nil, rules))
	}
	return out, nil
}

// planOverlay decides the second filter. It is empty, and none is installed, where the policy asks for nothing that needs one.
func (p *Plan) planOverlay(r Request) error {
	deny, err := seccompnotif.ParseSyscallList(r.Policy.Syscalls.Deny)
	if err != nil {
		return fmt.Errorf("%s: %w", p.key("syscalls.deny"), err)
	}
	allow, err := seccompnotif.ParseSyscallList(r.Policy.Syscalls.Allow)
	if err != nil {
		return fmt.Errorf("%s: %w", p.key("syscalls.allow"), err)
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
	if p.Supervised() && !r.Host.Seccomp.WaitKillable {
		// A signal would end the workload's wait for a call that has been made on its behalf, and have it made twice.
		return fmt.Errorf("%s: needs the supervisor, and with it SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19), which this kernel lacks",
			p.key("network.allow", "network.deny"))
	}
	return nil
}

// HasOverlay says whether there is a second filter at all.
func (p *Plan) HasOverlay() bool {
	return len(p.Overlay.Notify)+len(p.Overlay.NotifyWhen)+len(p.Overlay.Deny) > 0
}
