package plan

import "strings"

func (p *Plan) note(rule, by, why string) {
	p.Enforcement = append(p.Enforcement, Enforcement{rule, by, why})
}

// explain says what enforces each part of the policy.
func (p *Plan) explain() {
	files := p.Policy.Filesystem
	if p.Landlock != nil {
		switch {
		case files.Restricted:
			p.note("filesystem.read "+strings.Join(files.Read, ";"), "Landlock", "")
			p.note("filesystem.write "+strings.Join(files.Write, ";"), "Landlock", "")
		default:
			p.note("whole root", "Landlock", "what a leaked descriptor of the host would reach stays out of reach")
		}
		for _, o := range p.Landlock.Omitted {
			p.note("protection."+string(o.Protection), "nothing", string(o.Mode)+": "+o.Result)
		}
	}
	for _, path := range files.Deny {
		p.note("filesystem.deny "+path, "mount map", "covered by an empty object")
	}
	if !p.Network.Unrestricted() {
		rules := strings.TrimSpace(p.Network.String())
		if _, ok := p.Network.TCPPortsOnly(); ok {
			p.note("network "+rules, "Landlock", "TCP ports at any address; other sockets are refused by the overlay filter")
		} else if p.Network.NeedsSupervisor() {
			p.note("network "+rules, "supervisor", "addresses are judged, and the call is made on the container's behalf")
		} else {
			p.note("network "+rules, "overlay filter", "sockets are refused when they are made")
		}
	}
	if p.Seccomp != nil {
		p.note("linux.seccomp", "seccomp", "the spec's own filter, installed last")
	}
	if len(p.Overlay.Deny) > 0 {
		p.note("default and policy denials", "overlay filter", "")
	}
}
