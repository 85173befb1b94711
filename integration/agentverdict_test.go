package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// mark is what the guest opens files with, and nothing else does.
const mark = unix.O_NOFOLLOW | unix.O_NOCTTY

// TestPolicyAgentVerdicts has every call that waits for a verdict made twice: the agent denies the first and allows the second.
func TestPolicyAgentVerdicts(t *testing.T) {
	marked := func(e agentEvent) bool { return e.Flags&mark == mark }
	all := func(agentEvent) bool { return true }
	// Programs other than the guest and its shell.
	program := func(e agentEvent) bool { return e.GuestPID > 1 }
	for _, c := range []struct {
		call, script string
		ours         func(agentEvent) bool
		skip         int // of ours are allowed before one is denied
		done         string
	}{
		{"openat", "guest open openat /etc/hostname", marked, 0, "opened"},
		{"openat2", "guest open openat2 /etc/hostname", all, 0, "opened"},
		{"open", "guest open open /etc/hostname", marked, 0, "opened"},
		{"creat", "guest open creat /tmp/x", all, 0, "opened"},
		{"bind", "guest bind tcp 127.0.0.1:7000", all, 0, "bound"},
		{"bind", "guest bind udp 127.0.0.1:80", all, 0, "bound"},
		{"bind", "guest bind unix /tmp/socket", all, 0, "bound"},
		{"execveat", "guest exec execveat /bin/echo done", all, 0, "done"},
		// The first program is the guest itself.
		{"execve", "guest exec execve /bin/echo done", program, 1, "done"},
	} {
		if runtime.GOARCH != "amd64" && (c.call == "open" || c.call == "creat") {
			continue // there are no such calls
		}
		for verdict, errno := range map[string]string{deny: "EPERM", deny + `,"errno":"EXDEV"`: "EXDEV"} {
			t.Run(c.script+" "+errno, func(t *testing.T) {
				seen := 0
				a := newAgent(t, helloAll, func(e agentEvent) string {
					if e.Syscall != c.call || !c.ours(e) {
						return allow
					}
					if seen++; seen == c.skip+1 {
						return verdict
					}
					return allow
				})
				b := script(t, c.script+"; "+c.script)
				for _, dir := range []string{"etc", "tmp"} {
					if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(b.root, "etc/hostname"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				res := newRuntimeWithAgent(t, a.path).runBundle(t, b)
				if res.stdout != errno+"\n"+c.done+"\n" {
					t.Errorf("want %s, then %s: %v", errno, c.done, res)
				}
				if seen <= c.skip {
					t.Errorf("%d events", seen)
				}
				<-a.ended
			})
		}
	}
}

func TestPolicyAgentEgress(t *testing.T) {
	for _, c := range []struct{ how, protocol string }{
		{"connect", "tcp"}, {"connect-nonblock", "tcp"}, {"fastopen", "tcp"}, {"connect", "udp"}, {"sendto", "udp"}, {"sendmsg", "udp"}, {"sendmmsg", "udp"},
	} {
		t.Run(c.how+" "+c.protocol, func(t *testing.T) {
			e := newEgress(t)
			a := newAgent(t, `{"type":"hello","version":1,"categories":["network"]}`, func(e agentEvent) string {
				if e.Addr == deniedHost {
					return deny + `,"errno":"EHOSTUNREACH"`
				}
				return allow
			})
			guest := "guest network " + c.how + " " + c.protocol + " "
			res := newRuntimeWithAgent(t, a.path).runBundle(t, e.join(t, guest+deniedHost+":7000; "+guest+allowedHost+":7000"))
			if res.stdout != "EHOSTUNREACH\n"+testnet.Banner+"\n" {
				t.Errorf("want a refusal, then the banner: %v", res)
			}
			if peers := e.servers[c.protocol+" denied"].Peers(); len(peers) != 0 {
				t.Errorf("the denied server was reached: %v", peers)
			}
			if peers := e.servers[c.protocol+" allowed"].Peers(); len(peers) == 0 {
				t.Error("the allowed server was not reached")
			}
			if events := a.find(func(e agentEvent) bool { return e.Addr == deniedHost && e.Port == 7000 && e.Protocol == c.protocol }); len(events) != 1 {
				t.Errorf("events %+v", events)
			}
			<-a.ended
		})
	}
}

// TestPolicyAgentCannotAllow what the rules deny. It is told.
func TestPolicyAgentCannotAllow(t *testing.T) {
	e := newEgress(t)
	a := newAgent(t, helloAll, allowAll)
	guest := "guest network connect tcp "
	res := newRuntimeWithAgent(t, a.path).runBundle(t, e.join(t, guest+deniedHost+":7000; "+guest+allowedHost+":7000", "io.sandlock.network.allow", allowedHost))
	if res.stdout != "EACCES\n"+testnet.Banner+"\n" {
		t.Errorf("want a refusal, then the banner: %v", res)
	}
	if events := a.find(func(e agentEvent) bool { return e.Denied }); len(events) != 1 || events[0].Held || events[0].Addr != deniedHost {
		t.Errorf("events %+v", events)
	}
	<-a.ended
}

// TestPolicyAgentBindsUnderRules: what is bound on a container's behalf is under its rules, whatever the agent allows.
func TestPolicyAgentBindsUnderRules(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":["bind"]}`, allowAll)
	b := script(t, "guest bind unix /etc/s; guest bind unix /tmp/s; guest bind tcp 127.0.0.1:7001; guest bind tcp 127.0.0.1:7000; ls /etc/s")
	for _, dir := range []string{"etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.annotate("io.sandlock.filesystem.read", "/", "io.sandlock.filesystem.write", "/tmp", "io.sandlock.network.allow_bind", "7000")
	res := newRuntimeWithAgent(t, a.path).runBundle(t, b)
	if res.stdout != "EACCES\nbound\nEACCES\nbound\n" {
		t.Errorf("want only what the rules allow: %v", res)
	}
	<-a.ended
}

// TestPolicyAgentListens: who judges binds judges those that listen makes, of sockets that are not bound.
func TestPolicyAgentListens(t *testing.T) {
	for name, annotations := range map[string][]string{
		"no rules": nil, "ports of its own": {"io.sandlock.network.port_remap", "true"}, "address rules": {"io.sandlock.network.allow", "127.0.0.0/8"},
	} {
		t.Run(name, func(t *testing.T) {
			var allowed atomic.Bool
			a := newAgent(t, `{"type":"hello","version":1,"syscalls":["bind","listen"]}`, func(e agentEvent) string {
				if e.Syscall == "bind" && e.Port != 7000 && !allowed.Load() {
					return deny
				}
				return allow
			})
			b := script(t, "echo up; sleep 1000")
			b.annotate(annotations...)
			c := newRuntimeWithAgent(t, a.path).start(t, b)
			c.line(t)
			implicit := func(e agentEvent) bool {
				return e.Syscall == "bind" && e.Addr == "0.0.0.0" && e.Port >= 1024 && e.Port != 7000 && e.Held
			}
			if res := c.shell(t, "guest listen unbound; guest listen 127.0.0.1:7000"); res.stdout != "EPERM\nlistening\n" || len(a.find(implicit)) != 1 {
				t.Errorf("denied: %v, asked about %+v", res, a.find(implicit))
			}
			allowed.Store(true)
			if res := c.shell(t, "guest listen unbound"); res.stdout != "listening\n" || len(a.find(implicit)) != 2 {
				t.Errorf("allowed: %v, asked about %+v", res, a.find(implicit))
			}
			eventually(t, "both that listened are told", func() bool {
				return len(a.find(func(e agentEvent) bool { return e.Syscall == "listen" && !e.Held && !e.Denied })) == 2
			})
		})
	}
}

// TestPolicyAgentEvents looks at who and what events tell of.
func TestPolicyAgentEvents(t *testing.T) {
	a := newAgent(t, helloAll, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	c := r.start(t, script(t, "guest socket tcp; (sleep 0); echo up; sleep 1000"))
	c.line(t)
	c.line(t)
	first := a.find(func(e agentEvent) bool { return e.Syscall == "execve" && e.GuestPID == 1 })
	if len(first) == 0 || first[0].PID != c.pid || first[0].GuestPPID != 0 || first[0].ParentPID == 0 || first[0].Category != "process" {
		t.Errorf("the first process, %d: %+v", c.pid, first)
	}
	child := a.find(func(e agentEvent) bool { return e.Syscall == "execve" && e.GuestPID > 1 && e.GuestPPID == 1 })
	if len(child) == 0 || child[0].ParentPID != c.pid || child[0].PID == child[0].GuestPID {
		t.Errorf("children of %d: %+v", c.pid, child)
	}
	for what, match := range map[string]func(agentEvent) bool{
		"a socket": func(e agentEvent) bool { return e.Syscall == "socket" && e.Protocol == "tcp" && !e.Held },
		"a process": func(e agentEvent) bool {
			return (e.Syscall == "clone" || e.Syscall == "vfork" || e.Syscall == "fork") && !e.Held
		},
		"memory": func(e agentEvent) bool { return e.Syscall == "mmap" && e.Size > 0 && e.Category == "memory" && !e.Held },
		"a file": func(e agentEvent) bool { return e.Syscall == "openat" && e.Held },
	} {
		eventually(t, "an event of "+what, func() bool { return len(a.find(match)) > 0 })
	}
	// inspect tells of the agent.
	if text := r.must(t, "inspect", c.id); !strings.Contains(text, "policy.socket "+a.path) || !strings.Contains(text, "its verdict is waited for by") {
		t.Errorf("inspect:\n%s", text)
	}
	// A process that joins is asked about as well.
	a.judge = func(e agentEvent) string {
		if e.Syscall == "openat" && e.Flags&mark == mark {
			return deny
		}
		return allow
	}
	if res := c.shell(t, "guest open openat /bin/busybox"); res.stdout != "EPERM\n" {
		t.Errorf("exec: %v", res)
	}
}

// TestPolicyAgentArguments has programs judged by their arguments.
func TestPolicyAgentArguments(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":["execve"]}`, func(e agentEvent) string {
		if slices.Contains(e.Argv, "secret") {
			return deny
		}
		return allow
	})
	b := script(t, "guest exec execve /bin/echo secret; guest exec execveat /bin/echo secret; guest exec execveat /bin/echo welcome; guest exec execve /bin/echo welcome")
	res := newRuntimeWithAgent(t, a.path).runBundle(t, b)
	// The guest itself is executed with the secret in its arguments.
	if res.stdout != "welcome\nwelcome\n" {
		t.Errorf("the secret, or no welcome: %v", res)
	}
	<-a.ended
	for _, want := range [][]string{
		b.spec.Process.Args, {"guest", "exec", "execve", "/bin/echo", "secret"}, {"guest", "exec", "execveat", "/bin/echo", "welcome"}, {"/bin/echo", "welcome"},
	} {
		if len(a.find(func(e agentEvent) bool { return slices.Equal(e.Argv, want) })) == 0 {
			t.Errorf("no event of %q", want)
		}
	}
	long := strings.Repeat("x", 300)
	a = newAgent(t, `{"type":"hello","version":1,"syscalls":["execve"]}`, allowAll)
	b = newBundle(t, append([]string{"/bin/true", long}, strings.Fields(strings.Repeat("a ", 100))...)...)
	newRuntimeWithAgent(t, a.path).runBundle(t, b)
	<-a.ended
	if events := a.find(func(e agentEvent) bool { return true }); len(events) != 1 || len(events[0].Argv) != 64 || len(events[0].Argv[1]) != 256 ||
		events[0].ArgvTotal != 102 || !events[0].ArgvCut {
		t.Errorf("many arguments: %+v", events)
	}
}

// TestPolicyAgentWants: what the agent does not want is not trapped.
func TestPolicyAgentWants(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":["openat2"]}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	b := script(t, "guest open openat /bin/busybox; guest open openat2 /bin/busybox")
	r.start(t, b).wait(t)
	if events := a.find(func(agentEvent) bool { return true }); len(events) != 1 || events[0].Syscall != "openat2" {
		t.Errorf("events %+v", events)
	}
	plan := r.must(t, "inspect", "--format", "json", b.id)
	var inspection struct {
		Plan struct {
			Overlay struct {
				NotifyWhen []struct{ Syscall string }
			}
			Agent struct{ Socket string }
		}
	}
	if err := json.Unmarshal([]byte(plan), &inspection); err != nil {
		t.Fatal(err)
	}
	if n := inspection.Plan.Overlay.NotifyWhen; len(n) != 1 || n[0].Syscall != "openat2" || inspection.Plan.Agent.Socket != a.path {
		t.Errorf("plan %+v", inspection)
	}
}

// TestPolicyAgentFailsClosed: when the agent is gone everything it would be asked about is denied, what waits and what comes later.
func TestPolicyAgentFailsClosed(t *testing.T) {
	for name, end := range map[string]func(*testAgent, uint64){
		"disconnect": func(a *testAgent, _ uint64) { a.hangUp() },
		"garbage":    func(a *testAgent, _ uint64) { a.say("what is this") },
		"unknown id": func(a *testAgent, id uint64) { a.say(`{"type":"verdict","id":%d,"verdict":"allow"}`, id+1000) },
	} {
		t.Run(name, func(t *testing.T) {
			waiting := make(chan uint64, 1)
			a := newAgent(t, `{"type":"hello","version":1,"syscalls":["openat2","execve"]}`, func(e agentEvent) string {
				if e.Syscall == "openat2" {
					waiting <- e.ID
					return ""
				}
				return allow
			})
			r := newRuntimeWithAgent(t, a.path)
			stdin, orders, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer orders.Close()
			c := r.startWithStdin(t, newBundle(t, "/bin/guest", "steps", "open", "openat2", "/bin/busybox"), stdin)
			stdin.Close()
			c.line(t) // its pid
			fmt.Fprintln(orders)
			end(a, <-waiting)
			if got := c.line(t); got != "EPERM" {
				t.Errorf("the call that waited: %s", got)
			}
			fmt.Fprintln(orders)
			if got := c.line(t); got != "EPERM" {
				t.Errorf("a later call: %s", got)
			}
			if res := c.shell(t, "echo inside"); res.code == 0 || !strings.Contains(res.stderr, "operation not permitted") {
				t.Errorf("exec: %v", res)
			}
		})
	}
}

// TestPolicyAgentDeniesTheProgram itself: start fails.
func TestPolicyAgentDeniesTheProgram(t *testing.T) {
	a := newAgent(t, helloAll, func(agentEvent) string { return deny })
	r := newRuntimeWithAgent(t, a.path)
	c := r.create(t, newBundle(t, "/bin/echo", "hello"))
	r.run(t, "start", c.id).refused(t, "/bin/echo", "operation not permitted")
	<-a.ended
}

func TestPolicyAgentRecords(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":["openat2","creat"]}`, func(e agentEvent) string {
		if e.Syscall == "openat2" {
			return audit
		}
		return deny
	})
	r := newRuntimeWithAgent(t, a.path)
	c := r.start(t, script(t, "guest open openat2 /bin/busybox; guest open creat /x; sleep 1000"))
	if first, second := c.line(t), c.line(t); first != "opened" || second != "EPERM" {
		t.Fatalf("%s, %s", first, second)
	}
	file, err := os.ReadFile(filepath.Join(r.root, c.id, "denials.log"))
	eventually(t, "both are on record", func() bool {
		file, err = os.ReadFile(filepath.Join(r.root, c.id, "denials.log"))
		return err == nil && strings.Count(string(file), "\n") == 2
	})
	for i, want := range []string{`"syscall":"openat2"`, `"syscall":"creat"`} {
		line := strings.Split(string(file), "\n")[i]
		if !strings.Contains(line, want) || strings.Contains(line, `"verdict":"audit"`) != (i == 0) || !strings.Contains(line, `"source":"agent"`) || !strings.Contains(line, `"comm":"guest"`) {
			t.Errorf("record %d: %s", i, line)
		}
	}
}

