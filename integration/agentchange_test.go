package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// stepper is a process in a container that does one thing whenever it is told to.
type stepper struct {
	orders io.WriteCloser
	answer *bufio.Reader
	t      testing.TB
}

func (s *stepper) step() string {
	s.t.Helper()
	fmt.Fprintln(s.orders)
	return s.line()
}

func (s *stepper) line() string {
	s.t.Helper()
	line, err := s.answer.ReadString('\n')
	if err != nil {
		s.t.Fatalf("the process is gone: %v", err)
	}
	return strings.TrimSpace(line)
}

// stepper starts a guest that does what args say, with exec. It says its pid first.
func (c *container) stepper(t testing.TB, args ...string) *stepper {
	t.Helper()
	return c.startStepper(t, append([]string{"/bin/guest", "steps"}, args...)...)
}

func (c *container) startStepper(t testing.TB, args ...string) *stepper {
	t.Helper()
	cmd := exec.Command(c.rt.path, append(append([]string{"--root", c.rt.root}, c.rt.args...), append([]string{"exec", c.id}, args...)...)...)
	cmd.Stderr = os.Stderr
	return converse(t, cmd)
}

// converse starts a command that is told what to do in lines, and answers each with one.
func converse(t testing.TB, cmd *exec.Cmd) *stepper {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &stepper{orders: in, answer: bufio.NewReader(out), t: t}
}

