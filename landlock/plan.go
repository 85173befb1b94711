package landlock

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Request is what a container's policy asks of Landlock. Paths are absolute paths in the container.
type Request struct {
	// Read and Write are what may be read, and what may be read and changed. Both nil: the whole root, with every right.
	// An empty list that is not nil gives nothing.
	Read, Write []string
	// Keep lists what the lists never take away; see [DefaultKeep]. Those that a container does not have are passed over. Without lists it is for what is
	// not beneath the root although its name is: see [Queues].
	Keep []Kept
	// ConnectTCP and BindTCP are the TCP ports that may be connected and bound to. Nil: not restricted.
	// Empty but not nil: none. Port 0 in BindTCP lets the kernel choose one.
	ConnectTCP, BindTCP []uint16
	// SignalScope and AbstractUnixScope cut off signals to, and abstract Unix sockets of, whatever is outside the domain.
	SignalScope, AbstractUnixScope bool
	// Modes holds what is not [Strict].
	Modes map[Protection]Mode
}

// Kind is what an object has to be for a rule on it to be made, so that an image cannot widen a list by putting something
// else where a device or /proc is expected.
type Kind string

// Kinds.
const (
	AnyKind         Kind = ""
	CharacterDevice Kind = "character device"
	ProcFS          Kind = "proc"
	DevPTS          Kind = "devpts"
	MountRoot       Kind = "mount" // the root of a mount, whatever is mounted
)

// Kept is an object that path lists never take away.
type Kept struct {
	Path string
	Kind Kind
}

// DefaultKeep lists the default devices of the runtime specification, the terminal, the directories of pseudo-terminals,
// shared memory and message queues, and the container's /proc. The directories count only as mounts: what an image has in
// their place is governed by the lists.
func DefaultKeep() []Kept {
	return []Kept{
		{"/dev/null", CharacterDevice}, {"/dev/zero", CharacterDevice}, {"/dev/full", CharacterDevice},
		{"/dev/random", CharacterDevice}, {"/dev/urandom", CharacterDevice}, {"/dev/tty", CharacterDevice},
		{"/dev/console", CharacterDevice}, {"/dev/ptmx", CharacterDevice},
		{"/dev/pts", DevPTS}, {"/dev/shm", MountRoot}, {"/dev/mqueue", MountRoot}, {"/proc", ProcFS},
	}
}

// Queues is where message queues are usually mounted. mq_open(3) does not look them up there but in a mount of the IPC namespace's own, so that a rule on the
// root is no rule on them. One on the mount is, for both have the same inodes.
func Queues() Kept { return Kept{"/dev/mqueue", MountRoot} }

// Plan decides the ruleset for a request on a kernel with the given ABI. It is pure.
//
// The protections of the file system are always in force; those of ports and scopes when the request names some. One that
// the kernel lacks is an [*UnsupportedError] if its mode is strict, and reported in the ruleset if it is not. An ABI below 1
// is [ErrAbsent], whatever the modes say: without paths there is no Landlock to speak of.
func Plan(request Request, abi ABI) (Ruleset, error) {
	if abi < 1 {
		return Ruleset{}, ErrAbsent
	}
	for protection, mode := range request.Modes {
		if protection.Floor() == 0 {
			return Ruleset{}, fmt.Errorf("protection.%s: there is no such protection", protection)
		}
		if mode != "" && mode != Strict && mode != Degrade && mode != Off {
			return Ruleset{}, fmt.Errorf("protection.%s: %q is none of strict, degrade, off", protection, mode)
		}
	}
	p := planner{request: request, ruleset: Ruleset{ABI: abi, Handled: Handled{FS: first}}}
	if err := p.protections(); err != nil {
		return Ruleset{}, err
	}
	if err := p.paths(); err != nil {
		return Ruleset{}, err
	}
	return p.ruleset, nil
}

type planner struct {
	request Request
	ruleset Ruleset
	moves   bool // refer is off: moving between directories is to be as free as without Landlock
}

// protections decides what the ruleset handles.
func (p *planner) protections() error {
	handled := &p.ruleset.Handled
	for _, protection := range Protections() {
		if !p.asked(protection) {
			continue
		}
		enforced, err := p.enforce(protection)
		if err != nil {
			return err
		}
		if !enforced {
			continue
		}
		switch protection {
		case FSRefer:
			handled.FS |= refer
		case FSTruncate:
			handled.FS |= truncate
		case FSIoctlDev:
			handled.FS |= ioctlDev
		case NetTCP:
			if p.request.ConnectTCP != nil {
				handled.Net |= ConnectTCP
				p.ruleset.ConnectTCP = ports(p.request.ConnectTCP)
			}
			if p.request.BindTCP != nil {
				handled.Net |= BindTCP
				p.ruleset.BindTCP = ports(p.request.BindTCP)
			}
		case SignalScope:
			handled.Scope |= ScopeSignal
		case AbstractUnixScope:
			handled.Scope |= ScopeAbstractUnix
		}
	}
	// A right to move that is not handled is refused everywhere, so leaving it out would make the ruleset stricter:
	// to switch the protection off is to handle the right and to grant it on the whole root.
	if p.request.Modes[FSRefer] == Off && p.ruleset.ABI >= FSRefer.Floor() {
		handled.FS |= refer
		p.moves = true
	}
	return nil
}

