package plan

import "github.com/sandlock/sandlock-runtime/netfilter"

const keyRemap = "network.port_remap"

// planPorts has the container's TCP ports be its own where the policy asks for it.
func (p *Plan) planPorts() {
	if !p.Policy.Network.PortRemap {
		return
	}
	p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, netfilter.PortNotifications()...)
	p.Overlay.Deny = append(p.Overlay.Deny, netfilter.PortDenials()...)
	p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, netfilter.ViewNotifications()...)
}

func (p *Plan) explainPorts() {
	if p.Policy.Network.PortRemap {
		p.note(keyRemap, string(netfilter.BySupervisor), "a TCP port that somebody else has becomes another one outside; bind, listen, connect and what names ports are trapped, and opens for reading")
	}
}
