package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMonitorTurnover executes many programs at a time in one container, again and again, each of which has calls allowed and denied and makes processes, while
// other verbs ask and an agent changes the rules. Then the monitor holds no more than before: no descriptor, and no thread, of which there is one for each of the
// programs while they run.
func TestMonitorTurnover(t *testing.T) {
	t.Run("rules", func(t *testing.T) {
		b := script(t, "echo up; sleep 1000")
		b.annotate("io.sandlock.network.allow", "tcp://127.0.0.0/8:80", "io.sandlock.network.allow_bind", "9000-9100")
		newRuntime(t).turnOver(t, b, func() {})
	})
	t.Run("agent", func(t *testing.T) {
		a := newAgent(t, `{"type":"hello","version":1,"categories":["network","process"],"deny_paths":true}`, allowAll)
		b := script(t, "echo up; sleep 1000")
		b.annotate("io.sandlock.network.allow", "tcp://127.0.0.0/8:80")
		newRuntimeWithAgent(t, a.path).turnOver(t, b, func() {
			for _, change := range []string{
				`"op":"narrow","network":{"deny":["198.51.100.0/24"]}`, `"op":"grant","network":{}`, `"op":"narrow","processes":500`, `"op":"grant","processes":600`,
				`"op":"restrict","deny_path":"/etc/group"`,
			} {
				if err := a.change("%s", change); err != "" {
					t.Errorf("%s: %s", change, err)
				}
			}
		})
	})
}

func (r *ociRuntime) turnOver(t *testing.T, b *bundle, change func()) {
	const (
		atATime, rounds = 16, 4
		// Go keeps a thread for each call that has blocked while others did; these are far fewer than the programs.
		spareThreads = atATime / 2
		did          = "denied 1 allowed 1"
	)
	c := r.start(t, b)
	c.line(t)
	processes := func() int { return strings.Count(r.must(t, "ps", "--format", "json", c.id), ",") }
	before := processes()
	monitor := r.inspect(t, c.id).Monitor.PID
	round := func(programs int) {
		steppers := make([]*stepper, programs)
		for i := range steppers {
			steppers[i] = c.startStepper(t, "/bin/sh", "-c", `
				timeout 0.01 nc -l -p 9000 2>/dev/null
				denied=$(nc -w 1 192.0.2.1 80 </dev/null 2>&1 | grep -c "Permission denied")
				allowed=$(nc -w 1 127.0.0.1 80 </dev/null 2>&1 | grep -c "Connection refused")
				echo denied $denied allowed $allowed
				read line`)
		}
		for _, s := range steppers {
			if got := s.line(); got != did {
				t.Errorf("%q, not %q", got, did)
			}
		}
		if n := tasksOf(t, monitor); n < programs {
			t.Errorf("the monitor has %d threads for %d programs", n, programs)
		}
		change()
		r.must(t, "events", "--stats", c.id)
		r.must(t, "state", c.id)
		r.must(t, "ps", c.id)
		for _, s := range steppers {
			s.orders.Close()
		}
		eventually(t, "the programs end", func() bool { return processes() == before })
	}
	round(1) // what is there from the first use on
	descriptors, threads := descriptorsOf(t, monitor), tasksOf(t, monitor)
	for range rounds {
		round(atATime)
	}
	// Of a process that has just ended its record and its listener; and the pipes of the two threads that are kept for calls on behalf.
	const spareDescriptors = 2 + 2*4
	now := ""
	defer func() {
		if t.Failed() {
			t.Logf("%d descriptors and %d threads have become %s", descriptors, threads, now)
		}
	}()
	eventually(t, "the monitor holds what it held", func() bool {
		d, n := descriptorsOf(t, monitor), tasksOf(t, monitor)
		now = fmt.Sprintf("%d and %d", d, n)
		return d <= descriptors+spareDescriptors && n <= threads+spareThreads
	})
}

// tasksOf is how many threads a process has.
func tasksOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
