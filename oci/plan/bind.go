package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

const (
	keyAllowBind = "network.allow_bind"
	keyDenyBind  = "network.deny_bind"
)

// BindRules says whether a policy has rules for the ports that may be bound, so that [Request.Ephemeral] is asked for.
func BindRules(p policy.Policy) bool { return len(p.Network.AllowBind)+len(p.Network.DenyBind) > 0 }

// bind works out which TCP ports may be bound: what every source allows, less what any denies.
func (p *Plan) bind(ephemeral netfilter.Ports) (netfilter.BindPolicy, error) {
	var out netfilter.BindPolicy
	for i, layer := range p.Policy.Network.AllowBind {
		ports, err := parsePorts(layer)
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.keyOf(keyAllowBind, i), err)
		}
		out = out.Tighten(netfilter.NewBindPolicy(ports, nil))
	}
	denied, err := parsePorts(p.Policy.Network.DenyBind)
	if err != nil {
		return out, fmt.Errorf("%s: %w", p.key(keyDenyBind), err)
	}
	out = out.Tighten(netfilter.NewBindPolicy(nil, denied))
	if len(ephemeral) > 0 {
		out = out.Choosing(ephemeral)
	}
	return out, nil
}

// parsePorts is the union of lists of ports; it is never nil.
func parsePorts(texts []string) (netfilter.Ports, error) {
	all := netfilter.Ports{}
	for _, text := range texts {
		ports, err := netfilter.ParsePorts(text)
		if err != nil {
			return nil, err
		}
		all = slices.Concat(all, ports)
	}
	return all.Union(nil), nil
}

// explainBind says what enforces the rules for ports.
func (p *Plan) explainBind() {
	if !BindRules(p.Policy) {
		return
	}
	by, why := "Landlock", "TCP ports that may be bound; nothing is trapped"
	switch {
	case p.Bind.Unrestricted():
		by, why = "nothing", "every port may be bound"
	case p.Policy.Network.PortRemap:
		by, why = "Landlock, supervisor", "the ports inside are judged, and bind and listen are made on the container's behalf; Landlock has the ports too"
	case p.Bind.NeedsSupervisor():
		by, why = "Landlock, supervisor", "Landlock has the ports; only listen is trapped, since on a socket that is not bound it takes a port without asking Landlock"
	}
	if without := p.withoutTCP(); without != "" && !p.Bind.Unrestricted() {
		by, why = "nothing", without
	}
	for _, layer := range p.Policy.Network.AllowBind {
		p.note(keyAllowBind+" "+orNone(layer), by, why)
	}
	if deny := p.Policy.Network.DenyBind; len(deny) > 0 {
		p.note(keyDenyBind+" "+orNone(deny), by, why)
	}
}

// orNone shows a list of the policy.
func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ";")
}
