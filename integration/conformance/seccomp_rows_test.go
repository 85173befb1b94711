package conformance

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// profile is a seccomp profile that allows all, with rules for making directories.
func profile(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
	for i := range rules {
		if rules[i].Names == nil {
			rules[i].Names = []string{"mkdir", "mkdirat"}
		}
	}
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules}
}

// makesDirectory says with which error making a directory ends.
const makesDirectory = "mkdir /tmp/x 2>&1 && echo made; true"

// under runs script under the profile and compares what it prints.
func under(seccomp func() *specs.LinuxSeccomp, script, want string) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(script)
		b.spec.Linux.Seccomp = seccomp()
		x.prints(b, want)
	}
}

// refusesProfile fails unless a profile is an error. Some runtimes see that only when they install it.
func refusesProfile(change func(s *specs.LinuxSeccomp)) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		b.spec.Linux.Seccomp = profile(specs.LinuxSyscall{Action: specs.ActErrno})
		change(b.spec.Linux.Seccomp)
		x.refusesToRun(b)
	}
}

func errnoRule() *specs.LinuxSeccomp {
	return profile(specs.LinuxSyscall{Action: specs.ActErrno, ErrnoRet: pointer(uint(28))})
}

// seccompSections are the rows of config-linux.md about seccomp.
func seccompSections() []section {
	const document = "config-linux.md"
	const refusedText = "mkdir: can't create directory '/tmp/x': No space left on device\n"
	return []section{
		{document, "Seccomp", []requirement{
			{lines: "885", says: "`defaultAction` is needed, and one that there is", test: func(x *trial) {
				refusesProfile(func(s *specs.LinuxSeccomp) { s.DefaultAction = "" })(x)
				refusesProfile(func(s *specs.LinuxSeccomp) { s.DefaultAction = "SCMP_ACT_NONSENSE" })(x)
			}},
			{lines: "888", says: "`defaultErrnoRet` with an action that takes none is an error", since: "1.1.0", test: refusesProfile(func(s *specs.LinuxSeccomp) {
				s.DefaultErrnoRet = pointer(uint(28))
			})},
			{lines: "927,1007,1009", says: "the container process state comes as JSON over `listenerPath`, a stream socket, with the descriptors beside its first bytes", test: func(x *trial) {
				x.notified()
			}},
			{lines: "928,929", says: "one connection has exactly one state, and is closed then", test: func(x *trial) {
				text, _ := x.notified()
				decoder := json.NewDecoder(strings.NewReader(text))
				var state specs.ContainerProcessState
				x.noError(decoder.Decode(&state))
				if err := decoder.Decode(&state); err != io.EOF {
					x.errorf("more came after the state: %v", err)
				}
			}},
			{lines: "930", says: "a state that cannot be sent is an error", test: refusesProfile(func(s *specs.LinuxSeccomp) {
				s.Syscalls[0].Action, s.ListenerPath = specs.ActNotify, "/no/such/socket"
			})},
			{lines: "935", says: "the descriptor `seccompFd` is the filter's", test: func(x *trial) {
				_, files := x.notified()
				x.equal("number of descriptors", len(files), 1)
			}},
			{lines: "939", says: "`listenerMetadata` without `listenerPath` is an error", test: refusesProfile(func(s *specs.LinuxSeccomp) {
				s.ListenerMetadata = "metadata"
			})},
			{lines: "946", says: "`names` are the names of calls", test: under(errnoRule, makesDirectory, refusedText)},
			{lines: "947", says: "`names` has at least one entry: none is an error", test: refusesProfile(func(s *specs.LinuxSeccomp) {
				s.Syscalls[0].Names = []string{}
			})},
			{lines: "948", says: "`action` is needed, and one that there is", test: func(x *trial) {
				refusesProfile(func(s *specs.LinuxSeccomp) { s.Syscalls[0].Action = "" })(x)
				refusesProfile(func(s *specs.LinuxSeccomp) { s.Syscalls[0].Action = "SCMP_ACT_NONSENSE" })(x)
			}},
			{lines: "963", says: "`errnoRet` with an action that takes none is an error", test: refusesProfile(func(s *specs.LinuxSeccomp) {
				s.Syscalls[0].Action, s.Syscalls[0].ErrnoRet = specs.ActKillProcess, pointer(uint(28))
			})},
			{lines: "969,970,972", says: "`index`, `value` and `op` are what is compared", test: func(x *trial) {
				// chmod(path, mode) and fchmodat(dir, path, mode)
				rule := func(name string, index uint) specs.LinuxSyscall {
					return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: pointer(uint(28)), Args: []specs.LinuxSeccompArg{{Index: index, Value: 0o700, Op: specs.OpEqualTo}}}
				}
				under(func() *specs.LinuxSeccomp { return profile(rule("chmod", 1), rule("fchmodat", 2)) },
					"touch /tmp/x; chmod 755 /tmp/x && echo changed; chmod 700 /tmp/x 2>&1; true", "changed\nchmod: /tmp/x: No space left on device\n")(x)
			}},
			{lines: "972", says: "an `op` that there is not is an error", test: refusesProfile(func(s *specs.LinuxSeccomp) {
				s.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 0, Value: 1, Op: "SCMP_CMP_NONSENSE"}}
			})},
		}},
		{document, "The Container Process State", []requirement{
			{lines: "1013,1016,1018", says: "it has `ociVersion`, `pid` and the container's `state`", test: func(x *trial) { x.notified() }},
		}},
	}
}

// notified runs a container whose profile has a listener, this process, and returns the bytes and files that came. The
// listener is closed: the call that is held then ends with ENOSYS, which shows that the descriptor was the filter's.
func (x *trial) notified() (string, []*os.File) {
	b := x.bundle(makesDirectory)
	path := filepath.Join(x.tempDir(), "socket")
	socket := x.listen(path)
	b.spec.Linux.Seccomp = profile(specs.LinuxSyscall{Action: specs.ActNotify})
	b.spec.Linux.Seccomp.ListenerPath, b.spec.Linux.Seccomp.ListenerMetadata = path, "metadata"
	c := x.start(b)
	text, files := x.receive(socket)
	for _, f := range files {
		x.noError(f.Close())
	}
	x.equal("output", x.said(c), "mkdir: can't create directory '/tmp/x': Function not implemented\n")
	var state specs.ContainerProcessState
	x.noError(json.NewDecoder(strings.NewReader(text)).Decode(&state))
	x.equal("names of the descriptors", strings.Join(state.Fds, " "), "seccompFd")
	x.equal("pid", state.Pid, c.pid)
	x.equal("metadata", state.Metadata, "metadata")
	x.equal("state's id", state.State.ID, b.id)
	x.equal("state's bundle", state.State.Bundle, b.dir)
	if state.Version == "" || state.State.Version == "" {
		x.errorf("ociVersion is missing: %s", text)
	}
	return text, files
}
