package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// inspection is what `inspect --format json` prints, as far as the tests look at it.
type inspection struct {
	State   struct{ Status string }
	Monitor struct {
		PID     int
		Running bool
	}
	Plan struct {
		Namespaces  []struct{ Type string }
		Enforcement []struct{ Rule, By string }
		Resources   struct {
			Memory struct{ Limit int64 }
			Pids   struct{ Limit int64 }
		}
	}
}

func (r *ociRuntime) inspect(t testing.TB, id string) inspection {
	t.Helper()
	var i inspection
	if err := json.Unmarshal([]byte(r.must(t, "inspect", "--format", "json", id)), &i); err != nil {
		t.Fatalf("inspect %s: %v", id, err)
	}
	return i
}

const mebibyte = 1 << 20

// An update changes what it names and nothing else, and no limit of the policy is lifted by it.
func TestPolicyUpdateKeepsToThePolicy(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	b.spec.Annotations = map[string]string{"io.sandlock.limits.memory": "64M", "io.sandlock.limits.processes": "100"}
	c := r.start(t, b)
	if got := r.inspect(t, c.id).Plan.Resources; got.Memory.Limit != 64*mebibyte || got.Pids.Limit != 100 {
		t.Fatalf("before: %+v", got)
	}
	r.must(t, "update", "--memory", "32m", "--memory-swap", "32m", c.id)
	if got := r.inspect(t, c.id).Plan.Resources; got.Memory.Limit != 32*mebibyte || got.Pids.Limit != 100 {
		t.Errorf("lowered: %+v", got)
	}
	var event struct {
		Data struct {
			Memory struct{ Usage struct{ Limit uint64 } }
			Pids   struct{ Limit uint64 }
		}
	}
	if err := json.Unmarshal([]byte(r.must(t, "events", "--stats", c.id)), &event); err != nil {
		t.Fatal(err)
	}
	if event.Data.Memory.Usage.Limit != 32*mebibyte || event.Data.Pids.Limit != 100 {
		t.Errorf("the cgroup has %+v", event.Data)
	}
	r.must(t, "update", "--memory", "1g", "--memory-swap", "2g", "--pids-limit", "-1", c.id)
	if got := r.inspect(t, c.id).Plan.Resources; got.Memory.Limit != 64*mebibyte || got.Pids.Limit != 100 {
		t.Errorf("raised above the policy: %+v", got)
	}
}

func TestPolicyEventsTellOfDenials(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	b := e.join(t, "guest network connect tcp "+deniedHost+":7000; guest network connect tcp "+allowedHost+":7000; read x",
		"io.sandlock.network.allow", allowedHost+":7000")
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	c := r.startWithStdin(t, b, stdin)
	stdin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := r.command(ctx, "events", "--interval", time.Hour.String(), c.id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		lines = append(lines, scanner.Text())
		hold.Close() // the container ends, and so do the events
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("events: %v", err)
	}
	if len(lines) != 1 {
		t.Fatalf("events: %q", lines)
	}
	var event struct {
		Type, ID string
		Data     struct{ Syscall, Protocol, Target, Reason string }
	}
	if err := json.Unmarshal([]byte(lines[0]), &event); err != nil {
		t.Fatal(err)
	}
	if event.Type != "denial" || event.ID != c.id || event.Data.Syscall != "connect" || event.Data.Target != deniedHost+":7000" || event.Data.Reason == "" {
		t.Errorf("%+v", event)
	}
}

func TestOwnInspectionNamesTheMonitor(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	got := r.inspect(t, c.id)
	if got.State.Status != "running" || !got.Monitor.Running || !alive(got.Monitor.PID) || len(got.Plan.Namespaces) == 0 {
		t.Errorf("%+v", got)
	}
	if text := r.must(t, "inspect", c.id); !strings.Contains(text, "Enforcement\n") || !strings.Contains(text, "Namespaces\n") {
		t.Errorf("%s", text)
	}
}
