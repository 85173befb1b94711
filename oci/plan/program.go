package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// Held are the descriptors and the code that a launch program refers to and that only exist once things are being done.
type Held struct {
	Sources    *chroot.Sources      // of the mount map; nil for exec
	Namespaces map[string]launch.FD // joined namespaces, by type
	Cgroup     []launch.FD          // cgroup v1 tasks files that the child enters by
	Root       *launch.FD           // of the container, for exec, where its mount namespace is others' too
	Container  launch.FD            // pidfd of the container's first process, for exec
	Ruleset    *launch.FD           // nil where Landlock has nothing to do
	Overlay    []unix.SockFilter    // nil where nothing is notified or denied
	Spec       []unix.SockFilter    // the spec's own filter, nil where it has none
	SpecFlags  uint64               // of seccomp(2) for the spec's filter
	Null       []int                // standard descriptors that are the host's /dev/null
	Streams    []launch.FD          // to become the standard streams, for exec
	Preserve   int                  // descriptors from 3 up that the workload keeps
	SessionKey string               // name of the session keyring, "" to leave it
	User       bool                 // the parent is an ordinary user, who cannot write to files of root's
	Wait       bool                 // the parent has something to do before the child goes on from its birth
}

// Launch is a launch program and the places in it that the monitor must know.
type Launch struct {
	Program *launch.Program
	Options launch.Options

	// The sync points, in order. Those that the program lacks are 0.
	Born    launch.Sync // namespaces made or joined; uid and gid maps are to be written, the cgroup to be entered, network devices to be moved
	Mounted launch.Sync // the file tree stands, the old root is still there: hooks run, rules are added
	Parked  launch.Sync // all but the spec's filter and execve is done; the filter as well where it notifies

	// Descriptors in the child, to be taken at Parked (Root and Queues at Mounted). The zero FD where there is none. Queues may turn out not to be had.
	Root                                launch.FD
	Queues                              launch.FD
	Listener                            launch.FD
	SpecListener                        launch.FD // of the spec's own filter, for the agent that it names
	Terminal                            launch.FD
	HasQueues, HasListener, HasTerminal bool
	HasSpecListener                     bool
}

// umaskFlags: files made in the container's tree get the modes that the plan says.
const noUmask = 0

// Init is the launch program of the container's first process.
func (p *Plan) Init(h Held) *Launch {
	l := &Launch{Program: launch.New()}
	s := l.Program
	birth := p.Namespaces.birth()
	l.Options.Namespaces = birth.clone &^ p.Namespaces.Early()

	preserve(s, h.Preserve)
	enterCgroup(s, h.Cgroup)
	p.Process.label(s)
	s.About("start a session")
	s.Setsid()
	s.Call("umask", unix.SYS_UMASK, launch.Value(noUmask))
	p.enter(s, h, birth)
	if h.Wait || p.Namespaces.New(specs.UserNamespace) || len(p.NetDevices) > 0 {
		p.born(l, h)
	}
	p.becomeRoot(s)
	if birth.cgroup {
		s.About("new cgroup namespace")
		s.Unshare(unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP")
	}
	p.names(s)
	if path := p.Namespaces.Path(specs.MountNamespace); path != "" {
		s.About("linux.namespaces: join the mount namespace %s", path)
		s.Setns(h.Namespaces[string(specs.MountNamespace)], unix.CLONE_NEWNS, "CLONE_NEWNS")
		s.About("")
	}

	root := h.Sources.Steps(s)
	l.Root = root
	var slave launch.FD
	if p.Process.Terminal {
		l.HasTerminal = true
		l.Terminal, slave = chroot.Terminal(s, root, p.Process.UID, p.Process.ConsoleSize)
		h.Sources.Console(s, root, slave)
	}
	if len(h.Null) > 0 {
		chroot.ReopenNull(s, root, h.Null...)
	}
	s.About("")
	p.openQueues(l)
	l.Mounted = s.Sync("the mount map is real")
	h.Sources.Pivot(s, root)
	// Before anything becomes read-only.
	makeCwd(s, p.Process.Cwd)
	h.Sources.Finish(s, root)
	if p.Process.Terminal {
		takeTerminal(s, slave)
	}
	p.confine(l, h, p.Process)
	p.seal(l, h, p.Process)
	l.Parked = s.Sync("parked before execve")
	p.execute(l, h, p.Process)
	return l
}

// Exec is the launch program of a process that joins the container. Where the container has a PID namespace, the process gets into it last, when it has
// nothing left that a process there, which may trace it, does not have itself: neither the host's root and descriptors nor capabilities.
func (p *Plan) Exec(h Held, process Process, sameUser bool) *Launch {
	l := &Launch{Program: launch.New()}
	s := l.Program
	preserve(s, h.Preserve)
	if a := process.Scheduling.Affinity; a != nil {
		pin(s, "initial", a.Initial)
	}
	process.label(s)
	if h.Wait {
		l.Born = s.Sync("ready to join")
	}
	s.About("join the container's namespaces")
	flags, names := p.Namespaces.Joined(!sameUser)
	s.Setns(h.Container, flags, names)
	if h.Root != nil {
		// The container's root is not that of its mount namespace.
		s.Fchdir(*h.Root)
		s.Chroot(".")
	}
	s.About("")
	if !sameUser {
		p.becomeRoot(s)
	}
	// The host's /dev/null would be the container's to change the mode and owner of.
	chroot.ReopenNull(s, launch.CWD, h.Null...)
	var slave launch.FD
	if process.Terminal {
		l.HasTerminal = true
		l.Terminal, slave = chroot.Terminal(s, launch.CWD, process.UID, process.ConsoleSize)
	}
	p.confine(l, h, process)
	if p.Namespaces.Has(specs.PIDNamespace) {
		s.About("enter the PID namespace")
		s.Hop()
	}
	// After the hop: a container at the limit of its cgroup's processes can be joined all the same. The kernel asks who opened the files, not who writes.
	enterCgroup(s, h.Cgroup)
	if a := process.Scheduling.Affinity; a != nil {
		pin(s, "final", a.Final)
	}
	s.About("start a session")
	s.Setsid()
	if process.Terminal {
		takeTerminal(s, slave)
	}
	for number, stream := range h.Streams {
		s.Dup3(stream, number)
	}
	s.About("")
	p.seal(l, h, process)
	l.Parked = s.Sync("parked before execve")
	p.execute(l, h, process)
	return l
}

// preserve leaves the workload the descriptors that its caller wants it to have.
func preserve(s *launch.Program, n int) {
	for fd := firstPreserved; fd < firstPreserved+n; fd++ {
		s.Keep(fd)
	}
}

// firstPreserved is the descriptor after the standard three.
const firstPreserved = 3
