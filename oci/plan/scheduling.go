package plan

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// Scheduling is what a process asks of the kernel's schedulers.
type Scheduling struct {
	CPU *specs.Scheduler       `json:"scheduler,omitempty"`
	IO  *specs.LinuxIOPriority `json:"ioPriority,omitempty"`
	// Affinity is of the processes of exec alone: Initial holds until they enter the container's cgroup, Final from then on.
	Affinity *specs.CPUAffinity `json:"execCPUAffinity,omitempty"`
}

// ioPriorityShift is IOPRIO_CLASS_SHIFT, and ofProcess is IOPRIO_WHO_PROCESS, of linux/ioprio.h.
const (
	ioPriorityShift = 13
	ofProcess       = 1
)

// schedule sets the process's scheduling, while it still has the privilege to.
func schedule(s *launch.Program, want Scheduling) {
	if want.CPU != nil {
		s.About("process.scheduler")
		attributes, err := configs.ToSchedAttr(want.CPU)
		if err != nil {
			panic(err) // the bundle has been validated
		}
		raw := unsafe.Slice((*byte)(unsafe.Pointer(attributes)), unsafe.Sizeof(*attributes))
		s.Call("sched_setattr", unix.SYS_SCHED_SETATTR, launch.Value(0),
			launch.Bytes(raw, fmt.Sprintf("{%s, nice %d, priority %d}", want.CPU.Policy, want.CPU.Nice, want.CPU.Priority)), launch.Value(0))
	}
	if want.IO != nil {
		s.About("process.ioPriority")
		class, _ := bundle.IOPriorityClass(want.IO.Class)
		s.Call("ioprio_set", unix.SYS_IOPRIO_SET, launch.Flags(ofProcess, "WHO_PROCESS"), launch.Value(0),
			launch.Flags(uint64(class<<ioPriorityShift|want.IO.Priority), fmt.Sprintf("%s|%d", want.IO.Class, want.IO.Priority)))
	}
	s.About("")
}

// pin binds the child to CPUs, a list such as "0-3,5"; an empty one changes nothing.
func pin(s *launch.Program, field, cpus string) {
	set, err := configs.ToCPUSet(cpus)
	if err != nil {
		panic(err) // the bundle has been validated
	}
	if set == nil {
		return
	}
	s.About("process.execCPUAffinity.%s", field)
	mask := bits(set)
	s.Call("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, launch.Value(0), launch.Value(uint64(len(mask))), launch.Bytes(mask, "{"+cpus+"}"))
	s.About("")
}

// bits is a set as the kernel takes it, as an array of long.
func bits(set *unix.CPUSet) []byte {
	var mask []byte
	for _, word := range set {
		mask = binary.NativeEndian.AppendUint64(mask, uint64(word))
	}
	return mask
}

// adopt sets what of the execution domain and of memory is the container's rather than a process's.
func (p *Plan) adopt(s *launch.Program) {
	if m := p.MemoryPolicy; m != nil {
		s.About("linux.memoryPolicy")
		mode, _ := bundle.MemoryPolicyMode(m.Mode)
		for _, flag := range m.Flags {
			bit, _ := bundle.MemoryPolicyFlag(flag)
			mode |= bit
		}
		nodes, err := configs.ToCPUSet(m.Nodes)
		if err != nil {
			panic(err) // the bundle has been validated
		}
		mask, size := launch.Null, uint64(0)
		if nodes != nil {
			raw := bits(nodes)
			// The kernel looks at one bit less than it is told of.
			mask, size = launch.Bytes(raw, "{"+m.Nodes+"}"), uint64(8*len(raw)+1)
		}
		s.Call("set_mempolicy", unix.SYS_SET_MEMPOLICY, launch.Flags(uint64(mode), string(m.Mode)), mask, launch.Value(size))
	}
	if d := p.Personality; d != "" {
		s.About("linux.personality")
		domain, _ := bundle.PersonalityDomain(d)
		s.Call("personality", unix.SYS_PERSONALITY, launch.Flags(domain, string(d)))
	}
	s.About("")
}
