package netfilter

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

// The tests run against real guests: the test binary started again, in a network of the test's making, under the filter of
// its policy, where it runs one of the scenarios. Test and scenario talk over a socket, in lines, with read(2) and
// write(2), which no filter here notifies.

const (
	guestEnv   = "NETFILTER_GUEST" // JSON of guestStart
	testSocket = 3                 // the descriptor that exec.Cmd gives the first extra file
	firstExtra = 4
)

type guestStart struct {
	Scenario string
	Policy   Policy
	Bind     BindPolicy
	Ports    bool // a port space of its own
	Args     json.RawMessage
	Watched  bool // which the policy's JSON form does not tell
	Asked    bool // bind is notified
}

// A guest makes its calls on the main thread, whose id is the process's. Only before main is the main goroutine sure to be there.
func init() {
	if os.Getenv(guestEnv) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if text := os.Getenv(guestEnv); text != "" {
		if err := guestMain(text); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// self is the guest's end.
type self struct {
	args   json.RawMessage
	socket *os.File
	lines  *bufio.Scanner
}

func (s *self) arguments(into any) {
	if err := json.Unmarshal(s.args, into); err != nil {
		panic(err)
	}
}

// tell sends a line to the test.
func (s *self) tell(v any) {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = s.socket.Write(append(text, '\n'))
	}
	if err != nil {
		panic(err)
	}
}

// wait waits for a line of the test.
func (s *self) wait() string {
	if !s.lines.Scan() {
		os.Exit(0) // the test is over
	}
	return s.lines.Text()
}

func guestMain(text string) error {
	var start guestStart
	if err := json.Unmarshal([]byte(text), &start); err != nil {
		return err
	}
	if start.Watched {
		start.Policy = start.Policy.Watched()
	}
	overlay := seccompnotif.Overlay{
		NotifyWhen: append(start.Policy.Notifications(), start.Bind.Notifications()...), Deny: append(start.Policy.Denials(), start.Bind.Denials()...),
	}
	if start.Asked {
		overlay.Notify = append(overlay.Notify, "bind", "listen")
	}
	if start.Ports {
		overlay.NotifyWhen = append(append(overlay.NotifyWhen, PortNotifications()...), ViewNotifications()...)
		overlay.Deny = append(overlay.Deny, PortDenials()...)
	}
	program, err := overlay.Assemble()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	if start.Policy.NeedsSupervisor() || start.Bind.NeedsSupervisor() || start.Ports {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return errno
	}
	me := &self{args: start.Args, socket: os.NewFile(testSocket, "test")}
	me.lines = bufio.NewScanner(me.socket)
	me.tell(int(listener))
	me.wait()
	unix.Close(int(listener))
	scenario, ok := scenarios[start.Scenario]
	if !ok {
		return fmt.Errorf("no scenario %q", start.Scenario)
	}
	me.tell(scenario(me))
	return nil
}

// guest is a running guest, seen from the test.
type guest struct {
	t          testing.TB
	cmd        *exec.Cmd
	socket     *os.File
	in         *bufio.Reader
	egress     *Egress // nil if the guest is not supervised
	supervisor *seccompnotif.Supervisor

	mu      sync.Mutex
	denials []Denial
}

// guestOptions are what is unusual about a guest.
type guestOptions struct {
	args     any
	extra    []*os.File                   // its descriptors from firstExtra on
	attr     unix.SysProcAttr             //
	handlers map[int]seccompnotif.Handler // in place of Egress
	bind     BindPolicy                   // takes the handler of listen besides
	quiet    bool                         // no record of denials
	denials  DenialLog                    // in place of the record that denied returns
	asked    seccompnotif.Subscriber      // is asked about what the policy allows
	confine  func() error                 // puts threads under what the guest is confined by
	change   func(*Egress)                // changes the policy before the guest goes on
	parked   int                          // calls that may be parked at a time; 0 = as many as usual
	ports    *PortSpace                   // nil: none of its own
}

// start starts a guest in the network, under policy.
func (n *network) start(t testing.TB, p Policy, scenario string, o guestOptions) *guest {
	t.Helper()
	args, err := json.Marshal(o.args)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(guestStart{scenario, p, o.bind, o.ports != nil, args, p.watched, o.asked != nil})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "guest")
	g := &guest{t: t, socket: os.NewFile(uintptr(pair[0]), "guest")}
	g.in = bufio.NewReader(g.socket)
	g.cmd = exec.Command("/proc/self/exe")
	g.cmd.Env = append(os.Environ(), guestEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	g.cmd.ExtraFiles = append([]*os.File{theirs}, o.extra...)
	g.cmd.Stdout, g.cmd.Stderr = os.Stdout, os.Stderr
	g.cmd.SysProcAttr = &o.attr
	n.do(t, func() error { return g.cmd.Start() })
	theirs.Close()
	t.Cleanup(g.end)
	var number int
	g.hear(&number)
	if p.NeedsSupervisor() || o.bind.NeedsSupervisor() || o.ports != nil {
		g.supervise(p, o, number)
	}
	g.say("go")
	return g
}

func (g *guest) supervise(p Policy, o guestOptions, number int) {
	g.t.Helper()
	pidfd, err := unix.PidfdOpen(g.cmd.Process.Pid, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer unix.Close(pidfd)
	listener, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	config := EgressConfig{Policy: p, Ports: o.ports, Denials: DenialFunc(func(d Denial) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.denials = append(g.denials, d)
	})}
	if o.quiet || o.denials != nil {
		config.Denials = o.denials
	}
	config.Bind, config.Confine = o.bind, o.confine
	if o.asked != nil {
		config.Gate, err = seccompnotif.NewGate(seccompnotif.GateConfig{Subscriber: o.asked, Syscalls: append(p.Notified(), "bind", "listen"), Log: g.t.Logf})
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(config.Gate.Close)
		if o.ports != nil {
			o.ports.judge.gate = config.Gate
		}
	}
	egress, err := NewEgress(config)
	if err != nil {
		g.t.Fatal(err)
	}
	if o.change != nil {
		o.change(egress)
	}
	if o.parked > 0 {
		egress.lot.limit = o.parked
	}
	g.egress = egress
	table := seccompnotif.NewTable()
	if o.handlers == nil {
		egress.Register(table)
		if o.ports != nil {
			for nr, handler := range o.ports.Handlers() {
				table.Handle(nr, handler)
			}
			engine, err := onbehalf.New(onbehalf.Config{Confine: o.confine, Log: g.t.Logf})
			if err != nil {
				g.t.Fatal(err)
			}
			g.t.Cleanup(func() {
				g.end()
				g.supervisor.Close()
				engine.Close()
			})
			for _, nr := range onbehalf.Opens() {
				table.HandleLast(nr, engine.Presenting(o.ports))
			}
		}
	}
	for nr, handler := range o.handlers {
		table.Handle(nr, handler)
	}
	listen, err := NewListen(o.bind, config.Denials, config.Gate)
	if err != nil {
		g.t.Fatal(err)
	}
	table.Handle(unix.SYS_LISTEN, listen)
	built, err := table.Build()
	if err != nil {
		g.t.Fatal(err)
	}
	supervisor, err := seccompnotif.New(seccompnotif.Config{Table: built, Log: g.t.Logf})
	if err != nil {
		g.t.Fatal(err)
	}
	g.supervisor = supervisor
	if err := supervisor.Attach(listener); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		g.end()
		supervisor.Close()
		egress.Close()
		listen.Close()
	})
}

// end kills the guest, if it still runs, and waits for it.
func (g *guest) end() {
	if g.cmd.ProcessState == nil {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
		g.socket.Close()
	}
}

// say sends a line to the guest.
func (g *guest) say(line string) {
	g.t.Helper()
	if _, err := g.socket.WriteString(line + "\n"); err != nil {
		g.t.Fatal(err)
	}
}

// hear waits for the guest's next line.
func (g *guest) hear(into any) {
	g.t.Helper()
	line, err := g.in.ReadBytes('\n')
	if err != nil {
		g.t.Fatalf("the guest is gone: %v", err)
	}
	if err := json.Unmarshal(line, into); err != nil {
		g.t.Fatal(err)
	}
}

// denied returns the denials so far.
func (g *guest) denied() []Denial {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Denial(nil), g.denials...)
}

// run starts a guest and returns what its scenario returns.
func run[T any](t testing.TB, n *network, p Policy, scenario string, o guestOptions) (T, *guest) {
	t.Helper()
	g := n.start(t, p, scenario, o)
	var result T
	g.hear(&result)
	return result, g
}
