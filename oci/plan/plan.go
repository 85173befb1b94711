package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/host"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/resolve"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Plan is everything that has been decided about a container. It can be written as JSON and read back.
type Plan struct {
	ID     string `json:"id"`
	Bundle string `json:"bundle"`

	Namespaces    Namespaces                   `json:"namespaces"`
	UIDMappings   []specs.LinuxIDMapping       `json:"uidMappings,omitempty"`
	GIDMappings   []specs.LinuxIDMapping       `json:"gidMappings,omitempty"`
	DenySetgroups bool                         `json:"denySetgroups,omitempty"`
	TimeOffsets   []string                     `json:"timeOffsets,omitempty"` // lines of /proc/PID/timens_offsets
	Hostname      string                       `json:"hostname,omitempty"`
	Domainname    string                       `json:"domainname,omitempty"`
	Sysctl        map[string]string            `json:"sysctl,omitempty"` // by the file's path below /proc/sys
	Personality   specs.LinuxPersonalityDomain `json:"personality,omitempty"`
	MemoryPolicy  *specs.LinuxMemoryPolicy     `json:"memoryPolicy,omitempty"`
	// NetDevices are moved into the container's network namespace.
	NetDevices  map[string]specs.LinuxNetDevice `json:"netDevices,omitempty"`
	Process     Process                         `json:"process"`
	Root        chroot.Map                      `json:"root"`
	Landlock    *landlock.Ruleset               `json:"landlock,omitempty"` // nil: no ruleset
	Network     netfilter.Policy                `json:"network"`
	Bind        netfilter.BindPolicy            `json:"bind,omitzero"`
	Overlay     seccompnotif.Overlay            `json:"overlay"`
	Agent       *Agent                          `json:"agent,omitempty"` // nil: nobody is asked
	Seccomp     *specs.LinuxSeccomp             `json:"-"`               // the spec's own filter; it is large, and kept with the spec
	Resources   *specs.LinuxResources           `json:"resources,omitempty"`
	Narrowed    policy.Limits                   `json:"narrowed,omitzero"` // limits that the agent has put below Resources
	Policy      policy.Policy                   `json:"policy"`
	Enforcement []Enforcement                   `json:"enforcement"`
}

// Enforcement says what holds one rule up.
type Enforcement struct {
	Rule string `json:"rule"`
	By   string `json:"by"`
	Why  string `json:"why,omitempty"`
}

// Request is what a plan is made of.
type Request struct {
	ID      string
	Bundle  *bundle.Bundle // its spec tightened, see [Tighten]
	Policy  policy.Policy
	Host    host.Host
	Cgroups chroot.Cgroups // where the container is in the host's hierarchies
	Home    string         // of the process's user, in the container
	// KernelCore tells that the host has /proc/kcore.
	KernelCore bool
	// Names has what the names stand for that [Names] lists.
	Names map[string]resolve.Answer
	// Hosts is the content of the file that [HostsSource] names.
	Hosts string
	// Ephemeral is what ports the kernel chooses from in the container's network namespace; none for the kernel's default.
	Ephemeral netfilter.Ports
	// Agent is what the policy's agent has asked for; nil for everything.
	Agent *AgentWants
}

