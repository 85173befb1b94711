package monitor

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/oci/plan"
)

// Launch makes the container up to the point where only execve is missing: it is "created". On error nothing is left.
func Launch(r Request) (m *Monitor, err error) {
	m = &Monitor{request: r}
	defer func() {
		if err != nil {
			m.Close()
			m = nil
		}
	}()
	place := launch.Unshare(r.Plan.Namespaces.Early())
	held, err := m.hold()
	if held.sources != nil {
		defer held.sources.Close()
	}
	defer held.close()
	if err != nil {
		place.Close()
		return m, err
	}
	l := r.Plan.Init(held.Held)
	l.Options.Place = place
	l.Options.Sibling = r.Caller != nil
	l.Options.PIDNamespace = held.pidNamespace
	if held.into > 0 {
		l.Options.Cgroup = held.into
	}
	if err := raiseLimits(r.Plan.Process.Rlimits); err != nil {
		return m, err
	}
	child, err := launch.Start(l.Program, l.Options)
	if err != nil {
		return m, err
	}
	m.parked, m.pid, m.init = child, child.PID, child.PIDFD
	if r.Caller != nil {
		stop := m.abortWithCaller()
		defer stop()
	}
	if err := r.Meanwhile(); err != nil {
		return m, err
	}
	if err := m.walk(l); err != nil {
		return m, err
	}
	return m, nil
}

// Program lists the launch program that [Launch] would walk.
func Program(r Request) (string, error) {
	m := &Monitor{request: r}
	defer m.Close()
	held, err := m.hold()
	if held.sources != nil {
		defer held.sources.Close()
	}
	defer held.close()
	if err != nil {
		return "", err
	}
	return r.Plan.Init(held.Held).Program.String(), nil
}

// walk goes with the child from one sync point to the next.
func (m *Monitor) walk(l *plan.Launch) error {
	p := m.request.Plan
	for {
		at, err := m.parked.Wait()
		// It may have hopped, and failed after that.
		m.pid, m.init = m.parked.PID, m.parked.PIDFD
		if err != nil {
			return m.explain(err)
		}
		switch at {
		case l.Born:
			if p.Namespaces.New(specs.UserNamespace) {
				if err := writeIDMaps(m.pid, p); err != nil {
					return err
				}
				// Here it can be written by an ordinary user; see [plan.Held].
				if err := setOOMScore(m.pid, p.Process.OOMScoreAdj); err != nil {
					return err
				}
			}
			if m.request.Cgroup.NeedsPID() {
				if err := m.request.Cgroup.Apply(m.pid); err != nil {
					return err
				}
			}
			if err := moveDevices(m.pid, p.NetDevices); err != nil {
				return err
			}
		case l.Mounted:
			if err := m.mounted(l); err != nil {
				return err
			}
		case l.Parked:
			return m.created(l)
		case launch.Done:
			return errors.New("the launched process ended before it was started")
		}
		if err := m.parked.Proceed(); err != nil {
			return err
		}
		if at == l.Mounted {
			// Not before: while device rules are being written, no device can be made or opened. Nor later: the workload comes next.
			if err := m.request.Cgroup.Limit(); err != nil {
				return err
			}
		}
	}
}

// mounted is the moment between the container's tree and the loss of the old root.
func (m *Monitor) mounted(l *plan.Launch) error {
	p := m.request.Plan
	if err := setOOMScore(m.pid, p.Process.OOMScoreAdj); err != nil {
		return err
	}
	if m.ruleset != nil {
		root, err := m.parked.Take(l.Root)
		if err != nil {
			return err
		}
		defer root.Close()
		if err := m.rules(root); err != nil {
			return err
		}
		if l.HasQueues && m.parked.Result(l.Queues) >= 0 {
			queues, err := m.parked.Take(l.Queues)
			if err != nil {
				return err
			}
			defer queues.Close()
			if err := m.request.Plan.Landlock.AddTree(int(m.ruleset.Fd()), int(queues.Fd())); err != nil {
				return fmt.Errorf("message queues: %w", err)
			}
		}
	}
	return m.hooksBeforePivot()
}

