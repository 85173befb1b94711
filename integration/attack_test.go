package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The attacks of guest/attack, in a container under egress rules, each beside a control in which it succeeds: without a policy, or
// under a supervisor that does what must not be done.

// attackRules allow the first server, the second by UDP only in descriptorRules.
const (
	attackRules     = allowedHost + ":7000"
	descriptorRules = attackRules + ";udp://" + deniedHost + ":7000"
)

// buildAttack compiles the attacks, once for all tests.
var buildAttack = sync.OnceValues(func() (string, error) {
	sources, err := filepath.Glob("guest/attack/*.c")
	if err != nil || len(sources) == 0 {
		return "", fmt.Errorf("the attacks' sources: %w", err)
	}
	program := filepath.Join(filepath.Dir(guestPath), "attack")
	args := append([]string{"-O2", "-Wall", "-Werror", "-static", "-pthread", "-o", program}, sources...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the attacks: %w: %s", err, out)
	}
	return program, nil
})

// attacked is one attack's end: what it printed, and the network it was made in.
type attacked struct {
	*egress
	output string
	asked  map[string]int // by server, how often the test itself has been there
}

// attack runs one attack in a container of its own, without the spec's own seccomp filter, which is not what is tested.
func attack(t *testing.T, name string, annotations ...string) attacked {
	t.Helper()
	return attackBy(t, attackCommand(name), annotations...)
}

// raceNaively runs one attack without a policy, under a supervisor of its own that has calls continue when it has looked at them.
func raceNaively(t *testing.T, name string) attacked {
	t.Helper()
	return attackBy(t, attackCommand(name)+" naive")
}

func attackCommand(name string) string {
	return fmt.Sprintf("attack %s %s %s 7000", name, allowedHost, deniedHost)
}

func attackBy(t *testing.T, command string, annotations ...string) attacked {
	t.Helper()
	e, r := newEgress(t), newRuntime(t)
	res := r.runBundle(t, e.attacker(t, command, annotations...))
	if res.code != 0 {
		t.Fatalf("%s: %v", command, res)
	}
	return attacked{e, res.stdout, map[string]int{}}
}

// attacker makes a bundle in the network that runs a command, with the attacks at hand.
func (e *egress) attacker(t *testing.T, command string, annotations ...string) *bundle {
	t.Helper()
	program, err := buildAttack()
	if err != nil {
		t.Fatal(err)
	}
	b := e.join(t, command, annotations...)
	b.spec.Linux.Seccomp = nil
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, b.root, "bin/attack", string(text), 0o755)
	return b
}

// reached tells how often the denied server has been.
func (a attacked) reached(t *testing.T, protocol string) int {
	t.Helper()
	return a.visits(t, protocol, protocol+" denied")
}

// visits tells how often a server has been reached. The test goes there itself first: whoever came before it has then been noted.
func (a attacked) visits(t *testing.T, protocol, server string) int {
	t.Helper()
	s := a.servers[server]
	err := a.network.Do(func() error {
		conn, err := net.Dial(protocol, s.Addr.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(commandTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 64))
		return err
	})
	if err != nil {
		t.Fatalf("the test's own visit to %s: %v", server, err)
	}
	a.asked[server]++
	return len(s.Peers()) - a.asked[server]
}

// counts reads "NAME: passed N refused N breached N".
func (a attacked) counts(t *testing.T) (passed, refused, breached int) {
	t.Helper()
	_, text, _ := strings.Cut(a.output, ": ")
	if _, err := fmt.Sscanf(text, "passed %d refused %d breached %d", &passed, &refused, &breached); err != nil {
		t.Fatalf("%q: %v", a.output, err)
	}
	return passed, refused, breached
}

