package policy

import "slices"

// FromAnnotation is what [Policy.Provenance] calls a source that is an annotation.
const FromAnnotation = "annotation"

// Policy is what all sources together ask beyond the spec. The zero value asks
// for nothing. It is a plain value: it can be compared with reflect.DeepEqual,
// and its JSON form decodes to the same value.
type Policy struct {
	// Profiles are the names of the profiles applied, in order.
	Profiles []string `json:"profiles,omitempty"`
	// Isolation is the kind of root and namespaces; "" is Auto.
	Isolation  Isolation  `json:"isolation,omitempty"`
	Filesystem Filesystem `json:"filesystem,omitzero"`
	Network    Network    `json:"network,omitzero"`
	Limits     Limits     `json:"limits,omitzero"`
	Syscalls   Syscalls   `json:"syscalls,omitzero"`
	// Socket is the host path of the agent that judges what the container does, or "".
	Socket string `json:"socket,omitempty"`
	// Protections has the levels that differ from Strict or were stated. Ask
	// through Protection.
	Protections map[string]Level `json:"protections,omitempty"`
	// Provenance says for each key which sources gave it, in order: "FILE:LINE"
	// or "annotation".
	Provenance map[string][]string `json:"provenance,omitempty"`
}

// Filesystem is the policy on paths. All paths are container paths, absolute and
// clean; each means itself and everything beneath.
type Filesystem struct {
	// Restricted says that Read and Write are in force. If not, the whole root
	// may be used as the spec has it.
	Restricted bool `json:"restricted,omitempty"`
	// Read may be read only. No path of it lies beneath one of Write.
	Read []string `json:"read,omitempty"`
	// Write may be read and changed.
	Write []string `json:"write,omitempty"`
	// Deny is out of reach, whatever Read and Write say.
	Deny []string `json:"deny,omitempty"`
	// Mounts are made beside those of the spec.
	Mounts []Mount `json:"mounts,omitempty"`
}

// Mount is a bind mount of a host path.
type Mount struct {
	Container string `json:"container"`
	Host      string `json:"host"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// Network is the policy on egress and on TCP ports. Rules are endpoint rules and lists of ports as written.
type Network struct {
	// Allow has one layer for each source that gave an allow list; a destination
	// must be permitted by every layer. An empty layer permits nothing; no layer
	// at all restricts nothing.
	Allow [][]string `json:"allow,omitempty"`
	// Deny is refused, whatever Allow says.
	Deny []string `json:"deny,omitempty"`
	// DenyFrom says for each rule of Deny which source gave it first, as Policy.Provenance spells it.
	DenyFrom []string `json:"denyFrom,omitempty"`
	// AllowBind and DenyBind are the same for the TCP ports that may be bound.
	AllowBind [][]string `json:"allowBind,omitempty"`
	DenyBind  []string   `json:"denyBind,omitempty"`
	// PortRemap gives the container TCP ports of its own.
	PortRemap bool `json:"portRemap,omitempty"`
}

// Restricted says whether any egress rule is in force.
func (n Network) Restricted() bool { return len(n.Allow) > 0 || len(n.Deny) > 0 }

// Limits are resource limits; 0 or empty is no limit.
type Limits struct {
	Memory    int64  `json:"memory,omitempty"`    // bytes
	Processes int64  `json:"processes,omitempty"` // count
	OpenFiles int64  `json:"openFiles,omitempty"` // per process
	CPU       int64  `json:"cpu,omitempty"`       // percent of one core
	CPUCores  CPUSet `json:"cpuCores,omitempty"`  // CPUs that may be used
}

// Syscalls changes the default denials. Deny wins over Allow.
type Syscalls struct {
	Deny  []string `json:"deny,omitempty"`  // names or groups, denied beside the defaults
	Allow []string `json:"allow,omitempty"` // names or groups, no longer denied by default
}

// Isolation is the kind of root and namespaces.
type Isolation string

// Kinds of isolation.
const (
	Auto       Isolation = "auto"       // the strongest that spec and host permit
	Namespaces Isolation = "namespaces" // the kernel's, or an error
)

// Level says what becomes of a protection that the kernel lacks.
type Level string

// Levels of a protection.
const (
	Strict  Level = "strict"  // an error; the default
	Degrade Level = "degrade" // do without
	Off     Level = "off"     // do without even where the kernel has it
)

// rank orders levels from loose to strict.
func (l Level) rank() int {
	switch l {
	case Off:
		return 0
	case Degrade:
		return 1
	}
	return 2
}

// protections are the names that protection.NAME takes.
var protections = [...]string{
	"fs_refer", "fs_truncate", "net_tcp", "fs_ioctl_dev", "signal_scope", "abstract_unix_scope",
}

// ProtectionNames returns the protections in order of the Landlock ABI that they
// came with.
func ProtectionNames() []string { return slices.Clone(protections[:]) }

// Protection returns the level of a protection by its name.
func (p Policy) Protection(name string) Level {
	if level, stated := p.Protections[name]; stated {
		return level
	}
	return Strict
}
