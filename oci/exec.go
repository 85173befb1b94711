package oci

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/state"
	"github.com/sandlock/sandlock-runtime/oci/terminal"
)

// Exec runs a further process in a running container, under the same policy. Without Detach it returns the process's exit code when that has
// ended.
func (r *Runtime) Exec(id string, o ExecOptions) (exitCode int, err error) {
	dir, record, status, err := r.open(id)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	switch {
	case status == specs.StateStopped:
		return 0, errors.New("cannot exec in a stopped container")
	case status == state.StatePaused && !o.IgnorePaused:
		return 0, errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	case status == specs.StateCreating:
		return 0, errors.New("cannot exec in a container that is still being created")
	}
	p, err := loadPlan(dir)
	if err != nil {
		return 0, err
	}
	process, err := r.execProcess(dir, o)
	if err != nil {
		return 0, err
	}
	if err := terminal.Check(process.Terminal, o.Detach, o.ConsoleSocket); err != nil {
		return 0, err
	}
	if err := checkPreserved(o.PreserveFDs); err != nil {
		return 0, err
	}
	init, err := openProcess(record.Init)
	if err != nil {
		return 0, err
	}
	if init == nil {
		return 0, errors.New("cannot exec in a stopped container")
	}
	defer init.Close()
	group, err := loadCgroup(record)
	if err != nil {
		return 0, err
	}
	if err := enterAbove(record.Init.PID); err != nil {
		return 0, err
	}
	home, err := homeInside(record.Init.PID, process.User.UID)
	if err != nil {
		return 0, err
	}
	joining := plan.NewProcess(process, home)
	if err := p.CheckExec(joining, len(o.AdditionalGIDs) > 0 || os.Geteuid() != 0); err != nil {
		return 0, err
	}
	e := &execution{runtime: r, options: o}
	console, err := consoleTaker(process.Terminal, o.ConsoleSocket, &e.relay)
	if err != nil {
		return 0, err
	}
	return e.run(monitor.JoinRequest{
		Plan: p, Process: joining, InitPID: record.Init.PID, Init: init, Running: record.Started, Cgroup: group, Below: o.Cgroups, Monitor: client(dir),
		PreserveFDs: o.PreserveFDs, FilterCache: r.filterCache(), Console: console,
		State: specs.State{
			Version: specs.Version, ID: record.ID, Status: specs.StateRunning, Pid: record.Init.PID, Bundle: record.Bundle, Annotations: record.Annotations,
		},
		Started: o.announce,
	})
}

// execProcess composes the process from the container's own and the options, or reads it from a file.
func (r *Runtime) execProcess(dir *state.Dir, o ExecOptions) (*specs.Process, error) {
	var process *specs.Process
	var warnings []string
	var err error
	if o.Process != "" {
		process, warnings, err = bundle.LoadProcess(o.Process)
	} else {
		var spec *specs.Spec
		if spec, err = loadSpec(dir); err != nil {
			return nil, err
		}
		process, warnings, err = bundle.ExecProcess(spec.Process, bundle.ExecOptions{
			Args: o.Args, Cwd: o.Cwd, Env: o.Env, TTY: o.TTY, User: o.User, AdditionalGIDs: o.AdditionalGIDs, Caps: o.Caps,
			NoNewPrivs: o.NoNewPrivs, AppArmor: o.AppArmor, ProcessLabel: o.ProcessLabel,
		})
	}
	for _, warning := range warnings {
		r.Log.Warn(warning)
	}
	return process, err
}

// homeInside is the home directory of a user in a running container.
func homeInside(pid int, uid uint32) (string, error) {
	root, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("the container's root: %w", err)
	}
	defer unix.Close(root)
	return monitor.Home(root, uid), nil
}

// execution is a process in a container while this process stays with it.
type execution struct {
	runtime *Runtime
	options ExecOptions
	relay   *terminal.Relay
}

func (e *execution) run(request monitor.JoinRequest) (int, error) {
	defer func() {
		if e.relay != nil {
			e.relay.Close()
		}
	}()
	pid, pidfd, err := monitor.Join(request)
	if err != nil {
		return 0, err
	}
	defer pidfd.Close()
	if e.options.Detach {
		return 0, nil
	}
	stop := forwardSignals(func(s unix.Signal) error { return unix.PidfdSendSignal(int(pidfd.Fd()), s, nil, 0) })
	defer stop()
	status, err := reap(pid)
	if err != nil {
		return 0, fmt.Errorf("wait4: %w", err)
	}
	if e.relay != nil {
		if err := e.relay.Finish(); err != nil {
			e.runtime.Log.Warn(err)
		}
	}
	return exitCode(status), nil
}

// announce tells those who asked to be told of a process before it runs anything.
func (o ExecOptions) announce(pid int, pidfd *os.File) error {
	if o.PidfdSocket != "" {
		if err := sendPidfd(o.PidfdSocket, pidfdOfExec, pidfd); err != nil {
			return err
		}
	}
	return writePidFile(o.PidFile, pid)
}
