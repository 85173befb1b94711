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
	if kind.InContainer() {
		options = append(options, hooks.With(m.spawner(kind)))
	}
	if kind == hooks.StartContainer {
		options = append(options, hooks.DefaultEnv(m.request.Plan.Process.Env))
	}
	return hooks.Run(context.Background(), kind, list, m.hookState(status), options...)
}

// spawner starts hooks in the container's namespaces: with the host's root as the container sees it before the pivot, or with
// the container's.
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
			s.Call("chroot", unix.SYS_CHROOT, launch.Text("."))
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
		h := &hookProcess{child}
		if _, err := child.Wait(); err != nil {
			_ = h.Wait() // only to reap it
			return nil, err
		}
		return h, nil
	}
}

// hookProcess is a hook that runs in the container.
type hookProcess struct{ child *launch.Child }

// Wait implements [hooks.Process].
func (h *hookProcess) Wait() error {
	defer h.child.Close()
	defer h.child.PIDFD.Close()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(h.child.PID, &status, 0, nil)
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
func (h *hookProcess) Kill() { _ = unix.Kill(-h.child.PID, unix.SIGKILL) } // it may have ended
