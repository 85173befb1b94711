package seccompnotif

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// limited sets a limit and keeps an eye on how many processes there really are.
func limited(t *testing.T, s *Supervisor, n int) {
	t.Helper()
	if err := s.SetProcessLimit(n); err != nil {
		t.Fatal(err)
	}
}

func TestForkStorm(t *testing.T) {
	const processes, each = 4, 2500
	fds := openDescriptors(t)
	s := tracking(t, allow)
	g := startGuest(t, trackedOverlay(), s, "storm", fmt.Sprint(processes), fmt.Sprint(each))
	for _, line := range g.run() {
		if want := fmt.Sprintf("made %d failed 0", each); line != want {
			t.Errorf("the guest said %q, want %q", line, want)
		}
	}
	finish(t, s)
	if now := openDescriptors(t); now != fds {
		t.Errorf("%d descriptors, %d before", now, fds)
	}
}

// TestForkStormAtTheLimit has more processes wanting to fork than there may be.
func TestForkStormAtTheLimit(t *testing.T) {
	const processes, each, limit = 6, 300, 9 // one and six, so two at a time may have a child
	s := tracking(t, allow)
	limited(t, s, limit)
	var most atomic.Int64
	counted := make(chan struct{})
	g := startGuest(t, trackedOverlay(), s, "storm", fmt.Sprint(processes), fmt.Sprint(each))
	stop := make(chan struct{})
	go func() {
		defer close(counted)
		for {
			select {
			case <-stop:
				return
			default:
				if n := int64(alive(g.cmd.Process.Pid)); n > most.Load() {
					most.Store(n)
				}
			}
		}
	}()
	failed := 0
	for _, line := range g.run() {
		var made, f int
		if n, err := fmt.Sscanf(line, "made %d failed %d", &made, &f); n != 2 || err != nil || made+f != each {
			t.Errorf("the guest said %q", line)
		}
		failed += f
	}
	close(stop)
	<-counted
	if most.Load() > limit {
		t.Errorf("%d processes at a time, the limit is %d", most.Load(), limit)
	}
	t.Logf("%d forks refused, at most %d processes seen", failed, most.Load())
	finish(t, s)
}

// alive counts the processes of a group that have not exited, by asking /proc.
func alive(group int) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := cutLast(stat, ')')
		var state string
		var parent, pgrp int
		if _, err := fmt.Sscan(string(rest), &state, &parent, &pgrp); err == nil && pgrp == group && state != "Z" && state != "X" {
			n++
		}
	}
	return n
}

func TestProcessLimit(t *testing.T) {
	const limit = 20
	s := tracking(t, allow)
	limited(t, s, limit)
	got := strings.Join(startGuest(t, trackedOverlay(), s, "fill", "100").run(), ";")
	if want := fmt.Sprintf("full at %d errno %d;done", limit-1, unix.EAGAIN); got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	// The twin without a limit.
	limited(t, s, 0)
	got = strings.Join(startGuest(t, trackedOverlay(), s, "fill", "30").run(), ";")
	if want := "full at 30 errno 0;room for one too many;done"; got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	finish(t, s)
}

// TestLimitIsLive lowers and raises the limit while a guest runs.
func TestLimitIsLive(t *testing.T) {
	s := tracking(t, allow)
	limited(t, s, 1)
	if out := strings.Join(startGuest(t, trackedOverlay(), s, "failing", "10").run(), ";"); out != "refused 0 made 0" {
		t.Errorf("with a limit of one the guest said %q", out)
	}
	limited(t, s, 2)
	if out := strings.Join(startGuest(t, trackedOverlay(), s, "failing", "10").run(), ";"); out != "refused 10 made 10" {
		t.Errorf("with a limit of two the guest said %q", out)
	}
	if err := s.SetProcessLimit(-1); err == nil {
		t.Error("a negative limit was taken")
	}
	finish(t, s)
}

// TestFailedForksGiveBack has every other fork refused by the kernel: each takes a place and must give it back.
func TestFailedForksGiveBack(t *testing.T) {
	s := tracking(t, allow)
	limited(t, s, 2)
	if out := strings.Join(startGuest(t, trackedOverlay(), s, "failing", "200").run(), ";"); out != "refused 200 made 200" {
		t.Errorf("the guest said %q", out)
	}
	finish(t, s)
}

func TestForksThatTheKernelLimits(t *testing.T) {
	s := tracking(t, allow)
	limited(t, s, 4)
	if out := strings.Join(startGuest(t, trackedOverlay(), s, "nproc").run(), ";"); out != "refused 50" {
		t.Errorf("the guest said %q", out)
	}
	finish(t, s)
}

func TestUntracedCloneIsDenied(t *testing.T) {
	want := fmt.Sprintf("-1 %d", unix.EPERM)
	s := tracking(t, allow)
	if out := strings.Join(startGuest(t, trackedOverlay(), s, "untraced").run(), ";"); out != want {
		t.Errorf("the guest said %q", out)
	}
	// Without the overlay's denial the handler is asked.
	o := trackedOverlay()
	o.Deny = o.Deny[:1]
	if out := strings.Join(startGuest(t, o, s, "untraced").run(), ";"); out != want {
		t.Errorf("the guest said %q", out)
	}
	finish(t, s)
}

func TestLimitNeedsTracking(t *testing.T) {
	table, err := NewTable().Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SetProcessLimit(1); err == nil {
		t.Error("a limit without tracking was taken")
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
