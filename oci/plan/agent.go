package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Agent is who is asked about what the container does.
type Agent struct {
	Socket string `json:"socket"` // host path
	// Syscalls are the names of the calls that it gets events of.
	Syscalls []string `json:"syscalls"`
	// Argv says that it gets the arguments of programs that are executed.
	Argv bool `json:"argv,omitempty"`
	// DenyPaths says that it can deny paths while the container runs.
	DenyPaths bool `json:"denyPaths,omitempty"`
}

// AgentWants is what an agent has asked for.
type AgentWants struct {
	Syscalls []string // that it wants events of
	Argv     bool     // with the arguments of programs that are executed
	// DenyPaths says that it may want to deny paths.
	DenyPaths bool
}

// allEvents are the names of all calls that make events.
func allEvents() []string {
	var names []string
	for _, call := range seccompnotif.EventCalls() {
		names = append(names, call.Name)
	}
	return names
}

// wants are the calls that the agent gets events of; none without an agent.
func (a *Agent) wants() []seccompnotif.EventCall {
	var calls []seccompnotif.EventCall
	if a == nil {
		return nil
	}
	for _, name := range a.Syscalls {
		if call, ok := seccompnotif.FindEventCall(name); ok {
			calls = append(calls, call)
		}
	}
	return calls
}

// network tells whether the agent is asked about calls that reach out. Then all of them are supervised from the start, for it may
// restrict the network later, when no filter can be added any more.
func (a *Agent) network() bool {
	return slices.ContainsFunc(a.wants(), func(call seccompnotif.EventCall) bool {
		return call.OnBehalf && call.Category == seccompnotif.Network
	})
}

// Egress is the policy of the network as the supervisor has it.
func (p *Plan) Egress() netfilter.Policy {
	if p.Agent.network() {
		return p.Network.Watched()
	}
	return p.Network
}

// planAgent decides what the agent that the policy names is told of.
func (p *Plan) planAgent(r Request) error {
	if r.Policy.Socket == "" {
		return nil
	}
	wants := AgentWants{allEvents(), true, true}
	if r.Agent != nil {
		wants = *r.Agent
	}
	p.Agent = &Agent{Socket: r.Policy.Socket, Syscalls: wants.Syscalls, Argv: wants.Argv && slices.Contains(wants.Syscalls, "execve"), DenyPaths: wants.DenyPaths}
	if p.Agent.network() && p.Process.Capabilities.Bounding&netAdmin != 0 {
		return fmt.Errorf("%s: process.capabilities has CAP_NET_ADMIN, with which the workload could redirect what the agent has allowed: drop it",
			p.key("policy.socket"))
	}
	return nil
}

// DeniesPaths says whether paths can be denied while the container runs. Then it is supervised for that from the start, since no filter can be
// added later.
func (p *Plan) DeniesPaths() bool { return p.Agent != nil && p.Agent.DenyPaths }

// events has the overlay notify what the agent is told of.
func (p *Plan) events() {
	if p.DeniesPaths() {
		p.Overlay.Notify = append(append(p.Overlay.Notify, chroot.DeniedNotifications()...), "execve", "execveat")
		p.Overlay.Deny = append(p.Overlay.Deny, chroot.DeniedDenials()...)
	}
	for _, call := range p.Agent.wants() {
		if !call.OnBehalf || call.Name == "bind" { // the others are the egress policy's
			p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, seccompnotif.Notification{Syscall: call.Name, When: call.When})
		}
	}
	if p.Agent != nil && slices.Contains(p.Agent.Syscalls, "bind") {
		p.notifyToo(seccompnotif.Notification{Syscall: "listen"}) // which is a bind as well, of a socket that is not bound
	}
	if !p.TracksCreation() {
		return
	}
	for _, n := range seccompnotif.CreationNotifications() {
		p.notifyToo(n)
	}
	p.Overlay.Deny = append(p.Overlay.Deny, seccompnotif.CreationDenials()...)
	if p.Agent.Argv || p.Agent.DenyPaths {
		// What is submitted is done by the kernel, whoever is stopped: it would write to arguments and paths that have been judged.
		p.Overlay.Deny = append(p.Overlay.Deny, seccompnotif.GroupDenials(seccompnotif.GroupAIO)...)
	}
}

// notifyToo has the overlay notify a call unless it does already.
func (p *Plan) notifyToo(n seccompnotif.Notification) {
	if !slices.ContainsFunc(p.Overlay.NotifyWhen, func(has seccompnotif.Notification) bool { return has.Syscall == n.Syscall }) {
		p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, n)
	}
}

// TracksCreation tells whether the supervisor has to know of every process before it runs: to stop all of them while arguments or programs are judged,
// or to have them under the rules that were made for the one that they descend from.
func (p *Plan) TracksCreation() bool {
	return p.Agent != nil && (p.Agent.Argv || p.Agent.DenyPaths || slices.Contains(p.Agent.Syscalls, "clone"))
}

// explainAgent says what the agent is told of.
func (p *Plan) explainAgent() {
	if p.Agent == nil {
		return
	}
	var held, told []string
	for _, name := range p.AgentEvents() {
		if call, _ := seccompnotif.FindEventCall(name); call.Held {
			held = append(held, name)
		} else {
			told = append(told, name)
		}
	}
	why := "it is asked about nothing"
	if len(held) > 0 {
		why = "its verdict is waited for by " + strings.Join(held, ", ")
	}
	if len(told) > 0 {
		why += "; it is told of " + strings.Join(told, ", ")
	}
	if p.Agent.Argv {
		why += "; the container is stopped while the arguments of a program are judged"
	}
	if p.Agent.DenyPaths {
		why += "; it can deny paths, which has calls that open, execute or change files trapped"
	}
	p.note("policy.socket "+p.Agent.Socket, "agent", why)
}

// AgentEvents are the names of the calls that the agent gets events of, without those that the overlay refuses.
func (p *Plan) AgentEvents() []string {
	notified := p.Overlay.Notified()
	var names []string
	for _, call := range p.Agent.wants() {
		if nr, present, _ := seccompnotif.SyscallNumber(call.Name); present && notified[nr] {
			names = append(names, call.Name)
		}
	}
	return names
}
