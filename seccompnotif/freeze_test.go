package seccompnotif

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// judging returns a supervisor whose execves are judged by decide.
func judging(t testing.TB, decide func(Argv) Action) *Supervisor {
	return tracking(t, func(*Call) Action { return JudgeExec(decide) })
}

func TestJudgements(t *testing.T) {
	fd := func() int {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	answered := make(chan struct{})
	for name, test := range map[string]struct {
		decide func(Argv) Action
		want   string
	}{
		"continue":        {func(Argv) Action { return Continue() }, ""},
		"errno":           {func(Argv) Action { return Errno(unix.ENOTEMPTY) }, fmt.Sprintf("failed %d", unix.ENOTEMPTY)},
		"panic":           {func(Argv) Action { panic("on purpose") }, fmt.Sprintf("failed %d", unix.EPERM)},
		"end":             {func(Argv) Action { runtime.Goexit(); return Continue() }, fmt.Sprintf("failed %d", unix.EPERM)},
		"late":            {func(Argv) Action { <-answered; return Continue() }, fmt.Sprintf("failed %d", unix.EPERM)},
		"defer":           {func(Argv) Action { return Defer(func() Action { return Continue() }) }, fmt.Sprintf("failed %d", unix.EPERM)},
		"again":           {func(Argv) Action { return JudgeExec(func(Argv) Action { return Continue() }) }, fmt.Sprintf("failed %d", unix.EPERM)},
		"inject":          {func(Argv) Action { return InjectFD(0, 5) }, fmt.Sprintf("failed %d", unix.EPERM)},
		"inject and send": {func(Argv) Action { return InjectFDSend(fd(), 0) }, fmt.Sprintf("failed %d", unix.EPERM)},
	} {
		t.Run(name, func(t *testing.T) {
			s := judging(t, test.decide)
			if name == "late" {
				s.tracer.judge = 100 * time.Millisecond
			}
			out := strings.Join(startGuest(t, trackedOverlay(), s, "many", "4", "1").run(), ";")
			if name == "late" {
				close(answered)
			}
			finish(t, s)
			if out != test.want {
				t.Errorf("the guest said %q, want %q", out, test.want)
			}
		})
	}
}

// TestPeersAreStopped looks at a peer that runs all the time, while the execve is judged and afterwards.
func TestPeersAreStopped(t *testing.T) {
	var peer atomic.Int64
	during := make(chan byte, 1)
	s := judging(t, func(Argv) Action {
		testguest.Await(t, "the peer's pid", func() bool { return peer.Load() != 0 })
		pid := int(peer.Load())
		during <- taskState(pid, pid)
		return Continue()
	})
	g := startGuest(t, trackedOverlay(), s, "counting")
	g.start()
	pid, err := strconv.Atoi(g.line())
	if err != nil {
		t.Fatal(err)
	}
	peer.Store(int64(pid))
	if state := <-during; state != 't' {
		t.Errorf("the peer is in state %c while the execve is judged", state)
	}
	if got := g.line(); got != "0 good" {
		t.Errorf("the guest said %q", got)
	}
	testguest.Await(t, "the peer runs on", func() bool { return taskState(pid, pid) == 'R' })
	g.kill()
	finish(t, s)
}

// TestKilledWhileFrozen kills everybody while an execve is judged. Nobody may have to wait for the judgement.
func TestKilledWhileFrozen(t *testing.T) {
	judged, release := make(chan struct{}), make(chan struct{})
	s := judging(t, func(Argv) Action {
		close(judged)
		<-release
		return Continue()
	})
	g := startGuest(t, trackedOverlay(), s, "counting")
	g.start()
	<-judged
	g.kill()
	s.Wait()
	awaitNobody(t, s)
	close(release)
	finish(t, s)
}

// TestCloseWhileFrozen: the guest goes on, and its call fails as any other does without a supervisor.
func TestCloseWhileFrozen(t *testing.T) {
	judged, release := make(chan struct{}), make(chan struct{})
	s := judging(t, func(Argv) Action {
		close(judged)
		<-release
		return Continue()
	})
	g := startGuest(t, trackedOverlay(), s, "counting")
	g.start()
	pid, err := strconv.Atoi(g.line())
	if err != nil {
		t.Fatal(err)
	}
	<-judged
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got, want := g.line(), fmt.Sprintf("0 failed %d", unix.ENOSYS); got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	testguest.Await(t, "the peer runs on", func() bool { return taskState(pid, pid) == 'R' })
	close(release)
	g.kill()
}

func TestPeersInVFork(t *testing.T) {
	out, _ := judgedRun(t, "in-vfork")
	if got, want := strings.Join(out, ";"), strings.Repeat("0 good;", 10)+"done"; got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
}

// TestTaskThatCannotBeStopped has a task that sleeps uninterruptibly for a reason that the supervisor knows nothing of.
func TestTaskThatCannotBeStopped(t *testing.T) {
	j := newJudge()
	s := tracking(t, j.frozen)
	sleeper := exec.Command(buildGuest(t), "sleep")
	out, err := sleeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	sleeper.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	asleep := make([]byte, 7)
	if _, err := out.Read(asleep); err != nil {
		t.Fatal(err)
	}
	pid := sleeper.Process.Pid
	p, err := s.Enroll(pid)
	if err != nil {
		t.Fatal(err)
	}
	testguest.Await(t, "a sleeper that nothing wakes", func() bool { return taskState(pid, pid) == 'D' })
	got := strings.Join(startGuest(t, trackedOverlay(), s, "many", "4", "1").run(), ";")
	if want := fmt.Sprintf("failed %d", unix.EPERM); got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	if len(j.args) != 0 {
		t.Errorf("judged %v", j.args)
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
	testguest.Await(t, "the sleeper's end", p.Exited)
	_ = sleeper.Wait()
	// The twin: nobody sleeps any more.
	if got := strings.Join(startGuest(t, trackedOverlay(), s, "many", "4", "1").run(), ";"); got != "" {
		t.Errorf("the guest said %q", got)
	}
	finish(t, s)
}

// TestAnswersWaitForTheThaw has a peer that waits for an answer: it need not be stopped, but must not be answered or written to.
func TestAnswersWaitForTheThaw(t *testing.T) {
	o := trackedOverlay()
	o.Notify = append(o.Notify, "getpriority")
	held := make(chan *Held, 1)
	judged, release, thawed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	judge := HandlerFunc(func(c *Call) Action {
		return JudgeExec(func(Argv) Action {
			var memory *MemoryError
			if err := c.WriteMemory(argvAddress(&c.n), []byte{0}); !errors.As(err, &memory) || !errors.Is(err, unix.EBUSY) {
				t.Errorf("write to the memory of the caller: %v", err)
			}
			close(judged)
			<-release
			close(thawed)
			return Continue()
		})
	})
	table, err := NewTable().Under(o).TrackCreation().
		Handle(unix.SYS_EXECVE, judge).Handle(unix.SYS_EXECVEAT, judge).
		Handle(unix.SYS_GETPRIORITY, HandlerFunc(func(*Call) Action { return Hold(func(h *Held) { held <- h }) })).Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	g := startGuest(t, o, s, "calls")
	g.start()
	h := <-held
	<-judged
	written, answered := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		_ = h.Call().WriteMemory(8, []byte{0}) // not mapped; what counts is when it returns
		select {
		case <-thawed:
		default:
			t.Error("a guest's memory was written to while it was frozen")
		}
	}()
	go func() {
		<-written
		_ = h.Answer(Return(7))
		close(answered)
	}()
	close(release)
	if got := g.line(); got != "0 good" && got != "called 7" {
		t.Errorf("the guest said %q", got)
	}
	<-answered
	g.wait()
	finish(t, s)
}

// TestNothingIsLeft executes many programs and looks for what they have left in the supervisor.
func TestNothingIsLeft(t *testing.T) {
	j := newJudge()
	s := tracking(t, j.frozen)
	run := func() {
		startGuest(t, trackedOverlay(), s, "spawn", "100").run()
		awaitNobody(t, s)
	}
	run()
	fds, goroutines := openDescriptors(t), runtime.NumGoroutine()
	for range 5 {
		run()
	}
	s.Wait()
	if now := openDescriptors(t); now > fds {
		t.Errorf("%d descriptors, %d before", now, fds)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := len(s.tracer.tracees) + len(s.tracer.creations) + len(s.tracer.restarts) + len(s.tracer.parked.byThread); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestTrackingNeedsItsOverlay(t *testing.T) {
	for want, change := range map[string]func(*Overlay){
		"":                           func(*Overlay) {},
		"does not notify clone":      func(o *Overlay) { o.NotifyWhen = o.NotifyWhen[1:] },
		"does not deny clone3":       func(o *Overlay) { o.Deny = o.Deny[1:] },
		"one of execve and execveat": func(o *Overlay) { o.Notify = o.Notify[:1] },
	} {
		o := trackedOverlay()
		change(&o)
		_, err := NewTable().Under(o).TrackCreation().Build()
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

func TestJudgementNeedsTracking(t *testing.T) {
	o := trackedOverlay()
	judge := HandlerFunc(func(*Call) Action { return JudgeExec(func(Argv) Action { return Continue() }) })
	table, err := NewTable().Under(o).Handle(unix.SYS_EXECVE, judge).Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(startGuest(t, o, s, "many", "4", "1").run(), ";"), fmt.Sprintf("failed %d", unix.EPERM); got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	finish(t, s)
}

// TestJudgementNeedsKillableWaits has a filter under which every signal, and every stop, ends the wait for an answer.
func TestJudgementNeedsKillableWaits(t *testing.T) {
	t.Setenv("INTERRUPTIBLE", "1")
	j := newJudge()
	s := tracking(t, j.frozen)
	if got, want := strings.Join(startGuest(t, trackedOverlay(), s, "many", "4", "1").run(), ";"), fmt.Sprintf("failed %d", unix.EPERM); got != want || len(j.args) > 0 {
		t.Errorf("the guest said %q, want %q; judged %v", got, want, j.args)
	}
	finish(t, s)
}

// TestDeferIsRefused: a deferred answer could not be seen through.
func TestDeferIsRefused(t *testing.T) {
	s := tracking(t, func(*Call) Action { return Defer(func() Action { return Continue() }) })
	if got, want := strings.Join(startGuest(t, trackedOverlay(), s, "many", "4", "1").run(), ";"), fmt.Sprintf("failed %d", unix.EPERM); got != want {
		t.Errorf("the guest said %q, want %q", got, want)
	}
	finish(t, s)
}

// TestEnrollSaysWhoMayNotBeTraced asks on a thread that has given up the capability to trace.
func TestEnrollSaysWhoMayNotBeTraced(t *testing.T) {
	s := tracking(t, allow)
	g := startGuest(t, trackedOverlay(), s, "spawn", "0")
	if p, err := s.Enroll(g.cmd.Process.Pid); err != nil || p.PID() != g.cmd.Process.Pid || p.Parent() != unix.Getpid() {
		t.Errorf("with the right to trace: %v", err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&header, &caps[0]); err != nil {
			result <- err
			return
		}
		caps[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
		caps[0].Permitted &^= 1 << unix.CAP_SYS_PTRACE
		if _, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps[0])), 0); e != 0 {
			result <- e
			return
		}
		_, err := s.Enroll(g.cmd.Process.Pid)
		result <- err
	}()
	var denied *TraceError
	if err := <-result; !errors.As(err, &denied) || denied.PID != g.cmd.Process.Pid || !errors.Is(err, unix.EPERM) {
		t.Errorf("without the right to trace: %v", err)
	}
	if _, err := s.Enroll(1 << 30); err == nil {
		t.Error("a process that is not there was enrolled")
	}
	g.run()
	finish(t, s)
}

// TestRecordOfARecycledPID has another process under a number that is in the index.
func TestRecordOfARecycledPID(t *testing.T) {
	s := tracking(t, allow)
	g := startGuest(t, trackedOverlay(), s, "spawn", "0")
	pid := g.cmd.Process.Pid
	p, err := s.Enroll(pid)
	if err != nil {
		t.Fatal(err)
	}
	left := false
	p.OnExit(func() { left = true })
	if again, err := s.Enroll(pid); err != nil || again != p || left {
		t.Errorf("enrolled twice: %v", err)
	}
	fd, err := openPIDFD(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.index.put(pid, fd, taskStat{start: p.start + 1})
	if err != nil || q == p || !left || !p.Exited() || s.index.size() != 1 {
		t.Errorf("another process under the number: %v, the old one left: %v", err, left)
	}
	g.run()
	finish(t, s)
}
