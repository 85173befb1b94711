package plan

import (
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/cgroup"
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
	Wait       bool                 // the parent has something to do before the child goes on from its birth
}

// Launch is a launch program and the places in it that the monitor must know.
type Launch struct {
	Program *launch.Program
	Options launch.Options

	// The sync points, in order. Those that the program lacks are 0.
	Born    launch.Sync // namespaces made or joined; uid and gid maps are to be written, the cgroup to be entered
	Mounted launch.Sync // the file tree stands, the old root is still there: hooks run, rules are added
	Parked  launch.Sync // all but the spec's filter and execve is done

	// Descriptors in the child, to be taken at Parked (Root at Mounted). The zero FD where there is none.
	Root                     launch.FD
	Listener                 launch.FD
	Terminal                 launch.FD
	HasListener, HasTerminal bool
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
	if h.Wait || p.Namespaces.New(specs.UserNamespace) {
		l.Born = s.Sync("namespaces are there")
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
	p.execute(s, h, p.Process)
	return l
}

// Exec is the launch program of a process that joins the container. Where the container has a PID namespace, the process gets into it last, when it has
// nothing left that a process there, which may trace it, does not have itself: neither the host's root and descriptors nor capabilities.
func (p *Plan) Exec(h Held, process Process, sameUser bool) *Launch {
	l := &Launch{Program: launch.New()}
	s := l.Program
	preserve(s, h.Preserve)
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
	p.execute(s, h, process)
	return l
}

// preserve leaves the workload the descriptors that its caller wants it to have.
func preserve(s *launch.Program, n int) {
	for fd := firstPreserved; fd < firstPreserved+n; fd++ {
		s.Keep(fd)
	}
}

// label says under which AppArmor profile the next execve happens. The file is the host's own /proc: the child has not left its root yet.
func (p Process) label(s *launch.Program) {
	if p.AppArmor == "" {
		return
	}
	s.About("process.apparmorProfile %q", p.AppArmor)
	opened := s.Label("the file is open")
	file := s.Openat2(launch.CWD, "/proc/self/attr/apparmor/exec", unix.O_WRONLY|unix.O_CLOEXEC, 0, 0).OnSuccess(opened).Ignore(unix.ENOENT).Result("label")
	// Before security modules could be stacked there was one file for whichever was in force.
	s.Openat2(launch.CWD, "/proc/self/attr/exec", unix.O_WRONLY|unix.O_CLOEXEC, 0, 0).Into(file)
	s.Mark(opened)
	s.Write(file, "exec "+p.AppArmor)
	s.Close(file)
	s.About("")
}

// enterCgroup moves the child; see [cgroup.Entrance] for why it does so itself.
func enterCgroup(s *launch.Program, tasks []launch.FD) {
	s.About("enter the cgroup")
	for _, file := range tasks {
		s.Write(file, cgroup.JoinText)
		s.Close(file)
	}
	s.About("")
}

// enter joins and makes the namespaces that clone3 has not given the child.
func (p *Plan) enter(s *launch.Program, h Held, b birth) {
	for _, t := range b.join {
		kind, _ := kindOf(t)
		s.About("linux.namespaces: join the %s namespace %s", t, p.Namespaces.Path(specs.LinuxNamespaceType(t)))
		s.Setns(h.Namespaces[t], kind.flag, kind.name)
	}
	if b.unshare != 0 {
		s.About("new namespaces")
		s.Unshare(b.unshare, b.names)
	}
	if b.time {
		s.About("linux.timeOffsets")
		for _, offset := range p.TimeOffsets {
			s.WriteFile(launch.CWD, "/proc/self/timens_offsets", offset)
		}
	}
	if b.hop() {
		s.About("enter the new namespaces")
		s.Hop()
		s.About("start a session")
		s.Setsid()
	}
	s.About("")
}

// becomeRoot takes up the user namespace's own root, whose files the tree is made of.
func (p *Plan) becomeRoot(s *launch.Program) {
	if !p.Namespaces.Has(specs.UserNamespace) {
		return
	}
	s.About("become root of the user namespace")
	if !p.DenySetgroups {
		s.Setgroups(nil)
	}
	s.Setresgid(0)
	s.Setresuid(0)
}

// names sets what belongs to the UTS, IPC and network namespaces. /proc is the host's here, and shows the child its own namespaces.
func (p *Plan) names(s *launch.Program) {
	if p.Hostname != "" {
		s.About("hostname %q", p.Hostname)
		s.Call("sethostname", unix.SYS_SETHOSTNAME, launch.Text(p.Hostname), launch.Value(uint64(len(p.Hostname))))
	}
	if p.Domainname != "" {
		s.About("domainname %q", p.Domainname)
		s.Call("setdomainname", unix.SYS_SETDOMAINNAME, launch.Text(p.Domainname), launch.Value(uint64(len(p.Domainname))))
	}
	if p.Namespaces.New(specs.NetworkNamespace) {
		loopbackUp(s)
	}
	keys := make([]string, 0, len(p.Sysctl))
	for key := range p.Sysctl {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		s.About("linux.sysctl[%q]", key)
		s.WriteFile(launch.CWD, "/proc/sys/"+key, p.Sysctl[key])
	}
	s.About("")
}

// loopbackUp brings the new network namespace's loopback device up, as netdevice(7) describes.
func loopbackUp(s *launch.Program) {
	s.About("loopback device")
	request, err := unix.NewIfreq("lo")
	if err != nil {
		panic(err) // the name is short enough
	}
	request.SetUint16(unix.IFF_UP)
	socket := s.Call("socket", unix.SYS_SOCKET, launch.Flags(unix.AF_INET, "AF_INET"), launch.Flags(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), launch.Value(0)).Result("socket")
	s.Ioctl(socket, "SIOCSIFFLAGS", unix.SIOCSIFFLAGS, launch.Ifreq(request, "{lo, IFF_UP}"))
	s.Close(socket)
	s.About("")
}

// takeTerminal makes the terminal the child's controlling one and its standard streams. The child leads a session.
func takeTerminal(s *launch.Program, slave launch.FD) {
	s.About("terminal")
	s.Ioctl(slave, "TIOCSCTTY", unix.TIOCSCTTY, launch.Value(0))
	for fd := 0; fd <= 2; fd++ {
		s.Dup3(slave, fd)
	}
	s.About("")
}

// confine makes the child what the workload is to be, up to the last moment.
func (p *Plan) confine(l *Launch, h Held, process Process) {
	s := l.Program
	s.Call("umask", unix.SYS_UMASK, launch.Value(uint64(process.Umask)))
	if h.SessionKey != "" {
		s.About("session keyring")
		// A kernel without keyrings has nothing to keep apart.
		s.Call("keyctl", unix.SYS_KEYCTL, launch.Flags(unix.KEYCTL_JOIN_SESSION_KEYRING, "JOIN_SESSION_KEYRING"), launch.Text(h.SessionKey)).Ignore(unix.ENOSYS)
	}
	if process.NoNewPrivileges {
		s.About("process.noNewPrivileges")
		s.Prctl("PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	if h.Ruleset != nil {
		s.About("Landlock")
		s.RestrictSelf(*h.Ruleset)
	}
	identity(s, process, h.keepsAdmin(process), p.DenySetgroups)
	s.About("process.cwd %s", process.Cwd)
	s.Chdir(process.Cwd)
	// A working directory outside the root shows as "(unreachable)...": no leaked descriptor may have led there.
	cwd := launch.Bytes(make([]byte, unix.PathMax), "cwd")
	s.Call("getcwd", unix.SYS_GETCWD, cwd, launch.Value(unix.PathMax))
	s.ExpectByte(cwd, '/', unix.EPERM)
	findProgram(s, process)
	s.About("")
}

// firstPreserved is the descriptor after the standard three.
const firstPreserved = 3

// seal is the last of what happens before the child is parked: what comes after it is under the overlay filter, and must be allowed by it.
func (p *Plan) seal(l *Launch, h Held, process Process) {
	s := l.Program
	s.About("process.rlimits")
	late := -1
	for i, r := range process.Rlimits {
		if r.Type == openFiles && p.Supervised() {
			late = i // the listener still needs a number
			continue
		}
		limit(s, r)
	}
	s.About("")
	s.CloseOnExec(firstPreserved + h.Preserve)
	s.About("signal mask")
	s.Unblock()
	if h.Overlay != nil {
		s.About("overlay filter")
		flags, text := uint64(0), "0"
		if p.Supervised() {
			flags, text = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "NEW_LISTENER|WAIT_KILLABLE_RECV"
			l.HasListener = true
		}
		step := s.Filter(flags, text, h.Overlay)
		if l.HasListener {
			l.Listener = step.Result("listener")
		}
	}
	if late >= 0 {
		s.About("process.rlimits")
		limit(s, process.Rlimits[late])
	}
	s.About("")
}

// limit sets one limit of the child's, for good. That takes no privilege: the parent's own hard limit has been raised to it before.
func limit(s *launch.Program, r Rlimit) {
	s.Setrlimit(r.Type, r.Resource(), unix.Rlimit{Cur: r.Soft, Max: r.Hard})
}

// keepsAdmin says whether CAP_SYS_ADMIN stays until the filters are there: without no_new_privs they cannot be installed without it.
func (h Held) keepsAdmin(process Process) bool {
	return (h.Overlay != nil || h.Spec != nil) && !process.NoNewPrivileges
}

// makeCwd makes the working directory where the image lacks it, as runc does. What cannot be made is found out by chdir.
func makeCwd(s *launch.Program, cwd string) {
	if cwd == "/" {
		return
	}
	there := s.Label("the working directory is there")
	s.About("process.cwd %s", cwd)
	s.Call("faccessat", unix.SYS_FACCESSAT, launch.CWD.Arg, launch.Text(cwd), launch.Value(unix.F_OK)).OnSuccess(there).Ignore()
	for i := 1; i <= len(cwd); i++ {
		if i == len(cwd) || cwd[i] == '/' {
			s.Mkdirat(launch.CWD, cwd[:i], 0o755).Ignore()
		}
	}
	s.Mark(there)
}

const (
	capabilities = 64 // bits of a capability set
	sysAdmin     = uint64(1) << unix.CAP_SYS_ADMIN
)

// identity switches to the process's user and capabilities. keepAdmin leaves CAP_SYS_ADMIN in place: without no_new_privs
// the filters, which come last, cannot be installed without it.
func identity(s *launch.Program, process Process, keepAdmin, denySetgroups bool) {
	c := process.Capabilities
	s.About("process.capabilities.bounding")
	for bit := 0; bit < capabilities; bit++ {
		if c.Bounding&(1<<bit) == 0 {
			// The kernel knows fewer than fit the set.
			s.Prctl("PR_CAPBSET_DROP", unix.PR_CAPBSET_DROP, uint64(bit)).Ignore(unix.EINVAL)
		}
	}
	s.About("process.user")
	s.Prctl("PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, 1)
	if !denySetgroups {
		s.Setgroups(process.Groups)
	}
	s.Setresgid(process.GID)
	s.Setresuid(process.UID)
	s.Prctl("PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, 0)
	s.About("process.capabilities")
	extra := uint64(0)
	if keepAdmin {
		extra = sysAdmin
	}
	s.Capset(c.Effective|extra, c.Permitted|extra, c.Inheritable)
	s.About("process.capabilities.ambient")
	s.Prctl("PR_CAP_AMBIENT_CLEAR_ALL", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for bit := 0; bit < capabilities; bit++ {
		if c.Ambient&(1<<bit) != 0 {
			// One that is not permitted and inheritable cannot be raised; specs ask for it all the same, and runc goes on without.
			s.Prctl("PR_CAP_AMBIENT_RAISE", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uint64(bit)).Ignore(unix.EPERM, unix.EINVAL)
		}
	}
}

// findProgram fails, in the words that tools look for, where the program cannot be executed: create is to say so, not start.
func findProgram(s *launch.Program, process Process) {
	name := process.Args[0]
	if process.Path != "" {
		name = process.Path
	}
	found := s.Label("the program is there")
	single := strings.Contains(name, "/")
	for _, candidate := range process.Candidates() {
		next := s.Label("try the next place")
		s.About("exec: %q: is a directory", name)
		s.Openat2(launch.CWD, candidate, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, 0).OnSuccess(next).Ignore()
		if single {
			s.About("exec: %q", name)
			s.ExecCheck(candidate).OnSuccess(found)
			s.Mark(next)
			s.About("exec: %q: is a directory", name)
			s.Fail(unix.EACCES)
		} else {
			s.ExecCheck(candidate).OnSuccess(found).Ignore()
			s.Mark(next)
		}
	}
	if !single {
		s.About("exec: %q: executable file not found in $PATH", name)
		s.Fail(unix.ENOENT)
	}
	s.Mark(found)
}

// execute is what happens after the word to start.
func (p *Plan) execute(s *launch.Program, h Held, process Process) {
	if h.Spec != nil {
		s.About("linux.seccomp")
		s.Filter(h.SpecFlags, "spec", h.Spec)
	}
	if c := process.Capabilities; h.keepsAdmin(process) && (c.Effective&sysAdmin == 0 || c.Permitted&sysAdmin == 0) {
		s.About("process.capabilities")
		s.Capset(c.Effective, c.Permitted, c.Inheritable)
	}
	argv := launch.Strings(process.Args, "args")
	env := launch.Strings(process.Env, "environment")
	candidates := process.Candidates()
	s.About("exec %q", process.Args[0])
	for i, candidate := range candidates {
		step := s.Execve(candidate, argv, env)
		if i < len(candidates)-1 {
			step.Ignore(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
		}
	}
	if len(candidates) == 0 {
		s.Fail(unix.ENOENT)
	}
}

// Joined are the setns(2) flags for everything that the container does not share with the caller, and their names. A process cannot
// join the user namespace that it is in.
func (n Namespaces) Joined(user bool) (uint64, string) {
	var flags uint64
	var names []string
	for _, ns := range n {
		kind, _ := kindOf(ns.Type)
		if kind.flag == unix.CLONE_NEWUSER && !user {
			continue
		}
		flags |= kind.flag
		names = append(names, kind.name)
	}
	return flags, strings.Join(names, "|")
}
