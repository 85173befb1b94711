package state

import "github.com/opencontainers/runtime-spec/specs-go"

// StatePaused is runc's addition to the states of the runtime specification.
const StatePaused specs.ContainerState = "paused"

// Facts is what the machine says at the moment about a container's processes.
type Facts struct {
	BootID  string
	Init    ProcessFacts
	Monitor ProcessFacts
	Frozen  bool // the cgroup is; see cgroup.Manager
}

// Observe collects the facts on r, Frozen excepted, which the caller asks the cgroup for.
func Observe(r *Record) (Facts, error) {
	boot, err := BootID()
	if err != nil {
		return Facts{}, err
	}
	init, err := ObserveProcess(r.Init.PID)
	if err != nil {
		return Facts{}, err
	}
	monitor, err := ObserveProcess(r.Monitor.PID)
	if err != nil {
		return Facts{}, err
	}
	return Facts{BootID: boot, Init: init, Monitor: monitor}, nil
}

// Status says where in its life a container is:
//
//	creating  there is no init yet, and its creator is at work
//	created   init waits for start
//	running   init runs
//	paused    init runs, and its cgroup is frozen
//	stopped   init has ended, even if nobody has reaped it; or the creator died before there was one
func Status(r *Record, f Facts) specs.ContainerState {
	sameBoot := r.BootID == f.BootID
	switch {
	case !sameBoot || r.Exit != nil:
		return specs.StateStopped
	case r.Init == Process{}:
		if f.Monitor.Is(r.Monitor) {
			return specs.StateCreating
		}
		return specs.StateStopped
	case !f.Init.Is(r.Init):
		return specs.StateStopped
	case f.Frozen:
		return StatePaused
	case !r.Started:
		return specs.StateCreated
	}
	return specs.StateRunning
}

// MonitorAlive tells whether the monitor of the record is the process that runs.
func MonitorAlive(r *Record, f Facts) bool {
	return r.BootID == f.BootID && f.Monitor.Is(r.Monitor)
}
