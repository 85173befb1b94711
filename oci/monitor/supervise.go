package monitor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Denial is a call of the workload that the policy has refused.
type Denial = netfilter.Denial

// supervise makes the supervisor with the plan's handlers, the first time, and hands it a listener, whose first task is the process pid. It
// is parked: nothing of it has been trapped yet.
func (m *Monitor) supervise(listener *os.File, pid int) error {
	if m.supervisor == nil {
		if err := m.newSupervisor(); err != nil {
			listener.Close()
			return err
		}
	}
	if m.request.Plan.TracksCreation() {
		if _, err := m.supervisor.Enroll(pid); err != nil {
			listener.Close()
			return fmt.Errorf("supervising the container's processes: %w", err)
		}
	}
	// The supervisor takes the descriptor over; it must not be closed with the file.
	fd, err := unix.FcntlInt(listener.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	listener.Close()
	if err != nil {
		return fmt.Errorf("seccomp listener: %w", err)
	}
	return m.supervisor.Attach(fd)
}

func (m *Monitor) newSupervisor() error {
	p := m.request.Plan
	// A handler that could never run, because the overlay denies its call or lets it through, is a mistake in the plan.
	table := seccompnotif.NewTable().Under(p.Overlay)
	notified := p.Overlay.Notified()
	if err := m.openGate(table); err != nil {
		return err
	}
	register := func(handlers map[int]seccompnotif.Handler) {
		for nr, handler := range handlers {
			if notified[nr] { // syscalls.deny may have refused it outright
				table.Handle(nr, handler)
			}
		}
	}
	remap := p.Policy.Network.PortRemap
	if remap {
		var err error
		if m.ports, err = netfilter.NewPortSpace(netfilter.PortSpaceConfig{Bind: p.Bind, Denials: m.request.Denials, Gate: m.gate, Told: m.remapped}); err != nil {
			return err
		}
		handlers := m.ports.Handlers()
		if m.gate.Wants(unix.SYS_BIND) {
			delete(handlers, unix.SYS_BIND) // the egress has one that asks first
		}
		register(handlers)
		if err := m.showPorts(table, notified); err != nil {
			return err
		}
	}
	if network := p.Egress(); remap || len(network.Notifications()) > 0 {
		var err error
		m.egress, err = netfilter.NewEgress(netfilter.EgressConfig{
			Policy: network, Denials: m.request.Denials, Gate: m.gate, Ports: m.ports, Bind: p.Bind, Confine: m.confine,
			SharedAbstract: !p.Namespaces.Has(specs.NetworkNamespace) && !scoped(p),
		})
		if err != nil {
			return err
		}
		register(m.egress.Handlers())
	}
	if listen := unix.SYS_LISTEN; notified[listen] && (p.Bind.NeedsSupervisor() || m.gate.Wants(unix.SYS_BIND)) && !remap {
		handler, err := netfilter.NewListen(p.Bind, m.request.Denials, m.gate)
		if err != nil {
			return err
		}
		table.Handle(listen, handler)
	}
	if err := m.watchPaths(table); err != nil {
		return err
	}
	built, err := table.Build()
	if err != nil {
		return err
	}
	m.supervisor, err = seccompnotif.New(seccompnotif.Config{Table: built, Log: m.request.Log.Warnf})
	return err
}

// scoped says whether Landlock keeps the container from abstract Unix sockets outside.
func scoped(p *plan.Plan) bool {
	return p.Landlock != nil && p.Landlock.Handled.Scope != 0
}