// Somebody else rewrites what was judged: a thread, a process that shares memory, and, for descriptors, by putting another socket in the
// place of the one that was looked at.
func TestPolicyAttackRaces(t *testing.T) {
	for _, test := range []struct{ name, rules, protocol string }{
		{"race-thread", attackRules, "udp"}, {"race-memory", attackRules, "udp"}, {"race-message", attackRules, "udp"},
		{"race-descriptor", descriptorRules, "tcp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := attack(t, test.name, "io.sandlock.network.allow", test.rules)
			passed, refused, breached := a.counts(t)
			if visits := a.reached(t, test.protocol); passed == 0 || refused == 0 || breached > 0 || visits > 0 {
				t.Errorf("%s, and the denied server was reached %d times", a.output, visits)
			}
			control := raceNaively(t, test.name)
			if _, _, breached := control.counts(t); breached == 0 || control.reached(t, test.protocol) == 0 {
				t.Errorf("control: the race is not won against a supervisor that can be raced: %s", control.output)
			}
		})
	}
}

// Two hundred threads trapped at once; signals, with SA_RESTART and without; processes that are stopped and killed meanwhile.
func TestPolicyAttackStorms(t *testing.T) {
	t.Run("crowd", func(t *testing.T) {
		a := attack(t, "crowd", "io.sandlock.network.allow", attackRules)
		if passed, refused, breached := a.counts(t); passed != 200 || refused != 200 || breached != 0 || a.reached(t, "tcp") > 0 {
			t.Error(a.output)
		}
		control := attack(t, "crowd")
		if passed, _, breached := control.counts(t); passed != 200 || breached != 200 || control.reached(t, "tcp") == 0 {
			t.Errorf("control: %s", control.output)
		}
	})
	t.Run("signals", func(t *testing.T) {
		a := attack(t, "signals", "io.sandlock.network.allow", attackRules)
		passed, refused, breached := a.counts(t)
		if passed == 0 || refused == 0 || breached != 0 || a.reached(t, "udp") > 0 || !strings.Contains(a.output, "caught some") {
			t.Error(a.output)
		}
		// A call that a signal made fail must not have been made, and none twice.
		if got := a.visits(t, "udp", "udp allowed"); got > passed || got == 0 {
			t.Errorf("%d datagrams were sent, and %d came", passed, got)
		}
		control := attack(t, "signals")
		if _, _, breached := control.counts(t); breached == 0 || control.reached(t, "udp") == 0 {
			t.Errorf("control: %s", control.output)
		}
	})
	t.Run("stops", func(t *testing.T) {
		const kept, lost = "stops: passed some refused some breached 0 after 1\n", "refused none"
		a := attack(t, "stops", "io.sandlock.network.allow", attackRules)
		if a.output != kept {
			t.Error(a.output)
		}
		if control := attack(t, "stops"); !strings.Contains(control.output, lost) {
			t.Errorf("control: %s", control.output)
		}
	})
}

// A flood of processes, so many that pids are used again, each with another socket at the same descriptor. It leaves nothing behind in
// the monitor.
func TestPolicyAttackFlood(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	b := e.attacker(t, "echo up; read line; "+attackCommand("flood")+"; sleep 1000", "io.sandlock.network.allow", descriptorRules)
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	c := r.startWithStdin(t, b, stdin)
	stdin.Close()
	c.line(t)
	monitor := r.inspect(t, c.id).Monitor.PID
	before := descriptorsOf(t, monitor)
	if _, err := hold.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	a := attacked{e, c.line(t), map[string]int{}}
	if passed, refused, breached := a.counts(t); passed < 5000 || refused < 5000 || breached != 0 || a.reached(t, "tcp") > 0 {
		t.Error(a.output)
	}
	const more = 8 // the log of denials, and what belongs to processes that have just ended
	eventually(t, "the monitor closes what it had of the processes", func() bool { return descriptorsOf(t, monitor) <= before+more })

	// Without the rule that tells the sockets apart, all of them get there.
	control := attack(t, "flood", "io.sandlock.network.allow", descriptorRules+";tcp://"+deniedHost+":7000")
	if passed, refused, breached := control.counts(t); passed < 5000 || refused != 0 || breached < 5000 || control.reached(t, "tcp") == 0 {
		t.Errorf("control: %s", control.output)
	}
}

func descriptorsOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Sockets that are received, inherited, duplicated, of a thread with a descriptor table of its own, or exchanged while in use.
func TestPolicyAttackDescriptors(t *testing.T) {
	a := attack(t, "passed", "io.sandlock.network.allow", attackRules)
	const want = "passed: received 0 1\npassed: inherited 0 1\npassed: duplicated 0 1\npassed: apart 0 1\npassed: juggled 0\n"
	if visits := a.reached(t, "tcp"); a.output != want || visits > 0 {
		t.Errorf("%s, and the denied server was reached %d times", a.output, visits)
	}
	control := attack(t, "passed")
	for _, how := range []string{"received", "inherited", "duplicated", "apart"} {
		if !strings.Contains(control.output, how+" 1 ") {
			t.Errorf("control: %s", control.output)
		}
	}
	if visits := control.reached(t, "tcp"); visits < 5 || strings.Contains(control.output, "juggled 0") {
		t.Errorf("control: the denied server was reached %d times: %s", visits, control.output)
	}
}

// The same from a program in Go, whose threads get signals of the Go runtime's own while their calls are judged.
func TestPolicyAttackInGo(t *testing.T) {
	command := fmt.Sprintf("guest attack %s:7000 %s:7000", allowedHost, deniedHost)
	a := attackBy(t, command, "io.sandlock.network.allow", attackRules)
	passed, refused, breached := a.counts(t)
	if visits := a.reached(t, "tcp") + a.reached(t, "udp"); passed == 0 || refused == 0 || breached != 0 || visits > 0 {
		t.Errorf("%s, and the denied server was reached %d times", a.output, visits)
	}
	control := attackBy(t, command)
	if _, _, breached := control.counts(t); breached == 0 || control.reached(t, "tcp") == 0 || control.reached(t, "udp") == 0 {
		t.Errorf("control: %s", control.output)
	}
}

// Whatever a call is given, it comes to what it comes to without a supervisor, but for the address that is denied.
func TestPolicyAttackPointers(t *testing.T) {
	under := attack(t, "pointers", "io.sandlock.network.allow", attackRules)
	without := attack(t, "pointers")
	got, want := strings.Split(under.output, "\n"), strings.Split(without.output, "\n")
	if len(got) != len(want) || len(got) < 50 {
		t.Fatalf("%d lines, and %d without a supervisor:\n%s", len(got), len(want), under.output)
	}
	for i := range got {
		name, answer, _ := strings.Cut(got[i], ": ")
		if name == "in the end, denied" {
			if answer != "EACCES" || want[i] != name+": reached" {
				t.Errorf("%s; without a supervisor: %s", got[i], want[i])
			}
		} else if got[i] != want[i] {
			t.Errorf("%s; without a supervisor: %s", got[i], want[i])
		}
	}
}

// The ways past seccomp and Landlock.
func TestPolicyAttackWays(t *testing.T) {
	for name, refusal := range map[string]string{"io_uring": "ENOSYS", "x32": "ENOSYS", "int80": "ENOSYS", "mptcp": "EPROTONOSUPPORT"} {
		t.Run(name, func(t *testing.T) {
			a := attack(t, name, "io.sandlock.network.allow", attackRules)
			if visits := a.reached(t, "tcp"); a.output != name+": "+refusal+"\n" || visits > 0 {
				t.Errorf("%s, and the denied server was reached %d times", a.output, visits)
			}
			control := attack(t, name)
			if strings.Contains(control.output, "ENOSYS") {
				t.Skipf("SKIPPED, NOT TESTED: this kernel has no such way: %s", control.output)
			}
			if control.output != name+": reached\n" || control.reached(t, "tcp") == 0 {
				t.Errorf("control: %s", control.output)
			}
		})
	}
}