// TestPolicyAgentMissing: without its agent no container is made, and nothing of it is left.
func TestPolicyAgentMissing(t *testing.T) {
	dir := shortTempDir(t)
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	foreign := filepath.Join(dir, "foreign")
	done := make(chan error)
	go func() { // on a thread of its own, which ends with it
		runtime.LockOSThread()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: foreign})
		}
		if err == nil {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 1000, 1000, 1000); errno != 0 {
				err = errno
			}
		}
		if err == nil {
			err = unix.Listen(fd, 1)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	listen("closed").(*net.UnixListener).SetUnlinkOnClose(false)
	deaf := listen("deaf").(*net.UnixListener)
	deaf.SetUnlinkOnClose(false)
	deaf.Close()
	for name, c := range map[string]struct {
		path  string
		words []string
	}{
		"no socket":         {filepath.Join(dir, "nothing"), []string{"policy.socket", "no such file or directory"}},
		"nobody listens":    {filepath.Join(dir, "deaf"), []string{"policy.socket", "connection refused"}},
		"another user":      {foreign, []string{"policy.socket", "uid 1000"}},
		"a later version":   {newAgent(t, `{"type":"hello","version":2}`, nil).path, []string{"policy.socket", "version 2"}},
		"an unknown wish":   {newAgent(t, `{"type":"hello","version":1,"syscalls":["getpid"]}`, nil).path, []string{"policy.socket", "getpid"}},
		"a hello in French": {newAgent(t, `bonjour`, nil).path, []string{"policy.socket", "hello"}},
	} {
		t.Run(name, func(t *testing.T) {
			newRuntimeWithAgent(t, c.path).runBundle(t, script(t, "echo hello")).refused(t, c.words...)
		})
	}
	t.Run("capability", func(t *testing.T) {
		a := newAgent(t, helloAll, allowAll)
		b := script(t, "echo hello")
		capabilities := b.spec.Process.Capabilities
		capabilities.Bounding = append(capabilities.Bounding, "CAP_NET_ADMIN")
		newRuntimeWithAgent(t, a.path).runBundle(t, b).refused(t, "policy.socket", "CAP_NET_ADMIN")
	})
	t.Run("annotation", func(t *testing.T) {
		b := script(t, "echo hello")
		b.annotate("io.sandlock.policy.socket", foreign)
		newRuntime(t).runBundle(t, b).refused(t, "io.sandlock.policy.socket", "annotations.grant")
	})
}

// enter puts a bundle into the network.
func (e *egress) enter(b *bundle) *bundle {
	testbundle.SetNamespacePath(b.spec, specs.NetworkNamespace, e.network.Path())
	return b
}
