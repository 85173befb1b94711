package plan

import (
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
)

// Process is the identity and the limits of one process of the container, resolved.
type Process struct {
	Path            string       `json:"-"` // of the program, where it is not to be found by Args[0]
	Args            []string     `json:"args"`
	Env             []string     `json:"env"`
	Cwd             string       `json:"cwd"`
	UID             uint32       `json:"uid"`
	GID             uint32       `json:"gid"`
	Groups          []uint32     `json:"groups,omitempty"`
	Umask           uint32       `json:"umask"`
	Capabilities    Capabilities `json:"capabilities"`
	NoNewPrivileges bool         `json:"noNewPrivileges"`
	AppArmor        string       `json:"apparmorProfile,omitempty"`
	Rlimits         []Rlimit     `json:"rlimits,omitempty"`
	OOMScoreAdj     *int         `json:"oomScoreAdj,omitempty"`
	Scheduling      Scheduling   `json:"scheduling,omitzero"`
	Terminal        bool         `json:"terminal,omitempty"`
	// ConsoleSize is the terminal's, nil for the kernel's default.
	ConsoleSize *specs.Box `json:"consoleSize,omitempty"`
}

// Capabilities are the five sets of capabilities(7); bit i is capability i.
type Capabilities struct {
	Bounding    uint64 `json:"bounding"`
	Effective   uint64 `json:"effective"`
	Permitted   uint64 `json:"permitted"`
	Inheritable uint64 `json:"inheritable"`
	Ambient     uint64 `json:"ambient"`
}

// Rlimit is one limit of setrlimit(2).
type Rlimit struct {
	Type string `json:"type"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Resource is the RLIMIT_ constant of r, as prlimit(2) takes it.
func (r Rlimit) Resource() int {
	resource, _ := bundle.Rlimit(r.Type)
	return resource
}

// defaultUmask is what runc gives a process whose spec names none.
const defaultUmask = 0o022

// NewProcess resolves the spec's process, which has been validated. home is the user's home directory in the container, used
// where the environment names none.
func NewProcess(p *specs.Process, home string) Process {
	out := Process{
		Args: p.Args, Env: p.Env, Cwd: path.Clean(p.Cwd),
		UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids, Umask: defaultUmask,
		NoNewPrivileges: p.NoNewPrivileges, AppArmor: p.ApparmorProfile, OOMScoreAdj: p.OOMScoreAdj, Terminal: p.Terminal,
		Scheduling: Scheduling{CPU: p.Scheduler, IO: p.IOPriority, Affinity: p.ExecCPUAffinity},
	}
	if p.User.Umask != nil {
		out.Umask = *p.User.Umask
	}
	if p.Terminal {
		out.ConsoleSize = p.ConsoleSize
	}
	for _, r := range p.Rlimits {
		out.Rlimits = append(out.Rlimits, Rlimit{r.Type, r.Soft, r.Hard})
	}
	out.Capabilities = capabilitySets(p.Capabilities)
	out.Env = environment(p.Env, home)
	return out
}

// capabilitySets resolves the spec's five sets. Unknown names have been warned of when the bundle was loaded; like runc, we go on without.
func capabilitySets(c *specs.LinuxCapabilities) Capabilities {
	if c == nil {
		return Capabilities{}
	}
	mask := func(names []string) (set uint64) {
		for _, name := range names {
			if bit, known := bundle.Capability(name); known {
				set |= 1 << uint(bit)
			}
		}
		return set
	}
	return Capabilities{mask(c.Bounding), mask(c.Effective), mask(c.Permitted), mask(c.Inheritable), mask(c.Ambient)}
}

// environment is env with the last of several values of a variable only, and HOME.
func environment(env []string, home string) []string {
	at := make(map[string]int, len(env))
	out := make([]string, 0, len(env)+1)
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if i, again := at[name]; again {
			out[i] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	// An empty HOME is as good as none, as runc has it.
	if i, given := at["HOME"]; !given {
		out = append(out, "HOME="+home)
	} else if out[i] == "HOME=" {
		out[i] = "HOME=" + home
	}
	return out
}

// Candidates are the paths at which the process's program may be, in the order of its PATH.
func (p Process) Candidates() []string {
	if p.Path != "" {
		return []string{p.Path}
	}
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var list []string
	for _, v := range p.Env {
		dirs, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range strings.Split(dirs, ":") {
			// A program is never looked for in the working directory.
			if path.IsAbs(dir) {
				list = append(list, path.Join(dir, name))
			}
		}
	}
	return list
}
