package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Namespace is one namespace of the container: new, or joined by path.
type Namespace struct {
	Type string `json:"type"`           // as the spec names it
	Path string `json:"path,omitempty"` // empty for a new one
}

// File is the namespace's name in /proc/PID/ns.
func (n Namespace) File() string {
	kind, _ := kindOf(n.Type)
	return kind.file
}

// namespaceKind is what clone(2) and setns(2) call a type of namespace, and /proc/PID/ns.
type namespaceKind struct {
	flag uint64
	name string
	file string
}

func kindOf(t string) (namespaceKind, bool) {
	switch specs.LinuxNamespaceType(t) {
	case specs.UserNamespace:
		return namespaceKind{unix.CLONE_NEWUSER, "CLONE_NEWUSER", "user"}, true
	case specs.MountNamespace:
		return namespaceKind{unix.CLONE_NEWNS, "CLONE_NEWNS", "mnt"}, true
	case specs.PIDNamespace:
		return namespaceKind{unix.CLONE_NEWPID, "CLONE_NEWPID", "pid"}, true
	case specs.NetworkNamespace:
		return namespaceKind{unix.CLONE_NEWNET, "CLONE_NEWNET", "net"}, true
	case specs.IPCNamespace:
		return namespaceKind{unix.CLONE_NEWIPC, "CLONE_NEWIPC", "ipc"}, true
	case specs.UTSNamespace:
		return namespaceKind{unix.CLONE_NEWUTS, "CLONE_NEWUTS", "uts"}, true
	case specs.CgroupNamespace:
		return namespaceKind{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP", "cgroup"}, true
	case specs.TimeNamespace:
		return namespaceKind{unix.CLONE_NEWTIME, "CLONE_NEWTIME", "time"}, true
	}
	return namespaceKind{}, false
}

// Namespaces are those of one container. The order does not matter: each type comes once.
type Namespaces []Namespace

// Has says whether the container has a namespace of type t that is not the caller's, new or joined.
func (n Namespaces) Has(t specs.LinuxNamespaceType) bool {
	_, ok := n.find(t)
	return ok
}

// New says whether the container gets a namespace of type t of its own.
func (n Namespaces) New(t specs.LinuxNamespaceType) bool {
	ns, ok := n.find(t)
	return ok && ns.Path == ""
}

// Path is the path of the namespace of type t that the container joins, or "".
func (n Namespaces) Path(t specs.LinuxNamespaceType) string {
	ns, _ := n.find(t)
	return ns.Path
}

func (n Namespaces) find(t specs.LinuxNamespaceType) (Namespace, bool) {
	for _, ns := range n {
		if ns.Type == string(t) {
			return ns, true
		}
	}
	return Namespace{}, false
}

func resolveNamespaces(l *specs.Linux) (Namespaces, error) {
	var list Namespaces
	if l == nil {
		return nil, fmt.Errorf("linux: missing: a container needs at least a mount namespace")
	}
	for i, ns := range l.Namespaces {
		if _, known := kindOf(string(ns.Type)); !known {
			return nil, fmt.Errorf("linux.namespaces[%d].type: unknown namespace %q", i, ns.Type)
		}
		list = append(list, Namespace{string(ns.Type), ns.Path})
	}
	if path := list.Path(specs.MountNamespace); path != "" && list.New(specs.UserNamespace) {
		return nil, fmt.Errorf("linux.namespaces: the mount namespace %s cannot be joined together with a new user namespace, which has no rights over it", path)
	}
	if !list.Has(specs.MountNamespace) {
		return nil, fmt.Errorf("linux.namespaces: a mount namespace is needed: sharing the caller's is not supported by this version")
	}
	return list, nil
}

// early are the namespaces that a thread can make for a child to be born in.
const early = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Early are the CLONE_NEW* flags of the namespaces that can be made before the child is; see [launch.Unshare]. There are none where a new user namespace
// is to own them.
func (n Namespaces) Early() uint64 {
	if n.Has(specs.UserNamespace) {
		return 0
	}
	return n.birth().clone & early
}

// birth says how the namespaces come about.
type birth struct {
	clone    uint64   // with the child's clone3
	unshare  uint64   // by the child, once it has joined others
	names    string   // of unshare, for people
	join     []string // types that the child joins with setns, besides the user namespace
	joinUser bool     // it joins a user namespace
	time     bool     // a new time namespace, which takes a hop
	cgroup   bool     // a new cgroup namespace, once the child is in its cgroup
}

// hop says whether the child has to make a successor: the namespaces that only children get.
func (b birth) hop() bool { return b.time || b.unshare&unix.CLONE_NEWPID != 0 }

func (n Namespaces) birth() birth {
	b := birth{joinUser: n.Path(specs.UserNamespace) != ""}
	for _, t := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.TimeNamespace} {
		if n.Path(t) != "" {
			b.join = append(b.join, string(t))
		}
	}
	// A new user namespace has no rights over what exists already, so that the child joins first and makes it then; it is to own the other new ones.
	userLate := n.New(specs.UserNamespace) && len(b.join) > 0
	owned := b.joinUser || userLate
	for _, ns := range n {
		if ns.Path != "" {
			continue
		}
		kind, _ := kindOf(ns.Type)
		late := owned
		switch specs.LinuxNamespaceType(ns.Type) {
		case specs.CgroupNamespace:
			b.cgroup = true
			continue
		case specs.TimeNamespace:
			b.time = true
			late = true
		case specs.PIDNamespace:
			// The first process of a PID namespace must not be one that exits at a hop.
			late = late || n.New(specs.TimeNamespace)
		}
		if late {
			b.unshare |= kind.flag
		} else {
			b.clone |= kind.flag
		}
	}
	for _, ns := range n {
		if kind, _ := kindOf(ns.Type); b.unshare&kind.flag != 0 && ns.Path == "" {
			if b.names != "" {
				b.names += "|"
			}
			b.names += kind.name
		}
	}
	return b
}
