package plan

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/policy"
)

const capMknod = unix.CAP_MKNOD

// cpuPeriod is the kernel's default cfs_period_us, in microseconds.
const cpuPeriod = 100_000

// Tighten is the spec with the policy's limits laid over its resources: the lower one counts. The spec given is left untouched.
func Tighten(spec *specs.Spec, limits policy.Limits) (*specs.Spec, error) {
	resources, err := limitResources(spec.Linux.Resources, limits)
	if err != nil {
		return nil, err
	}
	if resources == spec.Linux.Resources {
		return spec, nil
	}
	out, linux := *spec, *spec.Linux
	linux.Resources = resources
	out.Linux = &linux
	return &out, nil
}

// InForce is what the container's cgroup is to enforce: the plan's resources, with what the agent has narrowed laid over.
func (p *Plan) InForce() (*specs.LinuxResources, error) {
	return limitResources(p.Resources, p.Narrowed)
}

// limitResources lays the policy's limits over the spec's: the lower one counts. The spec's own value is left untouched.
func limitResources(spec *specs.LinuxResources, limits policy.Limits) (*specs.LinuxResources, error) {
	if limits.Memory == 0 && limits.Processes == 0 && limits.CPU == 0 && len(limits.CPUCores) == 0 {
		return spec, nil
	}
	var out specs.LinuxResources
	if spec != nil {
		out = *spec
	}
	if limits.Memory > 0 {
		memory := specs.LinuxMemory{}
		if out.Memory != nil {
			memory = *out.Memory
		}
		limit := lower(memory.Limit, limits.Memory)
		// Swap beyond the limit would be memory under another name.
		swap := lower(memory.Swap, limit)
		memory.Limit, memory.Swap = &limit, &swap
		out.Memory = &memory
	}
	if limits.Processes > 0 {
		pids := int64(0)
		if out.Pids != nil && out.Pids.Limit != nil {
			pids = *out.Pids.Limit
		}
		limit := lower(&pids, limits.Processes)
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	if limits.CPU > 0 || len(limits.CPUCores) > 0 {
		cpu, err := limitCPU(out.CPU, limits)
		if err != nil {
			return nil, err
		}
		out.CPU = cpu
	}
	return &out, nil
}

// lower is the lower of the spec's limit, where 0 or less is none, and the policy's.
func lower(spec *int64, limit int64) int64 {
	if spec != nil && *spec > 0 && *spec < limit {
		return *spec
	}
	return limit
}

func limitCPU(spec *specs.LinuxCPU, limits policy.Limits) (*specs.LinuxCPU, error) {
	var cpu specs.LinuxCPU
	if spec != nil {
		cpu = *spec
	}
	if limits.CPU > 0 {
		period := uint64(cpuPeriod)
		if cpu.Period != nil && *cpu.Period > 0 {
			period = *cpu.Period
		}
		quota := lower(cpu.Quota, int64(period)*limits.CPU/100)
		cpu.Period, cpu.Quota = &period, &quota
	}
	if len(limits.CPUCores) > 0 {
		cores := limits.CPUCores
		if cpu.Cpus != "" {
			given, err := policy.ParseCPUSet(cpu.Cpus)
			if err != nil {
				return nil, fmt.Errorf("linux.resources.cpu.cpus: %w", err)
			}
			cores = slices.DeleteFunc(slices.Clone(cores), func(cpu int) bool { return !slices.Contains(given, cpu) })
			if len(cores) == 0 {
				return nil, fmt.Errorf("limits.cpu_cores: %s has no CPU in common with linux.resources.cpu.cpus %s", limits.CPUCores, cpu.Cpus)
			}
		}
		cpu.Cpus = cores.String()
	}
	return &cpu, nil
}

const openFiles = "RLIMIT_NOFILE"

// limitOpenFiles lowers RLIMIT_NOFILE to n; 0 leaves it.
func (p *Process) limitOpenFiles(n int64) {
	if n <= 0 {
		return
	}
	limit := uint64(n)
	for i := range p.Rlimits {
		if r := &p.Rlimits[i]; r.Type == openFiles {
			r.Soft, r.Hard = min(r.Soft, limit), min(r.Hard, limit)
			return
		}
	}
	p.Rlimits = append(p.Rlimits, Rlimit{openFiles, limit, limit})
}