// created takes over what the child has got and has the rest of the world told.
func (m *Monitor) created(l *plan.Launch) error {
	defer m.listenToAgent()
	if l.HasListener {
		listener, err := m.parked.Take(l.Listener)
		if err != nil {
			return err
		}
		if err := m.supervise(listener, m.pid); err != nil {
			return err
		}
		if m.leash, err = newLeash(m.pid); err != nil {
			return fmt.Errorf("tying the container to its monitor: %w", err)
		}
		if m.request.Caller != nil {
			if err := m.request.Caller.Tie(m.pid); err != nil {
				return err
			}
		}
	}
	state := m.request.State
	state.Status, state.Pid = specs.StateCreating, m.pid
	if err := handOver(m.parked, l, m.request.Plan.Seccomp, state); err != nil {
		return err
	}
	if l.HasTerminal {
		master, err := m.parked.Take(l.Terminal)
		if err != nil {
			return err
		}
		if err := m.request.Console(master); err != nil {
			return err
		}
	}
	return nil
}

// abortWithCaller kills the child when the calling process dies before the container is created. The function it returns ends that
// watch.
func (m *Monitor) abortWithCaller() (stop func()) {
	child := m.parked
	return m.request.Caller.OnGone(func() { _ = child.Kill() }) // it may have ended
}

// explain adds to an error of the launch what is known besides.
func (m *Monitor) explain(err error) error {
	if m.request.Caller != nil && m.request.Caller.Gone() {
		return errors.New("the calling process has ended; the container is given up")
	}
	return err
}

// held is what the parent keeps open while the child starts.
type held struct {
	plan.Held
	sources      *chroot.Sources
	pidNamespace *os.File
	into         int
	files        []*os.File
	closers      []func() error
}

func (h *held) close() {
	for _, f := range h.files {
		f.Close()
	}
	for _, closer := range h.closers {
		_ = closer() // descriptors that were only read
	}
}

// hold opens and compiles all that the launch program refers to.
func (m *Monitor) hold() (h held, err error) {
	p := m.request.Plan
	h.Preserve = m.request.PreserveFDs
	if m.request.NewKeyring {
		h.SessionKey = "_ses." + p.ID
	}
	if err := h.openNamespaces(p.Namespaces); err != nil {
		return h, err
	}
	if p.Landlock != nil {
		fd, err := p.Landlock.New()
		if err != nil {
			return h, err
		}
		m.ruleset = os.NewFile(uintptr(fd), "ruleset")
		ruleset := launch.Inherited(fd, "ruleset")
		h.Ruleset = &ruleset
	}
	h.Overlay, h.Spec, h.SpecFlags, err = filters(p, p.Process, m.request.FilterCache)
	if err != nil {
		return h, err
	}
	if !p.Process.Terminal {
		h.Null = nullStreams()
	}
	// The cgroup is being made while all this is done; the mount map may have a place for it.
	entrance, err := m.request.Entrance()
	if err != nil {
		return h, err
	}
	h.Wait = m.request.Cgroup.NeedsPID()
	h.User = os.Geteuid() != 0
	h.enter(entrance)
	if h.sources, err = chroot.Open(p.Root); err != nil {
		return h, err
	}
	h.Sources = h.sources
	return h, nil
}

// enter has the child born in, or go into, a cgroup.
func (h *held) enter(e *cgroup.Entrance) {
	h.closers = append(h.closers, e.Close)
	h.into = e.Into
	for _, tasks := range e.Tasks {
		h.Cgroup = append(h.Cgroup, launch.Inherited(tasks, "tasks"))
	}
}

func (h *held) openNamespaces(list plan.Namespaces) error {
	for _, ns := range list {
		if ns.Path == "" {
			continue
		}
		f, err := os.Open(ns.Path)
		if err != nil {
			return fmt.Errorf("linux.namespaces: %s: %w", ns.Type, err)
		}
		h.files = append(h.files, f)
		if ns.Type == string(specs.PIDNamespace) {
			h.pidNamespace = f
			continue
		}
		if h.Namespaces == nil {
			h.Namespaces = make(map[string]launch.FD)
		}
		h.Namespaces[ns.Type] = launch.Inherited(int(f.Fd()), ns.Type+" namespace")
	}
	return nil
}

// nullStreams are the standard descriptors that are the host's /dev/null: the workload gets its own instead.
func nullStreams() []int {
	var null unix.Stat_t
	if err := unix.Stat("/dev/null", &null); err != nil {
		return nil
	}
	var list []int
	for fd := 0; fd <= 2; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == null.Rdev {
			list = append(list, fd)
		}
	}
	return list
}
