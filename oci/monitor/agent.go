package monitor

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// openGate has the plan's agent asked, if there is one.
func (m *Monitor) openGate(table *seccompnotif.TableBuilder) (err error) {
	if m.request.Plan.Agent == nil {
		return nil
	}
	if m.request.Agent == nil {
		return errors.New("policy.socket: nobody has connected to the agent")
	}
	m.gate, err = seccompnotif.NewGate(seccompnotif.GateConfig{
		Subscriber: m.request.Agent, Syscalls: m.request.Plan.AgentEvents(), Record: m.record, Log: m.request.Log.Warnf,
		Argv: m.request.Plan.Agent.Argv,
	})
	if err != nil {
		return err
	}
	if m.request.Plan.TracksCreation() {
		table.TrackCreation()
	}
	table.Gate(m.gate)
	return nil
}

// listenToAgent begins to take changes and verdicts from the agent. Nothing of the workload has run by then.
func (m *Monitor) listenToAgent() {
	if m.request.Agent == nil {
		return
	}
	m.ceilings()
	m.request.Agent.Start(m.change, func(err error) {
		m.request.Log.Warnf("policy.socket: %v: whatever would wait for a verdict is denied from now on", err)
	})
}

// record puts on record what the agent has denied, and what it wants on record.
func (m *Monitor) record(c *seccompnotif.Call, e seccompnotif.Event, v seccompnotif.Verdict, err error) {
	r := AuditRecord{
		Time: e.Time.UTC(), Verdict: Denied, PID: e.Thread, Comm: comm(c), Syscall: e.Syscall, Protocol: e.Protocol,
		Source: "agent", Reason: "denied by the agent",
	}
	switch {
	case err != nil:
		r.Reason = err.Error()
	case v.Decision == seccompnotif.Audit:
		r.Verdict, r.Reason = Audited, "allowed by the agent, to be on record"
	}
	if e.Addr.IsValid() {
		r.Target = e.Addr.String()
	}
	m.request.Denials.Record(r)
}

// comm is the caller's name, proc_pid_comm(5); empty if it was killed meanwhile.
func comm(c *seccompnotif.Call) string {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID()) + "/comm")
	if err != nil || !c.Valid() {
		return ""
	}
	return string(bytes.TrimSuffix(name, []byte{'\n'}))
}
