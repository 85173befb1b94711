package monitor

import (
	"errors"
	"fmt"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/agent"
)

// allowance is a limit that the agent can move: never above the ceiling, which a restriction lowers for good.
type allowance struct {
	ceiling int64 // 0: none
	current int64 // what the agent has made of it; 0: nothing yet
}

// change returns the allowance after a change.
func (a allowance) change(op agent.Op, to int64) (allowance, error) {
	switch op {
	case agent.Restrict:
		a.ceiling = lower(a.ceiling, to)
		a.current = lower(a.current, a.ceiling)
	case agent.Narrow:
		a.current = lower(lower(a.current, a.ceiling), to)
	default:
		if a.ceiling > 0 && to > a.ceiling {
			return a, fmt.Errorf("more than %d, which the container has at most", a.ceiling)
		}
		if a.current > 0 {
			a.current = max(a.current, to)
		}
	}
	return a, nil
}

// lower is the lower of two limits, of which 0 is none.
func lower(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// ceilings are the limits that the container starts with.
func (m *Monitor) ceilings() {
	r := m.request.Plan.Resources
	if r == nil {
		return
	}
	if r.Memory != nil && r.Memory.Limit != nil {
		m.memory.ceiling = max(*r.Memory.Limit, 0)
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		m.processes.ceiling = max(*r.Pids.Limit, 0)
	}
}

// change carries out what the agent asks for. It is called for one change at a time.
func (m *Monitor) change(c agent.Change) error {
	switch {
	case c.Network != nil:
		return m.changeNetwork(c)
	case c.Memory > 0:
		return m.changeLimit(c.Op, &m.memory, c.Memory)
	case c.Processes > 0:
		return m.changeLimit(c.Op, &m.processes, c.Processes)
	default:
		if m.denied == nil {
			return errors.New("paths cannot be denied: the agent has not said deny_paths")
		}
		return m.denied.DenyPath(c.DenyPath)
	}
}

func (m *Monitor) changeNetwork(c agent.Change) error {
	if m.egress == nil || !m.request.Plan.Egress().NeedsSupervisor() {
		return errors.New("the network is not supervised: the agent has not asked for its events")
	}
	var change netfilter.Change
	var err error
	if c.Network.Allow != nil {
		if change.Allow, err = netfilter.ParseRules(c.Network.Allow); err != nil {
			return err
		}
		if change.Allow == nil {
			change.Allow = []netfilter.Rule{}
		}
	}
	if change.Deny, err = netfilter.ParseRules(c.Network.Deny); err != nil {
		return err
	}
	of, err := m.process(c.PID, c.StartTime)
	if err != nil {
		return err
	}
	switch c.Op {
	case agent.Restrict:
		return m.egress.Restrict(of, change)
	case agent.Narrow:
		return m.egress.Narrow(of, change)
	default:
		return m.egress.Grant(of, change)
	}
}

// process finds the process that a change is about; nil if it is about the whole container.
func (m *Monitor) process(pid int, startTime uint64) (*seccompnotif.Process, error) {
	if pid == 0 {
		return nil, nil
	}
	for _, p := range m.supervisor.Processes() {
		if p.PID() == pid && p.StartTime() == startTime && !p.Exited() {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no process %d that started at %d", pid, startTime)
}

// changeLimit moves a limit of the container's cgroup.
func (m *Monitor) changeLimit(op agent.Op, of *allowance, to int64) error {
	before := *of
	after, err := before.change(op, to)
	if err != nil {
		return err
	}
	*of = after
	if err := m.request.Limit(policy.Limits{Memory: m.memory.current, Processes: m.processes.current}); err != nil {
		*of = before
		return err
	}
	return nil
}
