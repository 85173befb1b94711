package plan

import (
	"slices"

	"github.com/sandlock/sandlock-runtime/netfilter"
)

const keyRemap = "network.port_remap"

// planPorts has the container's TCP ports be its own where the policy asks for it.
func (p *Plan) planPorts() {
	if !p.Policy.Network.PortRemap {
		return
	}
	p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, netfilter.PortNotifications()...)
	p.Overlay.Deny = append(p.Overlay.Deny, netfilter.PortDenials()...)
	if p.PortViews() {
		p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, netfilter.ViewNotifications()...)
	}
}

// PortViews says whether the container sees its own ports in /proc/net. With an agent that has opens looked at by itself it does not.
func (p *Plan) PortViews() bool {
	return p.Policy.Network.PortRemap && (p.Agent == nil || !p.Agent.DenyPaths && !slices.Contains(p.Agent.Syscalls, "openat"))
}

func (p *Plan) explainPorts() {
	if p.Policy.Network.PortRemap {
		p.note(keyRemap, string(netfilter.BySupervisor), "a TCP port that somebody else has becomes another one outside; bind, listen, connect and what names ports are trapped, and opens for reading")
	}
}
