package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// followed is a line of `events --follow`, as its readers know it.
type followed struct {
	ID, Time, Verdict, Comm, Syscall, Target, Rule, Source, Reason string
	PID, Repeated, Dropped                                         int
}

// TestPolicyEventsFollow reads denials as they come, each with the rule that decided, until the container ends.
func TestPolicyEventsFollow(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	deny := "guest network connect tcp "
	b := e.join(t, "while read address; do "+deny+"$address; done",
		"io.sandlock.network.allow", allowedHost+":7000;"+deniedHost+":7000", "io.sandlock.network.deny", deniedHost+":7000")
	c := r.startWithStdin(t, b, stdin)
	stdin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := r.command(ctx, "events", "--follow", c.id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, test := range []struct{ to, rule, reason string }{
		{deniedHost + ":7000", deniedHost + ":7000", "denied by rule " + deniedHost + ":7000"},
		{allowedHost + ":7001", "", "no rule allows it"},
	} {
		if _, err := io.WriteString(hold, test.to+"\n"+allowedHost+":7000\n"); err != nil {
			t.Fatal(err)
		}
		if answer := c.line(t); !refusal(answer) {
			t.Errorf("%s: %s", test.to, answer)
		}
		if answer := c.line(t); answer != testnet.Banner {
			t.Errorf("the allowed server: %s", answer)
		}
		if !lines.Scan() {
			t.Fatalf("no line about %s", test.to)
		}
		var got followed
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if got.ID != c.id || got.Time == "" || got.Verdict != "denied" || got.PID == 0 || got.Comm != "guest" || got.Syscall != "connect" ||
			got.Target != test.to || got.Rule != test.rule || got.Source != "annotation" || got.Reason != test.reason {
			t.Errorf("%s", lines.Text())
		}
	}
	hold.Close() // the container ends
	if lines.Scan() {
		t.Errorf("one more: %s", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	c.wait(t)
	if again := r.must(t, "events", "--follow", c.id); strings.Count(again, "\n") != 2 {
		t.Errorf("after the end: %s", again)
	}
}

// TestPolicyEventsStats counts what the supervisor has done.
func TestPolicyEventsStats(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	try := "guest network connect tcp " + deniedHost + ":7000; guest network connect tcp " + allowedHost + ":7000; "
	c := r.start(t, e.join(t, try+try+"echo done; sleep 1000", "io.sandlock.network.allow", allowedHost+":7000"))
	for line := ""; line != "done"; {
		line = c.line(t)
	}
	var event struct {
		Data struct {
			Memory     map[string]any
			Supervisor *struct {
				Notifications uint64
				Syscalls      []struct {
					Syscall                 string
					Count, Failed, Returned uint64
					Latency                 map[string]int64 `json:"latency_ns"`
				}
			}
		}
	}
	// A call is counted once it is answered, when its caller may be further already.
	text := ""
	for deadline := time.Now().Add(commandTimeout); event.Data.Supervisor == nil || event.Data.Supervisor.Notifications < 4; {
		text = r.must(t, "events", "--stats", c.id)
		if err := json.Unmarshal([]byte(text), &event); err != nil || event.Data.Supervisor == nil || event.Data.Memory == nil || time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, text)
		}
	}
	s := event.Data.Supervisor
	if s.Notifications != 4 || len(s.Syscalls) != 1 || s.Syscalls[0].Syscall != "connect" || s.Syscalls[0].Failed != 2 || s.Syscalls[0].Returned != 2 {
		t.Errorf("%s", text)
	}
	if l := s.Syscalls[0].Latency; l["p50"] <= 0 || l["p99"] < l["p50"] || l["max"] < l["p99"] {
		t.Errorf("latencies %v", l)
	}
	plain := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	if text := r.must(t, "events", "--stats", plain.id); strings.Contains(text, "supervisor") {
		t.Errorf("a container without a supervisor: %s", text)
	}
}

// A handler that could never run is a mistake in the plan; a call that syscalls.deny refuses beside egress rules is none.
func TestPolicyDeniedSyscallBesideEgress(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	send := func(how string) string { return "guest network " + how + " udp " + allowedHost + ":7000; " }
	res := r.runBundle(t, e.join(t, send("sendmmsg")+send("sendmsg"), "io.sandlock.network.allow", allowedHost+":7000", "io.sandlock.syscalls.deny", "sendmmsg"))
	if lines := strings.Split(strings.TrimSpace(res.stdout), "\n"); len(lines) != 2 || lines[0] != "EPERM" || lines[1] != testnet.Banner {
		t.Error(res)
	}
}
