package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/netfilter"
)

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
	p.explainNetwork()
	p.explainBind()
	p.explainAgent()
	p.explainPorts()
	if p.Seccomp != nil {
		p.note("linux.seccomp", "seccomp", "the spec's own filter, installed last")
	}
	if p.SpecNotifies() {
		p.note("linux.seccomp "+string(specs.ActNotify), "agent", "the spec's own, at "+p.Seccomp.ListenerPath)
	}
	if len(p.Overlay.Deny) > 0 {
		p.note("default and policy denials", "overlay filter", "")
	}
}

// explainNetwork says it of each rule for the network.
func (p *Plan) explainNetwork() {
	allow, deny := p.Egress().Explain()
	for _, layer := range allow {
		if len(layer) == 0 {
			by, why := string(netfilter.ByBoth), "no TCP port is left, and other sockets are refused when they are made"
			if without := p.withoutTCP(); without != "" {
				by, why = string(netfilter.ByFilter), "other sockets are refused when they are made; "+without
			}
			p.note(keyAllow+" nothing", by, why)
		}
		p.noteRules(keyAllow, layer)
	}
	p.noteRules(keyDeny, deny)
}

// maxRows is how many rules of one list, all enforced alike, have a line each. Beyond that they share one: the rules themselves are in [Plan.Network].
const maxRows = 64

func (p *Plan) noteRules(key string, list []netfilter.Explanation) {
	if without := p.withoutTCP(); without != "" {
		for i, e := range list {
			if e.By == netfilter.ByLandlock || e.By == netfilter.ByBoth {
				list[i].By, list[i].Why = "nothing", without
			}
		}
	}
	for len(list) > 0 {
		first := list[0]
		n := slices.IndexFunc(list, func(e netfilter.Explanation) bool { return e.By != first.By || e.Why != first.Why })
		if n < 0 {
			n = len(list)
		}
		if n > maxRows {
			p.note(fmt.Sprintf("%s %s and %d more", key, first.Rule, n-1), string(first.By), first.Why)
		} else {
			for _, e := range list[:n] {
				p.note(key+" "+e.Rule.String(), string(e.By), e.Why)
			}
		}
		list = list[n:]
	}
}

// withoutTCP says why Landlock does not hold TCP ports, where it was asked to and a protection has been given up; otherwise it is empty.
func (p *Plan) withoutTCP() string {
	if p.Landlock == nil || p.Landlock.Enforces(landlock.NetTCP) {
		return ""
	}
	return "protection.net_tcp was given up: TCP ports are not held"
}
