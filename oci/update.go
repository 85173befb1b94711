package oci

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Update changes a container's limits. What changes does not name stays as it is, device rules stay in any case, and the limits of the
// container's policy hold on: none is raised above them. On error the former limits are in force.
func (r *Runtime) Update(id string, changes *specs.LinuxResources) error {
	return r.locked(id, func(dir *state.Dir, record *state.Record) error {
		group, err := loadLimits(record)
		if err != nil {
			return err
		}
		status, err := observe(record, group)
		if err != nil {
			return err
		}
		if status == specs.StateStopped || status == specs.StateCreating {
			return ofContainer(ErrNotRunning, id)
		}
		made, err := loadPlan(dir)
		if err != nil {
			return err
		}
		merged := &specs.Spec{Linux: &specs.Linux{Resources: mergeResources(made.Resources, changes)}}
		if merged, err = plan.Tighten(merged, made.Policy.Limits); err != nil {
			return err
		}
		made.Resources = merged.Linux.Resources
		inForce, err := made.InForce()
		if err != nil {
			return err
		}
		if err := group.Update(inForce); err != nil {
			return err
		}
		return keepLimits(dir, record, made, group.Config())
	})
}

// keepLimits stores limits that are in force, for the next update and for inspect.
func keepLimits(dir *state.Dir, record *state.Record, made *plan.Plan, config cgroup.Config) error {
	text, err := json.Marshal(made)
	if err != nil {
		return fmt.Errorf("%s: %w", planFile, err)
	}
	if err := dir.WriteFile(planFile, text); err != nil {
		return err
	}
	if record.Cgroup, err = json.Marshal(config); err != nil {
		return err
	}
	return dir.Save(record)
}

// mergeResources lays changes over the limits in force, neither of which it touches.
func mergeResources(old, changes *specs.LinuxResources) *specs.LinuxResources {
	out := copyOf(old)
	// The rules for devices are those of the container's creation.
	out.Memory = mergeMemory(out.Memory, changes.Memory)
	out.CPU = mergeCPU(out.CPU, changes.CPU)
	out.BlockIO = mergeBlockIO(out.BlockIO, changes.BlockIO)
	if changes.Pids != nil && changes.Pids.Limit != nil {
		out.Pids = changes.Pids
	}
	if len(changes.HugepageLimits) > 0 {
		out.HugepageLimits = changes.HugepageLimits
	}
	if len(changes.Rdma) > 0 {
		out.Rdma = changes.Rdma
	}
	if changes.Network != nil {
		out.Network = changes.Network
	}
	if len(changes.Unified) > 0 {
		unified := make(map[string]string, len(out.Unified)+len(changes.Unified))
		for _, layer := range []map[string]string{out.Unified, changes.Unified} {
			for key, value := range layer {
				unified[key] = value
			}
		}
		out.Unified = unified
	}
	return &out
}

// copyOf is a copy of what a pointer leads to, or an empty value.
func copyOf[T any](from *T) T {
	if from == nil {
		return *new(T)
	}
	return *from
}

// set takes over a value that was given.
func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

func mergeMemory(old, changes *specs.LinuxMemory) *specs.LinuxMemory {
	if changes == nil {
		return old
	}
	out := copyOf(old)
	set(&out.Limit, changes.Limit)
	set(&out.Swap, changes.Swap)
	set(&out.Reservation, changes.Reservation)
	set(&out.Swappiness, changes.Swappiness)
	set(&out.DisableOOMKiller, changes.DisableOOMKiller)
	set(&out.UseHierarchy, changes.UseHierarchy)
	set(&out.CheckBeforeUpdate, changes.CheckBeforeUpdate)
	if changes.Limit != nil && *changes.Limit == -1 && changes.Swap == nil {
		// A swap limit means nothing where memory has none, and would be refused.
		none := int64(0)
		out.Swap = &none
	}
	return &out
}

func mergeCPU(old, changes *specs.LinuxCPU) *specs.LinuxCPU {
	if changes == nil {
		return old
	}
	out := copyOf(old)
	set(&out.Shares, changes.Shares)
	set(&out.Quota, changes.Quota)
	set(&out.Burst, changes.Burst)
	set(&out.Period, changes.Period)
	set(&out.RealtimeRuntime, changes.RealtimeRuntime)
	set(&out.RealtimePeriod, changes.RealtimePeriod)
	set(&out.Idle, changes.Idle)
	if changes.Cpus != "" {
		out.Cpus = changes.Cpus
	}
	if changes.Mems != "" {
		out.Mems = changes.Mems
	}
	if changes.Idle != nil && changes.Shares == nil {
		// An idle cgroup has no weight, and takes none (cgroup v2).
		none := uint64(0)
		out.Shares = &none
	}
	return &out
}

func mergeBlockIO(old, changes *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	if changes == nil {
		return old
	}
	out := copyOf(old)
	set(&out.Weight, changes.Weight)
	set(&out.LeafWeight, changes.LeafWeight)
	out.WeightDevice = mergeDevices(out.WeightDevice, changes.WeightDevice, func(to *specs.LinuxWeightDevice, from specs.LinuxWeightDevice) bool {
		if to.Major != from.Major || to.Minor != from.Minor {
			return false
		}
		set(&to.Weight, from.Weight)
		set(&to.LeafWeight, from.LeafWeight)
		return true
	})
	for _, list := range []struct {
		to   *[]specs.LinuxThrottleDevice
		from []specs.LinuxThrottleDevice
	}{
		{&out.ThrottleReadBpsDevice, changes.ThrottleReadBpsDevice}, {&out.ThrottleWriteBpsDevice, changes.ThrottleWriteBpsDevice},
		{&out.ThrottleReadIOPSDevice, changes.ThrottleReadIOPSDevice}, {&out.ThrottleWriteIOPSDevice, changes.ThrottleWriteIOPSDevice},
	} {
		*list.to = mergeDevices(*list.to, list.from, func(to *specs.LinuxThrottleDevice, from specs.LinuxThrottleDevice) bool {
			if to.Major != from.Major || to.Minor != from.Minor {
				return false
			}
			to.Rate = from.Rate
			return true
		})
	}
	return &out
}

// mergeDevices lays entries over those for the same device, and adds those for others. change says whether both are for one device,
// and changes the first one if so.
func mergeDevices[T any](old, changes []T, change func(to *T, from T) bool) []T {
	if len(changes) == 0 {
		return old
	}
	out := append([]T{}, old...)
next:
	for _, entry := range changes {
		for i := range out {
			if change(&out[i], entry) {
				continue next
			}
		}
		out = append(out, entry)
	}
	return out
}
