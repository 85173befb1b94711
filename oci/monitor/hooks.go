package monitor

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/hooks"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// hookState is the state that a hook is given.
func (m *Monitor) hookState(status specs.ContainerState) *specs.State {
	s := m.request.State
	s.Pid, s.Status = m.pid, status
	return &s
}

// hooksBeforePivot run when the container's namespaces and tree are there and the old root has not been left.
func (m *Monitor) hooksBeforePivot() error {
	if m.request.Hooks == nil {
		return nil
	}
	for _, kind := range []hooks.Kind{hooks.Prestart, hooks.CreateRuntime, hooks.CreateContainer} {
		if err := m.run(kind, specs.StateCreating); err != nil {
			return err
		}
	}
	return nil
}

// hooksBeforeStart run in the container, before its program does.
func (m *Monitor) hooksBeforeStart() error { return m.run(hooks.StartContainer, specs.StateCreated) }

// hooksAfterStart run when the program does.
func (m *Monitor) hooksAfterStart() error { return m.run(hooks.Poststart, specs.StateRunning) }

func (m *Monitor) run(kind hooks.Kind, status specs.ContainerState) error {
	list := kind.Of(m.request.Hooks)
	if len(list) == 0 {
		return nil
	}
	var options []hooks.Option
	switch {
	case kind == hooks.StartContainer:
		options = append(options, hooks.With(m.spawnInside))
	case kind.InContainer():
		options = append(options, hooks.With(m.spawner(kind)))
	}
	if kind == hooks.StartContainer {
		options = append(options, hooks.DefaultEnv(m.request.Plan.Process.Env))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if m.request.Caller != nil && status == specs.StateCreating {
		// A creation whose caller has gone is given up: nobody waits for a hook that hangs.
		defer m.request.Caller.OnGone(cancel)()
	}
	return hooks.Run(ctx, kind, list, m.hookState(status), options...)
}

// spawnInside starts a hook whose program is the container's own: whoever made the image has written it, so it gets what the container's process gets, and
// nothing more.
func (m *Monitor) spawnInside(c *hooks.Command) (hooks.Process, error) {
	process := m.request.Plan.Process
	process.Path, process.Args, process.Env, process.Terminal = c.Path, c.Args, c.Env, false
	pid, pidfd, err := Join(JoinRequest{
		Plan: m.request.Plan, Process: process, InitPID: m.pid, Init: m.init, Cgroup: m.request.Cgroup, Monitor: inProcess{m},
		FilterCache: m.request.FilterCache, Streams: []*os.File{c.Stdin, c.Stdout, c.Stderr},
	})
	if err != nil {
		return nil, err
	}
	return &hookProcess{pid: pid, pidfd: pidfd, close: pidfd.Close}, nil
}

// inProcess is the monitor for what it starts itself.
type inProcess struct{ *Monitor }

func (m inProcess) Ruleset() (*os.File, error) {
	if m.ruleset == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(m.ruleset.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl(F_DUPFD_CLOEXEC): %w", err)
	}
	return os.NewFile(uintptr(fd), "ruleset"), nil
}

func (m inProcess) Listen(listener *os.File, pid int) error {
	fd, err := unix.FcntlInt(listener.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fcntl(F_DUPFD_CLOEXEC): %w", err)
	}
	return m.supervise(os.NewFile(uintptr(fd), "listener"), pid) // which closes it
}

// spawner starts hooks in the container's namespaces, with the host's root as the container sees it before the pivot.
func (m *Monitor) spawner(kind hooks.Kind) hooks.Spawner {
	return func(c *hooks.Command) (hooks.Process, error) {
		p := m.request.Plan
		own, err := sameNamespace(m.pid, "user")
		if err != nil {
			return nil, err
		}
		pidNamespace, err := os.Open("/proc/" + strconv.Itoa(m.pid) + "/ns/pid")
		if err != nil {
			return nil, err
		}
		defer pidNamespace.Close()

		s := launch.New()
		s.About("join the container")
		s.Call("setpgid", unix.SYS_SETPGID, launch.Value(0), launch.Value(0))
		flags, names := p.Namespaces.Joined(!own)
		s.Setns(launch.Inherited(int(m.init.Fd()), "container"), flags, names)
		if kind == hooks.CreateContainer {
			// Joining a mount namespace leads to its topmost root. The hook's path is one of the root that the container is about to leave.
			root, err := os.OpenFile("/proc/"+strconv.Itoa(m.pid)+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return nil, err
			}
			defer root.Close()
			s.Fchdir(launch.Inherited(int(root.Fd()), "root"))
			s.Chroot(".")
		}
		for number, file := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
			s.Dup3(launch.Inherited(int(file.Fd()), "stream"), number)
		}
		s.Unblock()
		s.CloseOnExec(3)
		s.About("execute %s", c.Path)
		s.Execve(c.Path, launch.Strings(c.Args, "args"), launch.Strings(c.Env, "environment"))
		child, err := launch.Start(s, launch.Options{PIDNamespace: pidNamespace})
		if err != nil {
			return nil, err
		}
		h := &hookProcess{pid: child.PID, pidfd: child.PIDFD, close: func() error {
			child.Close()
			return child.PIDFD.Close()
		}}
		if _, err := child.Wait(); err != nil {
			_ = h.Wait() // only to reap it
			return nil, err
		}
		return h, nil
	}
}

// hookProcess is a hook that runs in the container.
type hookProcess struct {
	pid   int
	pidfd *os.File
	close func() error
}

// Wait implements [hooks.Process].
func (h *hookProcess) Wait() error {
	defer func() { _ = h.close() }() // descriptors that hold nothing back
	Ended(h.pidfd)
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(h.pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait4: %w", err)
		}
		break
	}
	if status.Signaled() {
		return fmt.Errorf("signal: %s", unix.SignalName(status.Signal()))
	}
	if status.ExitStatus() != 0 {
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}

// Kill implements [hooks.Process].
func (h *hookProcess) Kill() { _ = unix.Kill(-h.pid, unix.SIGKILL) } // it may have ended
