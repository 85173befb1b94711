package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

// killRounds is how often each command is killed, at a moment of its own.
const killRounds = 25

// monitorPid finds the process that supervises the container.
func (r *ociRuntime) monitorPid(t *testing.T, id string) int {
	t.Helper()
	var state struct{ Monitor struct{ Pid int } }
	if err := json.Unmarshal([]byte(readText(t, r.root, id+"/state.json")), &state); err != nil {
		t.Fatal(err)
	}
	if state.Monitor.Pid == 0 {
		t.Fatalf("state.json of %s names no monitor", id)
	}
	return state.Monitor.Pid
}

// tiePid finds the process that ends the container's first process when the monitor is no more.
func (r *ociRuntime) tiePid(t *testing.T, id string) int {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		name, err := os.ReadFile(path)
		if err != nil || string(name) != "sandlock-tie\n" {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil || !strings.Contains(string(cmdline), id) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("nobody ties %s to its monitor", id)
	return 0
}

// moments are when to kill: at a random part of the time that a command takes, which is learnt from what kills hit, since machines are now busy and
// now idle.
type moments struct {
	random *rand.Rand
	span   time.Duration
}

func (m *moments) next() time.Duration { return time.Duration(m.random.Int64N(int64(m.span) + 1)) }

func (m *moments) learn(hit bool) {
	if hit {
		m.span += m.span / 32
	} else {
		m.span -= m.span / 8
	}
}

// killed starts a command and kills it with SIGKILL at a moment. It tells whether the command was still there to be killed.
func killed(t *testing.T, when *moments, cmd *exec.Cmd) bool {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(when.next())
	defer timer.Stop()
	<-timer.C // the moment of the kill is what is being tried
	cmd.Process.Kill()
	cmd.Wait() // killed or not
	reapOrphans()
	hit := !cmd.ProcessState.Exited()
	when.learn(hit)
	return hit
}

// reapOrphans reaps every process that has become the tests' child and has ended. No command may be under way.
func reapOrphans() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

// cleared deletes the container by force and fails the test if anything is left of it.
func cleared(t *testing.T, r *ociRuntime, b *bundle, when string) {
	t.Helper()
	res := r.run(t, "delete", "--force", b.id)
	if res.code != 0 {
		t.Errorf("%s: delete --force: %v", when, res)
	}
	eventually(t, "nothing is left "+when, func() bool {
		reapOrphans()
		_, err := os.Stat(filepath.Join(r.root, b.id))
		return os.IsNotExist(err) && len(leftovers(t, b.id)) == 0
	})
}

// usually measures what a command takes when nobody kills it: the shortest of a few times, each prepared and cleared.
func usually(t *testing.T, prepare func(), command func() *exec.Cmd, clear func()) time.Duration {
	t.Helper()
	shortest := commandTimeout
	for range 3 {
		prepare()
		before := time.Now()
		if res := finish(t, command()); res.code != 0 {
			t.Fatal(res)
		}
		shortest = min(shortest, time.Since(before))
		clear()
	}
	return shortest
}

// enoughHits fails a test whose kills came too late to try anything.
func enoughHits(t *testing.T, hits int) {
	t.Helper()
	t.Logf("%d of %d kills hit while the command was at work", hits, killRounds)
	if !t.Failed() && hits < killRounds/5 {
		t.Error("too few to say anything")
	}
}

// killedPolicy is a bundle with a policy that needs the monitor.
func killedPolicy(t *testing.T) *bundle {
	t.Helper()
	b := newBundle(t, "/bin/sleep", "1000")
	b.annotate("io.sandlock.network.deny", "192.0.2.0/24")
	return b
}

func randomSource(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SANDLOCK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SANDLOCK_SEED: %v", err)
		}
	}
	t.Logf("SANDLOCK_SEED=%d repeats this run's moments", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// killing tries one command: prepared, killed at a random moment, checked and cleared, again and again.
func killing(t *testing.T, prepare func(r *ociRuntime, b *bundle), args func(b *bundle) []string, check func(r *ociRuntime, b *bundle, round int)) {
	t.Helper()
	random, r := randomSource(t), newRuntime(t)
	b := killedPolicy(t)
	b.write(t)
	command := func() *exec.Cmd { return r.command(context.Background(), args(b)...) }
	when := &moments{random: random}
	when.span = usually(t, func() { prepare(r, b) }, command, func() { cleared(t, r, b, "after a command that was left alone") })
	hits := 0
	for round := range killRounds {
		prepare(r, b)
		if killed(t, when, command()) {
			hits++
		}
		check(r, b, round)
		cleared(t, r, b, fmt.Sprintf("after round %d", round))
		if t.Failed() {
			return
		}
	}
	enoughHits(t, hits)
}

func TestOwnCreateKilledAtAnyMoment(t *testing.T) {
	killing(t,
		func(*ociRuntime, *bundle) {},
		func(b *bundle) []string { return []string{"create", "--bundle", b.dir, b.id} },
		func(*ociRuntime, *bundle, int) {})
}

func TestOwnStartKilledAtAnyMoment(t *testing.T) {
	killing(t,
		func(r *ociRuntime, b *bundle) { r.must(t, "create", "--bundle", b.dir, b.id) },
		func(b *bundle) []string { return []string{"start", b.id} },
		func(r *ociRuntime, b *bundle, round int) {
			if state := r.state(t, b.id); state.Status != specs.StateCreated && state.Status != specs.StateRunning {
				t.Errorf("round %d: after a killed start: %+v", round, state)
			}
		})
}

func TestOwnDeleteKilledAtAnyMoment(t *testing.T) {
	killing(t,
		func(r *ociRuntime, b *bundle) { r.must(t, "run", "--detach", "--bundle", b.dir, b.id) },
		func(b *bundle) []string { return []string{"delete", "--force", b.id} },
		func(*ociRuntime, *bundle, int) {})
}

// A monitor that is killed takes the workload with it.
func TestMonitorKilledEndsTheWorkload(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared pid namespace %v", shared), func(t *testing.T) {
			r := newRuntime(t)
			b := killedPolicy(t)
			if shared {
				testbundle.RemoveNamespace(b.spec, specs.PIDNamespace)
			}
			c := r.start(t, b)
			if err := unix.Kill(r.monitorPid(t, c.id), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if status := c.wait(t); !status.Signaled() || status.Signal() != unix.SIGKILL {
				t.Errorf("the workload ended with %#x", status)
			}
			if state := r.state(t, c.id); state.Status != specs.StateStopped {
				t.Errorf("%+v", state)
			}
			r.must(t, "delete", c.id)
			assertNothingLeft(t, r, c.bundle)
		})
	}
}

