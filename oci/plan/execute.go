package plan

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

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
func (p *Plan) execute(l *Launch, h Held, process Process) {
	s := l.Program
	if h.Spec != nil && !l.HasSpecListener {
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
