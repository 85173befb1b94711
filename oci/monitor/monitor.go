package monitor

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/caller"
	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/agent"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

// Request is what a container is made from.
type Request struct {
	Plan   *plan.Plan
	Hooks  *specs.Hooks
	Cgroup *cgroup.Manager
	// Entrance waits until the cgroup is there and opens it.
	Entrance func() (*cgroup.Entrance, error)
	// State is the container's state for hooks: everything but pid and status.
	State specs.State
	// Caller is the process that this one was split from, which is to be the parent of the container's first process; nil to be
	// the parent oneself.
	Caller *caller.Process
	// PreserveFDs is how many descriptors from 3 up the first process keeps.
	PreserveFDs int
	// NewKeyring gives the container a session keyring of its own.
	NewKeyring bool
	// FilterCache is a directory for compiled filters.
	FilterCache string
	// Meanwhile is called once the first process is on its way: what it does takes no time of the start.
	Meanwhile func() error
	// Console takes the master of the first process's terminal, where it has one.
	Console func(master *os.File) error
	// Started is told that the first process is about to run its program; an error keeps it from that.
	Started func() error
	// Denials records what the policy refuses, and what it allows to be on record.
	Denials AuditLog
	// Agent is who is asked about what the container does; nil where the plan has none.
	Agent *agent.Conn
	// Limit puts limits in force that the agent asks for, beside those of the policy.
	Limit func(policy.Limits) error
	Log   *logrus.Logger
}

// Monitor is a container in the hands of its monitor. Its methods are safe for concurrent use once [Launch] has returned.
type Monitor struct {
	request    Request
	supervisor *seccompnotif.Supervisor
	egress     *netfilter.Egress    // nil where no call is made on the container's behalf
	gate       *seccompnotif.Gate   // nil without an agent
	ruleset    *os.File             // nil without Landlock
	denied     *chroot.DeniedPaths  // nil without an agent
	places     []*os.File           // of the container, for denied
	ports      *netfilter.PortSpace // nil unless the container's ports are its own
	views      *onbehalf.Engine     // opens what shows the container's ports; nil unless these are its own
	leash      *leash

	pid  int
	init *os.File // pidfd of the container's first process

	memory, processes allowance // the agent's to move

	mu      sync.Mutex
	parked  *launch.Child // nil once started
	started bool
}

// PID is the container's first process's, in the monitor's PID namespace.
func (m *Monitor) PID() int { return m.pid }

// Pidfd refers to the container's first process. It stays the monitor's.
func (m *Monitor) Pidfd() *os.File { return m.init }

// Waited blocks until the container's first process has ended. It may still be a zombie then.
func (m *Monitor) Waited() { Ended(m.init) }

// Ended blocks until a process has ended. Nothing in a process that traces may wait for its children in any other way: wait4(2) would take news
// that are the tracer's.
func Ended(pidfd *os.File) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Signal sends a signal to the container's first process; it is no error that it has ended.
func (m *Monitor) Signal(signal unix.Signal) error {
	err := unix.PidfdSendSignal(int(m.init.Fd()), signal, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signalling the container's init: %w", err)
	}
	return nil
}

// Close ends a container under construction, or lets go of one that has ended.
func (m *Monitor) Close() {
	if m.init != nil {
		_ = m.Signal(unix.SIGKILL) // a descendant, or of root's: nobody may keep it from that
		m.Waited()
	}
	if m.parked != nil {
		m.parked.Close()
	}
	if m.leash != nil {
		m.leash.release()
	}
	if m.request.Agent != nil {
		m.request.Agent.Close()
	}
	if m.supervisor != nil {
		_ = m.supervisor.Close() // the workload is gone, and nobody waits for answers
	}
	if m.gate != nil {
		m.gate.Close()
	}
	if m.denied != nil {
		_ = m.denied.Close() // there is nothing to be written
	}
	if m.views != nil {
		_ = m.views.Close() // as above
	}
	for _, f := range append([]*os.File{m.ruleset, m.init}, m.places...) {
		if f != nil {
			f.Close()
		}
	}
}
