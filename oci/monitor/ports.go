package monitor

import (
	"fmt"
	"net/netip"

	"github.com/sandlock/sandlock-runtime/netfilter"
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
