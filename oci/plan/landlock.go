package plan

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// planLandlock decides the ruleset. It is on by default, over the whole root, because it stops what a leaked descriptor of the
// host would reach; the default is left off only where it would take away what the spec is for, see [Plan.withoutDefault].
func (p *Plan) planLandlock(r Request) error {
	files := r.Policy.Filesystem
	asked := files.Restricted || len(files.Deny) > 0
	ports, portsOnly := p.Network.TCPPortsOnly()

	request := landlock.Request{Modes: make(map[landlock.Protection]landlock.Mode)}
	if !asked {
		// Nobody asked for these by a path list: an older kernel does as much of it as it can, and the plan says what it does not.
		for _, protection := range []landlock.Protection{landlock.FSRefer, landlock.FSTruncate, landlock.FSIoctlDev} {
			request.Modes[protection] = landlock.Degrade
		}
	}
	for _, name := range policy.ProtectionNames() {
		if level := r.Policy.Protection(name); level != policy.Strict {
			request.Modes[landlock.Protection(name)] = landlock.Mode(level)
		}
	}
	request.Keep = p.queues()
	if files.Restricted {
		request.Read, request.Write = orEmpty(files.Read), orEmpty(files.Write)
		request.Keep = append(landlock.DefaultKeep(), request.Keep...)
	}
	if portsOnly {
		request.ConnectTCP = append([]uint16{}, ports...)
	}
	request.BindTCP = p.Bind.LandlockPorts()
	if !asked && !portsOnly && p.Bind.Unrestricted() {
		if why := p.withoutDefault(r.Policy); why != "" {
			p.note("whole root", "nothing", why)
			return nil
		}
	}
	// The scopes do what the namespaces would.
	request.SignalScope = !p.Namespaces.Has(specs.PIDNamespace)
	request.AbstractUnixScope = !p.Namespaces.Has(specs.NetworkNamespace)
	ruleset, err := landlock.Plan(request, r.Host.Landlock)
	if errors.Is(err, landlock.ErrAbsent) && r.Host.LandlockError != "" {
		return errors.New(r.Host.LandlockError)
	}
	if err != nil {
		return fmt.Errorf("protection: %w", err)
	}
	for i, rule := range ruleset.Paths {
		if rule.Source == "filesystem.read" || rule.Source == "filesystem.write" {
			ruleset.Paths[i].Source = p.key(rule.Source)
		}
	}
	p.Landlock = &ruleset
	return nil
}

// withoutDefault says why there is no ruleset unless a rule takes one, or "": no Landlocked task can mount, and none can look at processes outside its
// domain, which those of a joined PID namespace are. Rules of whatever kind keep it: the processes next door may be free of them.
func (p *Plan) withoutDefault(asked policy.Policy) string {
	shared := p.Namespaces.Path(specs.PIDNamespace) != "" && p.Namespaces.Has(specs.NetworkNamespace)
	switch {
	case p.mayMount():
		return "the spec gives CAP_SYS_ADMIN, and a task under Landlock cannot mount"
	case shared && !asked.Network.Restricted() && !asked.Network.PortRemap && asked.Socket == "" && len(asked.Syscalls.Deny) == 0:
		return "the container shares others' processes, and a task under Landlock cannot look at them"
	}
	return ""
}

// queues are the places of the container's message queues.
func (p *Plan) queues() []landlock.Kept {
	var list []landlock.Kept
	for _, e := range p.Root.Entries {
		usual := landlock.Queues()
		if e.Type == queueFilesystem || e.Destination == usual.Path {
			list = append(list, landlock.Kept{Path: e.Destination, Kind: usual.Kind})
		}
	}
	return list
}

// queueFilesystem is the type of the filesystem that shows message queues, mq_overview(7).
const queueFilesystem = "mqueue"

// openQueues makes a mount of message queues that nobody will see, for a rule to be made on, where the container has Landlock and no such mount. Without the right to make it
// there are no queues to be had.
func (p *Plan) openQueues(l *Launch) {
	if p.Landlock == nil || len(p.queues()) > 0 {
		return
	}
	s := l.Program
	s.About("message queues")
	none := s.Label("none")
	context := s.Fsopen(queueFilesystem).OnError(none).Result("context")
	s.FsconfigCreate(context).OnError(none)
	queues := s.Fsmount(context, 0).OnError(none)
	l.Queues, l.HasQueues = queues.Result("queues"), true
	s.Close(context)
	s.Mark(none)
	s.About("")
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// mayMount says whether the spec's capabilities let the workload call mount(2).
func (p *Plan) mayMount() bool {
	return p.Process.Capabilities.Bounding&sysAdmin != 0
}

// Exposed says whether processes in a container may be able to reach the executable of whoever makes it: if the workload is not under Landlock, or others
// share its PID namespace. See package caller.
func Exposed(spec *specs.Spec) bool {
	namespaces, err := resolveNamespaces(spec.Linux)
	if err != nil {
		return true // and refused later
	}
	return !namespaces.New(specs.PIDNamespace) || capabilitySets(spec.Process.Capabilities).Bounding&sysAdmin != 0
}

// Common says whether process may join the container without its ruleset: where that restricts nothing within the container's own root. The process would be
// in a domain of its own, cut off from /proc/PID/fd and the like of the other processes, for nothing in return, since the
// descriptors that it could leak are those its caller chose to give it. But what could be unmounted from a denied path takes Landlock to stay.
func (p *Plan) Common(process Process) bool {
	if len(p.Policy.Filesystem.Deny) > 0 && process.Capabilities.Bounding&sysAdmin != 0 {
		return false
	}
	return p.Landlock != nil && p.Landlock.WholeRoot() && p.Landlock.Handled.Net == 0 && p.Landlock.Handled.Scope == 0
}
