package plan

import (
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

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
	p.join(s, h, b)
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

// join enters existing namespaces. Whoever is privileged on the host may join all of them, whichever user namespace owns them, as long as it has not joined
// a user namespace itself. Anybody else has rights only over what that user namespace owns, and only once it is in there.
func (p *Plan) join(s *launch.Program, h Held, b birth) {
	setns := func(t string) launch.Step {
		kind, _ := kindOf(t)
		s.About("linux.namespaces: join the %s namespace %s", t, p.Namespaces.Path(specs.LinuxNamespaceType(t)))
		return s.Setns(h.Namespaces[t], kind.flag, kind.name)
	}
	if !b.joinUser {
		for _, t := range b.join {
			setns(t)
		}
		return
	}
	joined, inside := s.Label("joined"), s.Label("from inside")
	for _, t := range b.join {
		setns(t).OnError(inside, unix.EPERM)
	}
	user := setns(string(specs.UserNamespace))
	if len(b.join) == 0 {
		return
	}
	user.OnSuccess(joined)
	s.Mark(inside)
	setns(string(specs.UserNamespace))
	for _, t := range b.join {
		setns(t)
	}
	s.Mark(joined)
}

// born is where the parent maps the ids. The kernel gives the files of a process that cannot be looked into to root, and an ordinary user could not write to
// them: for as long as it takes, it can be.
func (p *Plan) born(l *Launch, h Held) {
	visible := func(on uint64) {
		if h.User && p.Namespaces.New(specs.UserNamespace) {
			l.Program.Prctl("PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE, on)
		}
	}
	visible(1)
	l.Born = l.Program.Sync("namespaces are there")
	visible(0)
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