// TestPolicyAgentChangesNetwork while processes run.
func TestPolicyAgentChangesNetwork(t *testing.T) {
	e := newEgress(t)
	a := newAgent(t, `{"type":"hello","version":1,"categories":["network"]}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	b := e.enter(script(t, "echo up; sleep 1000"))
	b.annotate("io.sandlock.network.allow", "*:7000")
	c := r.start(t, b)
	c.line(t)
	to := func(host string) *stepper {
		s := c.stepper(t, "network", "connect", "tcp", host+":7000")
		s.line() // its pid
		return s
	}
	first, second := to(allowedHost), to(deniedHost)
	want := func(what, ofFirst, ofSecond string) {
		t.Helper()
		if got := [2]string{first.step(), second.step()}; got != [2]string{ofFirst, ofSecond} {
			t.Errorf("%s: %q", what, got)
		}
	}
	change := func(format string, values ...any) {
		t.Helper()
		if err := a.change(format, values...); err != "" {
			t.Errorf("%s: %s", fmt.Sprintf(format, values...), err)
		}
	}
	const yes, no = testnet.Banner, "EACCES"
	want("at the start", yes, yes)
	change(`"op":"narrow","network":{"allow":[]}`)
	want("narrowed to nothing", no, no)
	change(`"op":"grant","network":{"allow":["%s"]}`, allowedHost)
	want("granted in part", yes, no)
	change(`"op":"grant","network":{}`)
	want("granted in full", yes, yes)

	// For one process alone.
	events := a.find(func(e agentEvent) bool { return e.Syscall == "connect" && e.Addr == deniedHost })
	of := events[len(events)-1]
	change(`"op":"narrow","network":{"allow":[]},"pid":%d,"start_time":%d`, of.PID, of.StartTime)
	want("narrowed for the second process", yes, no)
	change(`"op":"grant","network":{},"pid":%d,"start_time":%d`, of.PID, of.StartTime)
	want("granted to the second process", yes, yes)
	if err := a.change(`"op":"narrow","network":{"allow":[]},"pid":%d,"start_time":%d`, of.PID, of.StartTime+1); !strings.Contains(err, "no process") {
		t.Errorf("narrowed for another process of that pid: %q", err)
	}
	want("narrowed for another process of that pid", yes, yes)

	// For good.
	change(`"op":"restrict","network":{"deny":["%s"]}`, deniedHost)
	want("restricted", yes, no)
	change(`"op":"grant","network":{}`)
	want("restricted for good", yes, no)

	for _, wrong := range []string{
		`"op":"restrict","network":{"allow":["10.0.0.1:0"]}`,
		`"op":"restrict","network":{"allow":["example.com"]}`,
	} {
		if err := a.change("%s", wrong); err == "" || strings.Contains(err, "\n") {
			t.Errorf("%s: %q", wrong, err)
		}
	}
	want("after changes that are wrong", yes, no)
}

// TestPolicyAgentChangesNetworkOfDescendants: what a process makes is under its rules, whoever becomes its parent.
func TestPolicyAgentChangesNetworkOfDescendants(t *testing.T) {
	e := newEgress(t)
	a := newAgent(t, `{"type":"hello","version":1,"categories":["network","process"],"argv":false}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	c := r.start(t, e.enter(script(t, "echo up; sleep 1000")))
	c.line(t)
	// Each child is left to the first process before it connects.
	text := `echo up; while read x; do
		( /bin/sh -c 'until grep -q "^PPid:.1$" /proc/$$/status; do :; done; exec guest network connect tcp ADDRESS' & )
	done`
	text = strings.Replace(text, "ADDRESS", allowedHost+":7000", 1)
	shell := func() *stepper {
		s := c.startStepper(t, "/bin/sh", "-c", text)
		s.line() // up
		return s
	}
	first, second := shell(), shell()
	shells := a.find(func(e agentEvent) bool { return e.Syscall == "execve" && e.GuestPID > 1 && e.GuestPPID == 0 })
	if len(shells) < 2 {
		t.Fatalf("the shells' events: %+v", shells)
	}
	if got := [2]string{first.step(), second.step()}; got != [2]string{testnet.Banner, testnet.Banner} {
		t.Errorf("to begin with: %q", got)
	}
	of := shells[0]
	if err := a.change(`"op":"restrict","network":{"allow":[]},"pid":%d,"start_time":%d`, of.PID, of.StartTime); err != "" {
		t.Fatal(err)
	}
	if got := [2]string{first.step(), second.step()}; got != [2]string{"EACCES", testnet.Banner} {
		t.Errorf("after the first shell was restricted: %q", got)
	}
}

// TestPolicyAgentChangesLimits of the cgroup.
func TestPolicyAgentChangesLimits(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":[]}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	b := newBundle(t, "/bin/guest", "reap")
	b.annotate("io.sandlock.limits.processes", "60", "io.sandlock.limits.memory", "512M")
	c := r.start(t, b)
	c.line(t)
	// full tells whether sixteen processes more would be too many.
	full := func() bool {
		t.Helper()
		res := c.shell(t, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 1000 </dev/null >/dev/null 2>&1 & echo $i; done")
		eventually(t, "they are gone", func() bool {
			r.run(t, "exec", c.id, "/bin/killall", "-9", "sleep") // which misses those that are no sleep yet
			return !strings.Contains(r.must(t, "ps", c.id), "sleep")
		})
		return !strings.HasSuffix(res.stdout, "16\n")
	}
	if full() {
		t.Fatal("full to begin with")
	}
	limits := func() string {
		_, limits, _ := strings.Cut(r.must(t, "inspect", c.id), "\nLimits\n")
		return strings.Join(strings.Fields(limits), " ")
	}
	ok := func(format string, values ...any) {
		t.Helper()
		if err := a.change(format, values...); err != "" {
			t.Errorf("%s: %s", fmt.Sprintf(format, values...), err)
		}
	}
	ok(`"op":"narrow","processes":16`)
	if !full() {
		t.Error("not full under a limit of 16")
	}
	if text := limits(); !strings.Contains(text, "tasks 16") {
		t.Errorf("inspect: %s", text)
	}
	r.must(t, "update", "--pids-limit", "50", c.id) // which knows of it
	if !full() {
		t.Error("not full under a limit of 16, after an update to 50")
	}
	if err := a.change(`"op":"grant","processes":61`); !strings.Contains(err, "more than 60") {
		t.Errorf("granted more than at the start: %q", err)
	}
	ok(`"op":"grant","processes":60`)
	if text := limits(); !strings.Contains(text, "tasks 50") {
		t.Errorf("granted, after an update to 50: %s", text)
	}
	if full() {
		t.Error("full, though granted")
	}
	ok(`"op":"restrict","processes":16`)
	if err := a.change(`"op":"grant","processes":17`); !strings.Contains(err, "more than 16") {
		t.Errorf("granted more than was restricted for good: %q", err)
	}
	if !full() {
		t.Error("not full, though restricted")
	}
	ok(`"op":"narrow","memory":%d`, 64<<20)
	ok(`"op":"grant","memory":%d`, 128<<20)
	if text := limits(); !strings.Contains(text, fmt.Sprintf("memory %d bytes", 128<<20)) {
		t.Errorf("memory: %s", text)
	}
	if err := a.change(`"op":"restrict","network":{"allow":[]}`); !strings.Contains(err, "not supervised") {
		t.Errorf("the network, which is not trapped: %q", err)
	}
}

// TestPolicyAgentExamples runs the examples of docs/agent.md.
func TestPolicyAgentExamples(t *testing.T) {
	built := filepath.Join(shortTempDir(t), "agent")
	build := exec.Command("go", "build", "-o", built, "../docs/examples/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, command := range map[string][]string{"Go": {built}, "Python": {"python3", "../docs/examples/agent.py"}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortTempDir(t), "agent.sock")
			cmd := exec.Command(command[0], append(command[1:], path, "25", "7000")...)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cmd.Process.Kill()
				cmd.Wait()
			}()
			said := bufio.NewReader(out)
			hear := func() string {
				t.Helper()
				line, err := said.ReadString('\n')
				if err != nil {
					t.Fatalf("the agent says nothing more: %v", err)
				}
				return strings.TrimSpace(line)
			}
			if got := hear(); got != "listening" {
				t.Fatalf("the agent says %q", got)
			}
			e := newEgress(t)
			listenIn(t, e.network, "tcp", allowedHost+":7001")
			guest := "guest network connect tcp " + allowedHost
			b := e.join(t, guest+":7000; "+guest+":7001")
			res := newRuntimeWithAgent(t, path).runBundle(t, b)
			if res.stdout != "ECONNREFUSED\n"+testnet.Banner+"\n" {
				t.Errorf("want a refusal, then the banner: %v", res)
			}
			if got := hear(); !strings.HasPrefix(got, b.id+": process 1 executes [") || !strings.Contains(got, "/bin/sh"+"\"") && !strings.Contains(got, "'/bin/sh'") {
				t.Errorf("the agent says %q", got)
			}
			for got := hear(); got != b.id+": refused "+allowedHost+":7000"; got = hear() {
				if !strings.Contains(got, " executes ") {
					t.Errorf("the agent says %q", got)
				}
			}
		})
	}
}
