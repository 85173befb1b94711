package plan

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Agent is who is asked about what the container does.
type Agent struct {
	Socket string `json:"socket"` // host path
	// Syscalls are the names of the calls that it gets events of.
	Syscalls []string `json:"syscalls"`
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
	p.Agent = &Agent{Socket: r.Policy.Socket, Syscalls: r.Events}
	if r.Events == nil {
		p.Agent.Syscalls = allEvents()
	}
	if p.Agent.network() && p.Process.Capabilities.Bounding&netAdmin != 0 {
		return fmt.Errorf("%s: process.capabilities has CAP_NET_ADMIN, with which the workload could redirect what the agent has allowed: drop it",
			p.key("policy.socket"))
	}
	return nil
}

// events has the overlay notify what the agent is told of.
func (p *Plan) events() {
	for _, call := range p.Agent.wants() {
		if !call.OnBehalf { // those are the egress policy's
			p.Overlay.NotifyWhen = append(p.Overlay.NotifyWhen, seccompnotif.Notification{Syscall: call.Name, When: call.When})
		}
		if call.Name == "clone" {
			// Its flags lie in memory, so nobody could tell a thread from a process. libc calls clone instead.
			p.Overlay.Deny = append(p.Overlay.Deny, seccompnotif.Denial{Syscall: "clone3", Errno: unix.ENOSYS})
		}
	}
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
