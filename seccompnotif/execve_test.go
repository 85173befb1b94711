package seccompnotif

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// judge records the arguments of every execve: the last one by the one before it.
type judge struct {
	mu   sync.Mutex
	args map[string]string
}

func newJudge() *judge { return &judge{args: map[string]string{}} }

func (j *judge) record(a Argv) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(a.Args); n >= 2 {
		j.args[a.Args[n-2]] = a.Args[n-1]
	}
}

// frozen is how it is done.
func (j *judge) frozen(*Call) Action {
	return JudgeExec(func(a Argv) Action {
		j.record(a)
		return Continue()
	})
}

// unfrozen is how it is not done: whoever could change the arguments runs on.
func (j *judge) unfrozen(c *Call) Action {
	a, err := readArgv(argvAddress(&c.n), c.readFrozen)
	if err != nil {
		return Errno(unix.EFAULT)
	}
	j.record(a)
	for start := time.Now(); time.Since(start) < 50*time.Microsecond; {
	}
	return Continue()
}

// differences returns how many programs got other arguments than were judged, of how many.
func (j *judge) differences(t *testing.T, lines []string) (differ, total int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range lines {
		id, got, ok := strings.Cut(line, " ")
		want, known := j.args[id]
		if !ok || !known || got != "good" && got != "evil" {
			t.Fatalf("the guest said %q; %q was judged", line, want)
		}
		if got != want {
			differ++
		}
		total++
	}
	return differ, total
}

// TestArgumentsAreTrue has the arguments changed all the time by whoever can change them.
func TestArgumentsAreTrue(t *testing.T) {
	for _, how := range []string{"thread", "leader", "shared", "vm", "vfork"} {
		t.Run(how, func(t *testing.T) {
			const times = 60
			j := newJudge()
			s := tracking(t, j.frozen)
			out := startGuest(t, trackedOverlay(), s, "race", how, fmt.Sprint(times)).run()
			finish(t, s)
			if differ, total := j.differences(t, out); differ != 0 || total != times {
				t.Errorf("%d of %d programs got other arguments than were judged", differ, total)
			}

			// The attack works where nobody is stopped.
			for range 20 {
				j := newJudge()
				s := tracking(t, j.unfrozen)
				out := startGuest(t, trackedOverlay(), s, "race", how, fmt.Sprint(times)).run()
				finish(t, s)
				if differ, total := j.differences(t, out); differ > 0 {
					t.Logf("control: %d of %d programs got other arguments than were judged", differ, total)
					return
				}
			}
			t.Error("the attack does not work even without the freeze, so it proves nothing")
		})
	}
}

// judged runs a guest whose execves are all allowed, and returns what it printed and what was judged.
func judgedRun(t *testing.T, args ...string) ([]string, *judge) {
	t.Helper()
	j := newJudge()
	s := tracking(t, j.frozen)
	out := startGuest(t, trackedOverlay(), s, args...).run()
	finish(t, s)
	return out, j
}

func TestFailedExecves(t *testing.T) {
	out, j := judgedRun(t, "no-program")
	if got := strings.Join(out, ";"); got != "counts 1" {
		t.Errorf("the guest said %q", got)
	}
	if j.args["x"] != "y" {
		t.Errorf("judged %v", j.args)
	}
}

// TestStoppedPeers has peers under job control. With the freeze's own stops nothing of that may get lost.
func TestStoppedPeers(t *testing.T) {
	out, _ := judgedRun(t, "stopped")
	var rest []string
	for _, line := range out {
		if line != "0 good" {
			rest = append(rest, line)
		}
	}
	if got := strings.Join(rest, ";"); got != "stopped: runs 0, continued: runs 1, at last: runs 1" || len(out) != 41 {
		t.Errorf("the guest said %q in %d lines", got, len(out))
	}
}

func TestSignalsAreNotLost(t *testing.T) {
	const times = 100
	out, _ := judgedRun(t, "signals", fmt.Sprint(times))
	if got, want := out[len(out)-1], fmt.Sprintf("signals %d", times); got != want || len(out) != times+1 {
		t.Errorf("the guest said %q in %d lines", got, len(out))
	}
}

// TestTracedTasks has tasks that a guest traces. One that rests in its tracer's stop cannot do harm while that is stopped.
func TestTracedTasks(t *testing.T) {
	for how, want := range map[string]string{
		"stopped": "0 good",
		"running": fmt.Sprintf("0 failed %d", unix.EPERM),
		"caller":  fmt.Sprintf("caller failed %d", unix.EPERM),
	} {
		t.Run(how, func(t *testing.T) {
			out, _ := judgedRun(t, "traced", how)
			if got := strings.Join(out, ";"); got != want {
				t.Errorf("the guest said %q, want %q", got, want)
			}
		})
	}
}

// TestKindsOfPrograms has a program from memory, one that is a script, one of a script, and one that a thread executes.
func TestKindsOfPrograms(t *testing.T) {
	inner, outer := t.TempDir()+"/inner", t.TempDir()+"/outer"
	for path, text := range map[string]string{
		inner: "#!" + buildGuest(t) + " print\n",
		outer: "#!" + inner + " option\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args    []string
		id, out string
	}{
		{[]string{"memfd"}, "memfd", "memfd good"},
		{[]string{"script", inner}, "script", inner + " script good"},
		{[]string{"script", outer}, "script", inner + " option " + outer + " script good"},
		{[]string{"nothing"}, "", ""},
	} {
		out, j := judgedRun(t, test.args...)
		if got := strings.Join(out, ";"); got != test.out {
			t.Errorf("%v: the guest said %q, want %q", test.args, got, test.out)
		}
		if test.id != "" && j.args[test.id] != "good" {
			t.Errorf("%v: judged %v", test.args, j.args)
		}
	}
}

