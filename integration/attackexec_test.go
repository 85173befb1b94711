package integration

import (
	"slices"
	"strings"
	"testing"
)

// noEvil is an agent that has programs executed with any argument but "evil".
func noEvil(e agentEvent) string {
	if strings.HasPrefix(e.Syscall, "execve") && slices.Contains(e.Argv, "evil") {
		return deny
	}
	return allow
}

const helloExec = `{"type":"hello","version":1,"syscalls":["execve","execveat"]}`

// judgedByAgent runs one attack on programs under an agent, and returns what it printed.
func judgedByAgent(t *testing.T, name string, judge func(agentEvent) string) string {
	t.Helper()
	a := newAgent(t, helloExec, judge)
	r := newRuntimeWithAgent(t, a.path)
	b := newEgress(t).attacker(t, attackCommand(name))
	b.mount("/tmp", "tmpfs", "tmpfs")
	res := r.runBundle(t, b)
	if res.code != 0 {
		t.Fatalf("%s: %v", name, res)
	}
	return res.stdout
}

// The argument of a program is rewritten while its execution is judged: by a thread of the caller's, through shared memory, and by a
// process in the same address space. What the agent has seen is what the program gets.
func TestPolicyAttackArguments(t *testing.T) {
	for _, name := range []string{"exec-thread", "exec-memory", "exec-space"} {
		t.Run(name, func(t *testing.T) {
			output := judgedByAgent(t, name, noEvil)
			a := attacked{output: output[strings.LastIndex(output, name):]}
			if passed, refused, breached := a.counts(t); passed == 0 || refused == 0 || breached > 0 || strings.Contains(output, "evil") {
				t.Errorf("%s", output)
			}
			control := raceNaively(t, name)
			if !strings.Contains(control.output, "evil\n") {
				t.Errorf("control: the race is not won against a supervisor that can be raced: %s", control.output)
			}
		})
	}
}

// Whatever the way to a program, its arguments are judged: by descriptor, from memory, as the interpreter of a script.
func TestPolicyAttackWaysToPrograms(t *testing.T) {
	ways := []string{"path", "execveat", "descriptor", "memory", "memory by path", "script", "script of a script", "script by descriptor"}
	judged := judgedByAgent(t, "exec-ways", noEvil)
	control := judgedByAgent(t, "exec-ways", allowAll)
	for _, way := range ways {
		if good := way + ", good: good\n"; !strings.Contains(judged, good) || !strings.Contains(control, good) {
			t.Errorf("%s does not lead to a program: %s", way, judged)
		}
		if !strings.Contains(judged, way+", evil: EPERM\n") {
			t.Errorf("%s: %s", way, judged)
		}
		if !strings.Contains(control, way+", evil: evil\n") {
			t.Errorf("control: %s: %s", way, control)
		}
	}
}

// A flood of processes while an agent is told of each, and every one is traced into being.
func TestPolicyAttackFloodUnderAgent(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"categories":["process"]}`, noEvil)
	e, r := newEgress(t), newRuntimeWithAgent(t, a.path)
	res := r.runBundle(t, e.attacker(t, attackCommand("flood"), "io.sandlock.network.allow", descriptorRules))
	under := attacked{e, res.stdout, map[string]int{}}
	if passed, refused, breached := under.counts(t); passed < 5000 || refused < 5000 || breached != 0 || under.reached(t, "tcp") > 0 {
		t.Error(res)
	}
}
