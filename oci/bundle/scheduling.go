package bundle

import (
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Bounds of what the kernel takes.
const (
	minNice       = -20 // MIN_NICE, linux/sched/prio.h
	maxNice       = 19  // MAX_NICE
	maxIOPriority = 7   // IOPRIO_NR_LEVELS - 1, linux/ioprio.h
)

// checkScheduling checks what a process asks of the schedulers, by the rules of runc.
func checkScheduling(prefix string, process *specs.Process) error {
	if s := process.Scheduler; s != nil {
		if err := checkScheduler(prefix+"scheduler", s); err != nil {
			return err
		}
	}
	if p := process.IOPriority; p != nil {
		if _, known := IOPriorityClass(p.Class); !known {
			return invalid(prefix+"ioPriority.class", "unknown class %q", p.Class)
		}
		if p.Priority < 0 || p.Priority > maxIOPriority {
			return invalid(prefix+"ioPriority.priority", "%d is not from 0 to %d", p.Priority, maxIOPriority)
		}
	}
	if a := process.ExecCPUAffinity; a != nil {
		for field, cpus := range map[string]string{"initial": a.Initial, "final": a.Final} {
			if _, err := configs.ToCPUSet(cpus); err != nil {
				return invalid(prefix+"execCPUAffinity."+field, "%q is no list of CPUs such as 0-3,5", cpus)
			}
		}
	}
	return nil
}

func checkScheduler(field string, s *specs.Scheduler) error {
	if s.Policy == "" {
		return missing(field + ".policy")
	}
	if _, err := configs.ToSchedAttr(s); err != nil {
		return invalid(field, "%v", err)
	}
	switch s.Policy {
	case specs.SchedOther, specs.SchedBatch:
		if s.Nice < minNice || s.Nice > maxNice {
			return invalid(field+".nice", "%d is not from %d to %d", s.Nice, minNice, maxNice)
		}
	}
	if s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR {
		return invalid(field+".priority", "%s has none, only SCHED_FIFO and SCHED_RR do", s.Policy)
	}
	if s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) {
		return invalid(field, "runtime, deadline and period are SCHED_DEADLINE's alone")
	}
	return nil
}

// IOPriorityClass is a class's number, IOPRIO_CLASS_ of linux/ioprio.h.
func IOPriorityClass(class specs.IOPriorityClass) (number int, known bool) {
	switch class {
	case specs.IOPRIO_CLASS_RT:
		return 1, true
	case specs.IOPRIO_CLASS_BE:
		return 2, true
	case specs.IOPRIO_CLASS_IDLE:
		return 3, true
	}
	return 0, false
}

// checkMemoryPolicy checks linux.memoryPolicy.
func checkMemoryPolicy(spec *specs.Spec) error {
	if spec.Linux == nil || spec.Linux.MemoryPolicy == nil {
		return nil
	}
	const field = "linux.memoryPolicy"
	m := spec.Linux.MemoryPolicy
	mode, known := MemoryPolicyMode(m.Mode)
	if !known {
		return invalid(field+".mode", "unknown mode %q", m.Mode)
	}
	for i, flag := range m.Flags {
		if _, known := MemoryPolicyFlag(flag); !known {
			return invalid(at(field+".flags", i), "unknown flag %q", flag)
		}
	}
	nodes, err := configs.ToCPUSet(m.Nodes)
	if err != nil {
		return invalid(field+".nodes", "%q is no list of nodes such as 0-3,5", m.Nodes)
	}
	none := nodes == nil || nodes.Count() == 0
	switch mode {
	case unix.MPOL_DEFAULT, unix.MPOL_LOCAL:
		if !none {
			return invalid(field+".nodes", "%s takes none", m.Mode)
		}
	case unix.MPOL_PREFERRED:
	default:
		if none {
			return invalid(field+".nodes", "%s needs at least one", m.Mode)
		}
	}
	return nil
}

// MemoryPolicyMode is a mode's number for set_mempolicy(2).
func MemoryPolicyMode(mode specs.MemoryPolicyModeType) (number int, known bool) {
	switch mode {
	case specs.MpolDefault:
		return unix.MPOL_DEFAULT, true
	case specs.MpolPreferred:
		return unix.MPOL_PREFERRED, true
	case specs.MpolBind:
		return unix.MPOL_BIND, true
	case specs.MpolInterleave:
		return unix.MPOL_INTERLEAVE, true
	case specs.MpolLocal:
		return unix.MPOL_LOCAL, true
	case specs.MpolPreferredMany:
		return unix.MPOL_PREFERRED_MANY, true
	case specs.MpolWeightedInterleave:
		return unix.MPOL_WEIGHTED_INTERLEAVE, true
	}
	return 0, false
}

// MemoryPolicyFlag is a flag's bit for set_mempolicy(2).
func MemoryPolicyFlag(flag specs.MemoryPolicyFlagType) (bit int, known bool) {
	switch flag {
	case specs.MpolFStaticNodes:
		return unix.MPOL_F_STATIC_NODES, true
	case specs.MpolFRelativeNodes:
		return unix.MPOL_F_RELATIVE_NODES, true
	case specs.MpolFNumaBalancing:
		return unix.MPOL_F_NUMA_BALANCING, true
	}
	return 0, false
}

// checkPersonality checks linux.personality. The specification defines no flags.
func (v *validator) checkPersonality(spec *specs.Spec) error {
	if spec.Linux == nil || spec.Linux.Personality == nil {
		return nil
	}
	const field = "linux.personality"
	p := spec.Linux.Personality
	if _, known := PersonalityDomain(p.Domain); !known {
		return invalid(field+".domain", "unknown domain %q, known are %s and %s", p.Domain, specs.PerLinux, specs.PerLinux32)
	}
	if len(p.Flags) > 0 {
		v.warn(field+".flags", "no flag is defined: ignored")
	}
	return nil
}

// PersonalityDomain is a domain's number for personality(2), linux/personality.h.
func PersonalityDomain(domain specs.LinuxPersonalityDomain) (number uint64, known bool) {
	switch domain {
	case specs.PerLinux:
		return 0x0, true
	case specs.PerLinux32:
		return 0x8, true
	}
	return 0, false
}
