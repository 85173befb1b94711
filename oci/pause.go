package oci

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Pause stops every process of a container that runs or is created. It returns when they have stopped.
func (r *Runtime) Pause(id string) error {
	return r.withCgroup(id, func(group *cgroup.Manager, status specs.ContainerState) error {
		if status != specs.StateRunning && status != specs.StateCreated {
			return ofContainer(ErrNotRunning, id)
		}
		return group.Freeze()
	})
}

// Resume lets the processes of a paused container go on.
func (r *Runtime) Resume(id string) error {
	return r.withCgroup(id, func(group *cgroup.Manager, status specs.ContainerState) error {
		if status != state.StatePaused {
			return ofContainer(ErrNotPaused, id)
		}
		return group.Thaw()
	})
}

// withCgroup does something with a container's cgroup while no other verb changes the container.
func (r *Runtime) withCgroup(id string, do func(*cgroup.Manager, specs.ContainerState) error) error {
	return r.locked(id, func(_ *state.Dir, record *state.Record) error {
		group, status, err := loadStatus(record)
		if err != nil {
			return err
		}
		return do(group, status)
	})
}

// locked does something with a container while no other verb changes it.
func (r *Runtime) locked(id string, do func(*state.Dir, *state.Record) error) error {
	dir, err := state.Open(r.Root, id)
	if err != nil {
		return err
	}
	defer dir.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	unlock, err := dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }() // what was to be done is done
	record, err := dir.Load()
	if err != nil {
		return err
	}
	return do(dir, record)
}
