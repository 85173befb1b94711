package plan

import (
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

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
	schedule(s, process.Scheduling)
	p.adopt(s)
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
	// Images have working directories that are root's alone, and runc lets other users start there. Where root may not go, as on some network
	// file systems, the user may.
	s.About("process.cwd %s", process.Cwd)
	asRoot := s.Chdir(process.Cwd).Ignore(unix.EACCES, unix.EPERM).Result("as root")
	identity(s, process, h.keepsAdmin(process), p.DenySetgroups)
	s.About("process.cwd %s", process.Cwd)
	there, asUser := s.Label("there"), s.Label("as the user")
	s.Reached(asRoot, unix.EACCES).OnSuccess(there).OnError(asUser)
	s.Mark(asUser)
	s.Chdir(process.Cwd)
	s.Mark(there)
	// A working directory outside the root shows as "(unreachable)...": no leaked descriptor may have led there.
	cwd := launch.Bytes(make([]byte, unix.PathMax), "cwd")
	s.Call("getcwd", unix.SYS_GETCWD, cwd, launch.Value(unix.PathMax))
	s.ExpectByte(cwd, '/', unix.EPERM)
	findProgram(s, process)
	s.About("")
}

// seal is the last of what happens before the child is parked: what comes after it is under the overlay filter, and must be allowed by it.
func (p *Plan) seal(l *Launch, h Held, process Process) {
	s := l.Program
	s.About("process.rlimits")
	late := -1
	for i, r := range process.Rlimits {
		if r.Type == openFiles && (p.Supervised() || h.notifies()) {
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
	if late >= 0 && !h.notifies() {
		s.About("process.rlimits")
		limit(s, process.Rlimits[late])
	}
	s.About("")
	if !h.notifies() {
		return
	}
	// The agent gets the listener while the child is parked: execve closes it, and may itself be one of the calls that wait for the agent.
	s.About("linux.seccomp")
	l.SpecListener = s.Filter(h.SpecFlags, "spec, NEW_LISTENER", h.Spec).Result("listener of linux.seccomp")
	l.HasSpecListener = true
	if late >= 0 {
		s.About("process.rlimits")
		limit(s, process.Rlimits[late])
	}
	s.About("")
}

// notifies says whether the spec's own filter has a listener.
func (h Held) notifies() bool {
	return h.Spec != nil && h.SpecFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
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