// TestExecveOfAThread: the thread takes its process's number, and the record of the process lives on.
func TestExecveOfAThread(t *testing.T) {
	j := newJudge()
	s := tracking(t, j.frozen)
	g := startGuest(t, trackedOverlay(), s, "thread")
	p, err := s.Enroll(g.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	p.OnExit(func() { close(exited) })
	if got, want := strings.Join(g.run(), ";"), fmt.Sprintf("%d good", g.cmd.Process.Pid); got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	<-exited
	p.OnExit(func() { exited = nil })
	if exited != nil {
		t.Error("whoever asks after the exit is not told")
	}
	finish(t, s)
}

func TestLargeArguments(t *testing.T) {
	for _, test := range []struct {
		n, length int
		want      string
	}{
		{5, MaxArgBytes, ""},
		{5, MaxArgBytes + 1, ""},
		{MaxArgs, 10, ""},
		{MaxArgs + 1, 10, ""},
		{5000, 100_000, ""},
		{5000, 200_000, fmt.Sprintf("failed %d", unix.E2BIG)}, // a single argument has 128 KiB at most
		{2_000_000, 10, fmt.Sprintf("failed %d", unix.E2BIG)},
	} {
		t.Run(fmt.Sprint(test.n, test.length), func(t *testing.T) {
			var judged Argv
			s := tracking(t, func(*Call) Action {
				return JudgeExec(func(a Argv) Action { judged = a; return Continue() })
			})
			out := strings.Join(startGuest(t, trackedOverlay(), s, "many", fmt.Sprint(test.n), fmt.Sprint(test.length)).run(), ";")
			finish(t, s)
			if out != test.want {
				t.Errorf("the guest said %q, want %q", out, test.want)
			}
			if test.n > mostArguments {
				return
			}
			if judged.Total != test.n || len(judged.Args) != min(test.n, MaxArgs) || judged.Cut != (test.n > MaxArgs || test.length > MaxArgBytes) {
				t.Errorf("judged %d of %d, cut %v", len(judged.Args), judged.Total, judged.Cut)
			}
			if long := test.n - 2; long < MaxArgs && (len(judged.Args[long]) != min(test.length, MaxArgBytes) || judged.Truncated(long) != (test.length > MaxArgBytes)) {
				t.Errorf("the long one has %d bytes, truncated: %v", len(judged.Args[long]), judged.Truncated(long))
			}
		})
	}
}

func TestForksAndExecvesOfManyThreads(t *testing.T) {
	out, _ := judgedRun(t, "forkers", "8", "20")
	if got := strings.Join(out, ";"); got != "done" {
		t.Errorf("the guest said %q", got)
	}
}

// TestWritesWithoutATask has the kernel change an argument, or the name of the file, when a stopped task is killed. Nobody can be
// kept from that, so the program must not run.
func TestWritesWithoutATask(t *testing.T) {
	other := buildGuest(t) + "-two"
	if err := os.Link(buildGuest(t), other); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(other)
	for what, control := range map[string]string{"argument": "0 ", "path": "0 good"} {
		for _, checked := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s checked %v", what, checked), func(t *testing.T) {
				var s *Supervisor
				var first atomic.Int64
				judged := ""
				s = tracking(t, func(c *Call) Action {
					return JudgeExec(func(a Argv) Action {
						judged = a.Args[3]
						for _, p := range s.Processes() {
							if p.PID() != c.PID() && p.PID() != int(first.Load()) {
								_ = p.Signal(unix.SIGKILL)
								testguest.Await(t, "the peer's end", p.Exited)
							}
						}
						return Continue()
					})
				})
				s.tracer.unchecked = !checked
				g := startGuest(t, trackedOverlay(), s, "dying", what)
				first.Store(int64(g.cmd.Process.Pid))
				out := strings.Join(g.run(), ";")
				finish(t, s)
				want := fmt.Sprintf("status %d", unix.SIGKILL)
				if !checked {
					want = control + ";status 0"
				}
				if judged != "good" || out != want {
					t.Errorf("judged %q, the guest said %q, want %q", judged, out, want)
				}
			})
		}
	}
}

func TestWhatBecomesOfArguments(t *testing.T) {
	judged := program{path: "/x/script", argv: Argv{Args: []string{"name", "a", "b"}, Total: 3}}
	for has, want := range map[string]bool{
		"name a b":                    true,
		"name a":                      false,
		"name a b c":                  false,
		"name a c":                    false,
		"other a b":                   false,
		"/bin/sh /x/script a b":       true,
		"/bin/sh -e /x/script a b":    true,
		"/bin/sh /y -e /x/script a b": true,
		"/bin/sh /x/script name a b":  true, // binfmt_misc that keeps the first argument
		"/bin/sh /x/other a b":        false,
		"/bin/sh /x/script a b c":     false,
		"/x/script a b":               false,
		"name evil a b":               false,
		"":                            false,
		strings.Repeat("x ", 100) + "/x/script a b": false,
	} {
		var s argScanner
		if has != "" {
			s.write([]byte(strings.ReplaceAll(has, " ", "\x00") + "\x00"))
		}
		if got := judged.became(&s); got != want {
			t.Errorf("%q: %v", has, got)
		}
	}
}