// New decides. Errors name the field of the spec or the key of the policy, and the reason.
func New(r Request) (*Plan, error) {
	spec := r.Bundle.Spec
	p := &Plan{
		ID: r.ID, Bundle: r.Bundle.Path, Policy: r.Policy,
		Hostname: spec.Hostname, Domainname: spec.Domainname, Seccomp: spec.Linux.Seccomp, Resources: spec.Linux.Resources,
	}
	var err error
	if p.Namespaces, err = resolveNamespaces(spec.Linux); err != nil {
		return nil, err
	}
	p.Process = NewProcess(spec.Process, r.Home)
	p.Process.limitOpenFiles(r.Policy.Limits.OpenFiles)
	if p.Namespaces.New(specs.UserNamespace) {
		p.UIDMappings, p.GIDMappings = spec.Linux.UIDMappings, spec.Linux.GIDMappings
	}
	p.DenySetgroups = r.Host.SetgroupsDenied || r.Host.EUID != 0 && !r.Host.Capabilities.Has(unix.CAP_SETGID)
	if p.DenySetgroups && r.Host.EUID != 0 && len(p.Process.Groups) > 0 {
		return nil, errNoGroups
	}
	p.MemoryPolicy, p.NetDevices = spec.Linux.MemoryPolicy, spec.Linux.NetDevices
	if spec.Linux.Personality != nil {
		p.Personality = spec.Linux.Personality.Domain
	}
	p.TimeOffsets = timeOffsets(spec.Linux.TimeOffsets)
	if p.Sysctl, err = sysctls(spec.Linux.Sysctl); err != nil {
		return nil, err
	}
	if p.Network, err = p.network(r.Names); err != nil {
		return nil, err
	}
	if p.Bind, err = p.bind(r.Ephemeral); err != nil {
		return nil, err
	}
	if p.Root, err = chroot.NewMap(p.mapRequest(r)); err != nil {
		return nil, err
	}
	if err := p.planLandlock(r); err != nil {
		return nil, err
	}
	if err := p.planAgent(r); err != nil {
		return nil, err
	}
	if err := p.planOverlay(r); err != nil {
		return nil, err
	}
	p.explain()
	return p, nil
}

// key is what to call the first of some keys of the policy that was given: in full where an annotation gave it.
func (p *Plan) key(keys ...string) string {
	for _, name := range keys {
		sources := p.Policy.Provenance[name]
		if slices.Contains(sources, policy.FromAnnotation) {
			return policy.AnnotationPrefix + name
		}
		if len(sources) > 0 {
			return name
		}
	}
	return keys[0]
}

// keyOf is what to call a key of the policy in an error about the value that the i-th of its sources gave: with the place where it stands.
func (p *Plan) keyOf(name string, i int) string {
	sources := p.Policy.Provenance[name]
	switch {
	case i >= len(sources):
		return name
	case sources[i] == policy.FromAnnotation:
		return policy.AnnotationPrefix + name
	}
	return sources[i] + ": " + name
}

// Supervised says whether the container's policy needs the monitor to answer notifications.
func (p *Plan) Supervised() bool { return p.Overlay.NeedsListener() }

func (p *Plan) mapRequest(r Request) chroot.MapRequest {
	request := chroot.MapRequest{
		Spec: r.Bundle.Spec, RootFS: r.Bundle.RootFS, Bundle: r.Bundle.Path,
		Denied: r.Policy.Filesystem.Deny, Cgroups: r.Cgroups,
		UserNamespace:   p.Namespaces.Has(specs.UserNamespace),
		JoinedNamespace: p.Namespaces.Path(specs.MountNamespace) != "",
		BindDevices:     !r.Host.Capabilities.Has(capMknod) || !r.Host.InitialUserNS,
		KernelCore:      r.KernelCore,
		Files:           hostsFile(p.Network.Pinned(), r.Hosts),
	}
	for _, m := range r.Policy.Filesystem.Mounts {
		options := []string{"rbind", "rprivate"}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		request.Extra = append(request.Extra, specs.Mount{Destination: m.Container, Type: "bind", Source: m.Host, Options: options})
	}
	return request
}

// timeOffsets are the lines that /proc/PID/timens_offsets takes; see time_namespaces(7).
func timeOffsets(offsets map[string]specs.LinuxTimeOffset) []string {
	var lines []string
	for _, clock := range slices.Sorted(maps.Keys(offsets)) {
		lines = append(lines, fmt.Sprintf("%s %d %d\n", clock, offsets[clock].Secs, offsets[clock].Nanosecs))
	}
	return lines
}

func sysctls(values map[string]string) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	files := make(map[string]string, len(values))
	for name, value := range values {
		file, err := bundle.SysctlPath(name)
		if err != nil {
			return nil, fmt.Errorf("linux.sysctl: %w", err)
		}
		files[file] = value
	}
	return files, nil
}
