package oci

import (
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
)

// Processes lists the container's processes by their pids in the caller's PID namespace. A container without a cgroup shows its first
// process only; one that has stopped, none.
func (r *Runtime) Processes(id string) ([]int, error) {
	dir, record, status, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	group, err := loadCgroup(record)
	if err != nil {
		return nil, err
	}
	pids, err := group.PIDs()
	if errors.Is(err, cgroup.ErrAbsent) && status != specs.StateStopped && record.Init.PID > 0 {
		return []int{record.Init.PID}, nil
	}
	if err != nil && !errors.Is(err, cgroup.ErrAbsent) {
		return nil, err
	}
	return append([]int{}, pids...), nil
}