// asked says whether the request gives a protection something to protect.
func (p *planner) asked(protection Protection) bool {
	switch protection {
	case NetTCP:
		return p.request.ConnectTCP != nil || p.request.BindTCP != nil
	case SignalScope:
		return p.request.SignalScope
	case AbstractUnixScope:
		return p.request.AbstractUnixScope
	}
	return true
}

// enforce decides on one protection by its mode and floor, and reports it when it is left out.
func (p *planner) enforce(protection Protection) (bool, error) {
	mode, need, have := p.request.Modes[protection], protection.Floor(), p.ruleset.ABI
	if mode != Off && have >= need {
		return true, nil
	}
	if mode != Off && mode != Degrade {
		return false, &UnsupportedError{Protection: protection, Need: need, Have: have}
	}
	result := protection.Without()
	if protection == FSRefer && have >= need {
		result = "files can be moved and linked between any two directories that the lists let change"
	}
	p.ruleset.Omitted = append(p.ruleset.Omitted, Omission{Protection: protection, Mode: mode, Need: need, Have: have, Result: result})
	return false, nil
}

// paths decides the rules on paths: one for each path, the whole root first, then by name.
func (p *planner) paths() error {
	handled := p.ruleset.Handled.FS
	if p.request.Read == nil && p.request.Write == nil {
		p.ruleset.Paths = []PathRule{{Path: "/", Access: handled, Source: "root"}}
		for _, kept := range p.request.Keep {
			clean, err := containerPath(kept.Path)
			if err != nil {
				return err
			}
			p.ruleset.Paths = append(p.ruleset.Paths, PathRule{Path: clean, Access: handled, Source: "kept", Optional: true, Kind: kept.Kind})
		}
		return nil
	}
	rules := map[string]PathRule{}
	// Of two sources of one path the later is named: what it gives is more, and it is enough to fail.
	add := func(rule PathRule) {
		rule.Access = (rule.Access | rules[rule.Path].Access) & handled
		rules[rule.Path] = rule
	}
	// A kept object first: when a list names it too, the list's rule has the wider right and must exist.
	for _, kept := range p.request.Keep {
		clean, err := containerPath(kept.Path)
		if err != nil {
			return err
		}
		access := Write
		if kept.Kind == CharacterDevice {
			access = device
		}
		rules[keptKey(clean)] = PathRule{Path: clean, Access: access & handled, Source: "kept", Optional: true, Kind: kept.Kind}
	}
	for _, list := range []struct {
		source string
		access Access
		paths  []string
	}{{"filesystem.read", Read, p.request.Read}, {"filesystem.write", Write, p.request.Write}} {
		for _, name := range list.paths {
			clean, err := containerPath(name)
			if err != nil {
				return fmt.Errorf("%s: %w", list.source, err)
			}
			add(PathRule{Path: clean, Access: list.access, Source: list.source})
		}
	}
	if p.moves {
		source := rules["/"].Source
		if source == "" {
			source = "protection.fs_refer"
		}
		add(PathRule{Path: "/", Access: refer, Source: source})
	}
	p.ruleset.Paths = make([]PathRule, 0, len(rules))
	for _, rule := range rules {
		p.ruleset.Paths = append(p.ruleset.Paths, rule)
	}
	slices.SortFunc(p.ruleset.Paths, func(a, b PathRule) int {
		if order := strings.Compare(a.Path, b.Path); order != 0 {
			return order
		}
		return strings.Compare(a.Source, b.Source)
	})
	return nil
}

// keptKey keeps the rule of a kept object apart from a list's rule for the same path: the list's must exist, the kept one
// need not.
func keptKey(path string) string { return "kept " + path }

// containerPath checks and cleans a path of the container.
func containerPath(name string) (string, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("a path is empty")
	case !path.IsAbs(name):
		return "", fmt.Errorf("%q: not an absolute path", name)
	case strings.ContainsRune(name, 0):
		return "", fmt.Errorf("%q: has a NUL byte", name)
	case slices.Contains(strings.Split(name, "/"), ".."):
		// Where a component is a link, the name without .. would mean another place.
		return "", fmt.Errorf("%q: has a .. component", name)
	}
	return path.Clean(name), nil
}

// ports sorts a copy and drops repetitions; it is never nil.
func ports(list []uint16) Ports {
	sorted := append(Ports{}, list...)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
