package monitor

import (
	"fmt"
	"net/netip"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

// maxPorts is how many ports a reply tells of: that is as much as fits into a message.
const maxPorts = 512

// Ports returns the TCP ports that the container has bound, none if they are not its own.
func (m *Monitor) Ports() []netfilter.Binding {
	if m.ports == nil { // it is made at launch, or never
		return nil
	}
	list := m.ports.Bindings()
	return list[:min(len(list), maxPorts)]
}

// showPorts has the container see its own ports in /proc/net. Where paths can be denied, who makes the opens for that sees to it.
//
// The opens are not made under the container's Landlock rules. Nothing is opened but the container's own tables, in its /proc, which path rules never
// take away; and a thread under rules of its own could not follow the links in the /proc/PID of other processes.
func (m *Monitor) showPorts(table *seccompnotif.TableBuilder, notified map[int]bool) (err error) {
	if m.views, err = onbehalf.New(onbehalf.Config{Confine: m.confineLabel, Log: m.request.Log.Warnf}); err != nil {
		return fmt.Errorf("network.port_remap: %w", err)
	}
	if m.request.Plan.DeniesPaths() {
		return nil
	}
	handler := m.views.Presenting(m.ports)
	for _, nr := range onbehalf.Opens() {
		if notified[nr] {
			table.HandleLast(nr, handler) // when the agent, if there is one, has agreed
		}
	}
	return nil
}

// remapped puts on record that a port is another one outside.
func (m *Monitor) remapped(b netfilter.Binding) {
	if m.request.Denials == nil {
		return
	}
	m.request.Denials.Record(AuditRecord{
		Verdict: Remapped, PID: b.PID, Syscall: "bind", Protocol: netfilter.TCP.String(),
		Target: netip.AddrPortFrom(b.Addr, b.Virtual).String(), RealPort: b.Real,
		Rule: "network.port_remap", Reason: fmt.Sprintf("the port is somebody else's; outside it is %d", b.Real),
	})
}