// Without a policy there is nothing that a monitor would have to judge, and the container lives on, as with runc.
func TestMonitorKilledWithoutAPolicy(t *testing.T) {
	r := newRuntime(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	c := r.startWithStdin(t, script(t, "echo up; read x; echo over"), reader)
	c.line(t)
	if err := unix.Kill(r.monitorPid(t, c.id), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	writer.WriteString("\n")
	if line := c.line(t); line != "over" {
		t.Errorf("the workload says %q", line)
	}
	if status := c.wait(t); status != 0 {
		t.Errorf("the workload ended with %#x", status)
	}
	r.must(t, "delete", c.id)
	assertNothingLeft(t, r, c.bundle)
}

// Where the one that would have ended the workload is dead, too, a dead monitor lets nothing through that it would have denied, and the verbs still
// work.
func TestMonitorKilledFailsClosed(t *testing.T) {
	e := newEgress(t)
	for _, how := range []string{"idle", "busy"} {
		t.Run(how, func(t *testing.T) {
			r := newRuntime(t)
			text := "echo up; read x; for i in 1 2 3; do guest network connect tcp " + deniedHost + ":7000; done; exec sleep 1000"
			if how == "busy" {
				text = "echo up; while :; do guest network connect tcp " + deniedHost + ":7000; done"
			}
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			defer writer.Close()
			c := r.startWithStdin(t, e.join(t, text, "io.sandlock.network.allow", allowedHost+":7000"), reader)
			c.line(t)
			if how == "busy" {
				c.line(t)
			}
			if err := unix.Kill(r.tiePid(t, c.id), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(r.monitorPid(t, c.id), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			writer.WriteString("\n")
			// What was judged before may still be in the pipe.
			for refused := 0; refused < 3; {
				line := c.line(t)
				if strings.Contains(line, "reached") {
					t.Fatalf("without a monitor the container reached what is denied: %q", line)
				}
				if line == "ENOSYS" {
					refused++
				}
			}
			if peers := e.servers["tcp denied"].Peers(); len(peers) != 0 {
				t.Errorf("the denied server was reached: %v", peers)
			}
			if state := r.state(t, c.id); state.ID != c.id {
				t.Errorf("%+v", state)
			}
			r.must(t, "delete", "--force", c.id)
			c.wait(t)
			assertNothingLeft(t, r, c.bundle)
		})
	}
}

// The monitor may die at any moment of the container's beginning, too.
func TestMonitorKilledAtAnyMoment(t *testing.T) {
	random, r := randomSource(t), newRuntime(t)
	b := killedPolicy(t)
	b.write(t)
	command := func() *exec.Cmd { return r.command(context.Background(), "run", "--detach", "--bundle", b.dir, b.id) }
	when := &moments{random: random}
	when.span = usually(t, func() {}, command, func() { cleared(t, r, b, "after a run that was left alone") })
	hits := 0
	for round := range killRounds {
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(when.next())
		<-timer.C // the moment of the kill is what is being tried
		count := killNamed(t, cmd.Process.Pid, b.id)
		when.learn(count > 0)
		hits += count
		cmd.Wait() // with an error or without: what counts is what can be cleared
		reapOrphans()
		cleared(t, r, b, fmt.Sprintf("after killing the monitor, round %d", round))
		if t.Failed() {
			return
		}
	}
	enoughHits(t, hits)
}

// killNamed kills the processes with id on their command line but for the command itself, and tells how many there were.
func killNamed(t *testing.T, command int, id string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == command || pid == os.Getpid() || !alive(pid) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmdline), id) && unix.Kill(pid, unix.SIGKILL) == nil {
			count++
		}
	}
	return count
}
