package netfilter

import "strings"

// Enforcer is what keeps a rule.
type Enforcer string

// The enforcers. A rule that is for several protocols may take two of them.
const (
	ByLandlock   Enforcer = "Landlock"
	BySupervisor Enforcer = "supervisor"
	ByFilter     Enforcer = "overlay filter"
	ByBoth       Enforcer = "Landlock, overlay filter"
)

// Explanation says who enforces one rule, and why it is that one.
type Explanation struct {
	Rule Rule
	By   Enforcer
	Why  string
}

// Explain says who enforces each rule: those of every layer of allow rules, in order, and those that deny.
func (p Policy) Explain() (allow [][]Explanation, deny []Explanation) {
	e := p.explainer()
	for _, layer := range p.layers {
		list := make([]Explanation, len(layer.rules))
		for i, rule := range layer.rules {
			list[i].By, list[i].Why = e.explain(rule, false)
			list[i].Rule = rule
		}
		allow = append(allow, list)
	}
	for _, rule := range p.deny.rules {
		by, why := e.explain(rule, true)
		deny = append(deny, Explanation{rule, by, why})
	}
	return allow, deny
}

// explainer is what the answer depends on, found out once.
type explainer struct {
	reach  [protocolCount]reach
	judged bool
	along  string // why rules are judged that could do without
}

func (p Policy) explainer() explainer {
	var e explainer
	for protocol := range protocolCount {
		e.reach[protocol], _ = p.reachOf(protocol)
		e.judged = e.judged || supervised(protocol, e.reach[protocol])
	}
	if e.judged {
		e.along = "judged with the rest, since rule " + p.decisive(e).String() + " takes the supervisor"
	}
	return e
}

// supervised tells whether a protocol's destinations have to be judged one by one.
func supervised(protocol Protocol, r reach) bool {
	return r == reachJudged || r == reachPorts && protocol != TCP
}

// decisive returns the first rule that cannot do without the supervisor.
func (p Policy) decisive(e explainer) Rule {
	for _, layer := range p.layers {
		for _, rule := range layer.rules {
			if e.decides(rule) {
				return rule
			}
		}
	}
	for _, rule := range p.deny.rules {
		if e.decides(rule) || len(rule.Ports) > 0 {
			return rule
		}
	}
	return Rule{Protocols: unnamed} // something judged has a rule
}

// decides tells whether a rule by itself takes the supervisor: it has an address, or ports of another protocol than TCP, in a matter that is judged.
func (e explainer) decides(rule Rule) bool {
	for protocol := range protocolCount {
		if rule.Protocols.Has(protocol) && supervised(protocol, e.reach[protocol]) && (!rule.AnyAddress() || len(rule.Ports) > 0 && protocol != TCP) {
			return true
		}
	}
	return false
}

func (e explainer) explain(rule Rule, denies bool) (Enforcer, string) {
	if e.judged {
		switch {
		case rule.Name != "":
			return BySupervisor, "the addresses of the name are judged, and the call is made on the container's behalf"
		case !rule.AnyAddress():
			return BySupervisor, "addresses are judged, and the call is made on the container's behalf"
		case denies && len(rule.Ports) > 0:
			return BySupervisor, "Landlock can only be told which ports are allowed: they are judged, and the call is made on the container's behalf"
		case e.decides(rule):
			return BySupervisor, "Landlock has no ports of UDP: they are judged, and the call is made on the container's behalf"
		case len(rule.Ports) > 0 || rule.Protocols.Has(TCP):
			return BySupervisor, e.along
		}
	}
	var by Enforcer
	var why []string
	add := func(e Enforcer, reason string) {
		if by == "" {
			by = e
		} else if by != e {
			by = ByBoth
		}
		why = append(why, reason)
	}
	for protocol := range protocolCount {
		if !rule.Protocols.Has(protocol) {
			continue
		}
		name := strings.ToUpper(protocol.String())
		switch r := e.reach[protocol]; {
		case protocol != TCP && r == reachNone:
			add(ByFilter, name+" sockets are refused when they are made")
		case protocol != TCP:
			add(ByFilter, name+" sockets may be made, and go anywhere")
		case r == reachAll:
			add(ByFilter, "TCP may go anywhere")
		case r == reachNone:
			add(ByLandlock, "no TCP port is left")
		default:
			add(ByLandlock, "TCP ports at any address; nothing is trapped")
		}
	}
	return by, strings.Join(why, "; ")
}
