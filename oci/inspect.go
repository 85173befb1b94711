package oci

import (
	"errors"
	"io/fs"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Inspection is what is in force for a container.
type Inspection struct {
	State   state.View  `json:"state"`
	Monitor MonitorView `json:"monitor"`
	// Exit says how the container ended; nil where that is not on record.
	Exit *state.Exit `json:"exit,omitempty"`
	// Plan is what the container was made by, with the limits as update has left them; nil where nothing was made but a record.
	Plan *plan.Plan `json:"plan,omitempty"`
	// Ports are the TCP ports that a running container has bound, where they are its own.
	Ports []netfilter.Binding `json:"ports,omitempty"`
	// Seccomp is the spec's own filter, which the plan's JSON form leaves out.
	Seccomp *specs.LinuxSeccomp `json:"seccomp,omitempty"`
}

// MonitorView is the process that watches over the container.
type MonitorView struct {
	PID     int  `json:"pid"`
	Running bool `json:"running"`
}

// Inspect reads what is on record of a container, and looks where in its life it is.
func (r *Runtime) Inspect(id string) (Inspection, error) {
	dir, record, status, err := r.open(id)
	if err != nil {
		return Inspection{}, err
	}
	defer dir.Close()
	facts, err := state.Observe(record)
	if err != nil {
		return Inspection{}, err
	}
	i := Inspection{
		State:   state.NewView(record, status),
		Monitor: MonitorView{PID: record.Monitor.PID, Running: state.MonitorAlive(record, facts)},
		Exit:    record.Exit,
	}
	if uid, err := dir.Owner(); err == nil {
		i.State.Owner = state.OwnerName(uid)
	}
	// A creation that was cut short may have got no further than the record.
	if i.Plan, err = loadPlan(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Inspection{}, err
	}
	if i.Plan != nil {
		i.Seccomp = i.Plan.Seccomp
		if i.Plan.Policy.Network.PortRemap && i.Monitor.Running {
			if i.Ports, err = client(dir).Ports(); err != nil {
				r.Log.Warnf("%v", err) // the monitor may have ended meanwhile
			}
		}
	}
	return i, nil
}
