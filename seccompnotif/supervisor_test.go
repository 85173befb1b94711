package seccompnotif

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The calls that the tests have notified: nothing that Go's runtime makes on its own.
const (
	callA = unix.SYS_GETPPID
	callB = unix.SYS_GETPRIORITY
	callC = unix.SYS_SETPRIORITY
)

var notified = Overlay{Notify: []string{"getppid", "getpriority", "setpriority"}}

func handle(nr int, f HandlerFunc) map[int]Handler { return map[int]Handler{nr: f} }

func TestContinueErrnoReturn(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return Continue() }),
		callB: HandlerFunc(func(c *Call) Action { return Errno(unix.Errno(c.Arg(0))) }),
		callC: HandlerFunc(func(c *Call) Action { return Return(int64(c.Arg(0)) + int64(c.Arg(5))) }),
	})
	expect(t, v.syscall(callA), int64(os.Getpid()), 0)
	expect(t, v.syscall(callB, uint64(unix.EXDEV)), 0, unix.EXDEV)
	expect(t, v.syscall(callB, 0), 0, unix.EIO)
	expect(t, v.syscall(callB, maxErrno+1), 0, unix.EIO)
	expect(t, v.syscall(callC, 40, 0, 0, 0, 0, 2), 42, 0)
}

func TestUnhandledAndPanickingAreDenied(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, handle(callA, func(*Call) Action { panic("on purpose") }))
	expect(t, v.syscall(callA), 0, unix.EIO)
	expect(t, v.syscall(callB), 0, unix.EPERM)
}

func TestForeignCallsNeverReachAHandler(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Return(1) }))
	c := &Call{n: rawNotification{data: seccompData{nr: callA, arch: unix.AUDIT_ARCH_I386}}}
	if a := s.decide(c); a.kind != actErrno || a.errno != unix.ENOSYS {
		t.Errorf("a call of i386 is answered %+v", a)
	}
	c.n.data.arch = nativeAuditArch
	if a := s.decide(c); a.kind != actReturn {
		t.Errorf("a native call is answered %+v", a)
	}
}

func TestWithoutSupervisorCallsFail(t *testing.T) {
	v := startVictim(t, notified)
	unix.Close(v.listener)
	v.listener = -1
	expect(t, v.syscall(callA), 0, unix.ENOSYS)
}

func TestChainOrder(t *testing.T) {
	v := startVictim(t, notified)
	var order []string
	note := func(name string, a Action) Handler {
		return HandlerFunc(func(*Call) Action { order = append(order, name); return a })
	}
	table, err := NewTable().
		HandleUser(callA, note("user", Return(7))).
		Handle(callA, note("first", Continue())).
		Handle(callA, note("second", Continue())).
		Handle(callB, note("denies", Errno(unix.EPERM))).
		HandleUser(callB, note("never", Continue())).
		Under(notified).Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	attach(t, s, v)
	expect(t, v.syscall(callA), 7, 0)
	expect(t, v.syscall(callB), 0, unix.EPERM)
	v.end()
	s.Wait() // the loop is done, so order may be read
	if got := strings.Join(order, " "); got != "first second user denies" {
		t.Errorf("handlers ran in the order %q", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestTableErrors(t *testing.T) {
	h := HandlerFunc(func(*Call) Action { return Continue() })
	o := Overlay{
		Notify:     []string{"connect"},
		NotifyWhen: []Notification{{Syscall: "socket", When: []Match{{Arg: 0, Op: Equal, Value: unix.AF_INET}}}},
		Deny: []Denial{
			{Syscall: "bpf", Errno: unix.EPERM},
			{Syscall: "socket", Errno: unix.EPERM, When: []Match{{Arg: 0, Op: Equal, Value: unix.AF_PACKET}}},
		},
	}
	if _, err := NewTable().Handle(unix.SYS_CONNECT, h).HandleUser(unix.SYS_SOCKET, h).Under(o).Build(); err != nil {
		t.Errorf("good table: %v", err)
	}
	for want, b := range map[string]*TableBuilder{
		"handler for bpf would never run: the overlay denies the call outright (EPERM)": NewTable().HandleUser(unix.SYS_BPF, h),
		"handler for sendto would never run: the overlay does not notify the call":      NewTable().Handle(unix.SYS_SENDTO, h),
		"handler for connect is nil":                 NewTable().Handle(unix.SYS_CONNECT, nil),
		"handler for system call -1: no such number": NewTable().Handle(-1, h),
	} {
		if _, err := b.Under(o).Build(); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func TestDefer(t *testing.T) {
	v := startVictim(t, notified)
	release := make(chan struct{})
	supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(c *Call) Action {
			return Defer(func() Action {
				switch c.Arg(0) {
				case 1:
					panic("on purpose")
				case 2:
					return Defer(func() Action { return Return(1) })
				case 3:
					<-release
				}
				return Return(int64(c.Arg(1)))
			})
		}),
		callB: HandlerFunc(func(*Call) Action { return Return(9) }),
	})
	expect(t, v.syscall(callA, 0, 5), 5, 0)
	expect(t, v.syscall(callA, 1), 0, unix.EIO)
	expect(t, v.syscall(callA, 2), 0, unix.EIO)

	// One that is stuck delays nobody else.
	v.send(order{NR: callA, Args: [6]uint64{3, 77}, Thread: true})
	w := startVictim(t, notified)
	supervise(t, w, handle(callB, func(*Call) Action { return Return(9) }))
	expect(t, w.syscall(callB), 9, 0)
	close(release)
	expect(t, v.receive(), 77, 0)
}

func TestDeferredDoesNotBlockItsListener(t *testing.T) {
	v := startVictim(t, notified)
	second := make(chan struct{})
	var arrivals atomic.Int32
	supervise(t, v, handle(callA, func(*Call) Action {
		if arrivals.Add(1) == 1 {
			return Defer(func() Action { <-second; return Return(1) })
		}
		close(second)
		return Return(1)
	}))
	// The first call ends only when the second one has been judged.
	for _, r := range v.do(order{NR: callA, Many: 2}).Many {
		expect(t, r, 1, 0)
	}
}

func TestDeferLimit(t *testing.T) {
	v := startVictim(t, notified)
	release, started := make(chan struct{}), make(chan struct{}, MaxDeferred)
	s := supervise(t, v, handle(callA, func(*Call) Action {
		return Defer(func() Action {
			started <- struct{}{}
			<-release
			return Return(1)
		})
	}))
	w := startVictim(t, notified)
	attach(t, s, w)
	v.send(order{NR: callA, Many: MaxDeferred})
	for range MaxDeferred {
		<-started
	}
	expect(t, w.syscall(callA), 0, unix.EAGAIN)
	close(release)
	for _, r := range v.receive().Many {
		expect(t, r, 1, 0)
	}
	for s.inFlight.Load() > 0 { // a place is free a moment after its answer
		runtime.Gosched()
	}
	expect(t, w.syscall(callA), 1, 0)
}

func TestDeferTimeout(t *testing.T) {
	v := startVictim(t, notified)
	release := make(chan struct{})
	discarded := make(chan int, 1)
	supervise(t, v, handle(callA, func(*Call) Action {
		return Defer(func() Action {
			<-release
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			if err != nil {
				t.Error(err)
			}
			discarded <- fd
			return InjectFDSend(fd, 0)
		})
	}), func(s *Supervisor) { s.deferTimeout = 10 * time.Millisecond })
	expect(t, v.syscall(callA), 0, unix.EIO)
	close(release)
	<-discarded
}

func TestHold(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return Hold(func(h *Held) { held <- h }) }),
		callB: HandlerFunc(func(*Call) Action { return Hold(func(*Held) { panic("on purpose") }) }),
	})
	v.send(order{NR: callA, Args: [6]uint64{11}})
	h := <-held
	if !h.Call().Valid() {
		t.Error("a held notification is not valid")
	}
	if err := h.Answer(Return(int64(h.Call().Arg(0)) * 2)); err != nil {
		t.Error(err)
	}
	if err := h.Answer(Return(1)); err == nil {
		t.Error("a second answer was taken")
	}
	expect(t, v.receive(), 22, 0)
	expect(t, v.syscall(callB), 0, unix.EIO)

	v.send(order{NR: callA})
	if err := (<-held).Answer(Defer(func() Action { return Return(1) })); err != nil {
		t.Error(err)
	}
	expect(t, v.receive(), 0, unix.EIO)
}

func TestAnswerForADeadTaskIsDropped(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	var mu sync.Mutex
	var logged []string
	s := supervise(t, v, handle(callA, func(*Call) Action { return Hold(func(h *Held) { held <- h }) }), func(s *Supervisor) {
		s.config.Log = func(format string, _ ...any) { mu.Lock(); logged = append(logged, format); mu.Unlock() }
	})
	v.send(order{NR: callA})
	h := <-held
	v.end()
	s.Wait()
	if h.Call().Valid() {
		t.Error("the notification of a dead task is valid")
	}
	var b [1]byte
	if err := h.Call().ReadMemory(4096, b[:]); !errors.Is(err, ErrGone) {
		t.Errorf("memory of a dead task: %v", err)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Answer(InjectFDSend(fd, 0)); err != nil {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the source of a dropped injection is open: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(logged) > 0 {
		t.Errorf("logged %q", logged)
	}
}

func TestCloseEndsABlockedLoop(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Return(3) }))
	expect(t, v.syscall(callA), 3, 0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	expect(t, v.syscall(callA), 0, unix.ENOSYS)
	if err := s.Attach(startVictim(t, notified).takeListener()); err == nil {
		t.Error("a closed supervisor took a listener")
	}
}

func TestCloseWhileHeld(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Hold(func(h *Held) { held <- h }) }))
	v.send(order{NR: callA})
	h := <-held
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	expect(t, v.receive(), 0, unix.ENOSYS)
	if err := h.Answer(Return(5)); err != nil {
		t.Error(err)
	}
}

func TestSeveralListeners(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Return(4) }))
	w := startVictim(t, notified)
	attach(t, s, w)
	expect(t, v.syscall(callA), 4, 0)
	expect(t, w.syscall(callA), 4, 0)
	w.end()
	expect(t, v.syscall(callA), 4, 0)
}

func TestAttachRefusesOtherFiles(t *testing.T) {
	table, err := NewTable().Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(fd); err == nil || !strings.Contains(err.Error(), "is no seccomp listener") {
		t.Errorf("an eventfd as a listener: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a supervisor without a table")
	}
}

func TestInjection(t *testing.T) {
	v := startVictim(t, notified)
	content := []byte("127.0.0.1 localhost\n")
	tracked := make(chan int, 1)
	const target = 200
	source, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(source)
	duplicate := func() int {
		fd, err := unix.FcntlInt(uintptr(source), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
		}
		return fd
	}
	supervise(t, v, handle(callA, func(c *Call) Action {
		switch c.Arg(0) {
		case 0:
			return InjectBytes(content)
		case 1:
			return InjectWritableBytes(content)
		case 2:
			return InjectFD(source, target)
		case 3:
			return InjectFDSendTracked(duplicate(), 0, func(fd int) { tracked <- fd })
		case 4:
			return InjectFDSend(-1, 0)
		default:
			return InjectFD(source, 1<<30)
		}
	}))
	buffer := v.alloc(4096)
	read := func(fd int64) []byte {
		r := v.syscall(unix.SYS_READ, uint64(fd), buffer, 4096)
		if r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		return v.peek(buffer, int(r.R))
	}

	sealed := v.syscall(callA, 0)
	expect(t, sealed, sealed.R, 0)
	if got := read(sealed.R); !bytes.Equal(got, content) {
		t.Errorf("injected file holds %q", got)
	}
	expect(t, v.syscall(unix.SYS_WRITE, uint64(sealed.R), buffer, 1), 0, unix.EPERM)
	expect(t, v.syscall(unix.SYS_FTRUNCATE, uint64(sealed.R), 0), 0, unix.EPERM)
	expect(t, v.syscall(unix.SYS_FTRUNCATE, uint64(sealed.R), 4096), 0, unix.EPERM)
	expect(t, v.syscall(unix.SYS_FCNTL, uint64(sealed.R), unix.F_GETFD), unix.FD_CLOEXEC, 0)

	writable := v.syscall(callA, 1)
	if got := read(writable.R); !bytes.Equal(got, content) {
		t.Errorf("injected file holds %q", got)
	}
	expect(t, v.syscall(unix.SYS_WRITE, uint64(writable.R), buffer, 1), 1, 0)

	expect(t, v.syscall(unix.SYS_FCNTL, target, unix.F_GETFD), 0, unix.EBADF)
	expect(t, v.syscall(callA, 2), int64(os.Getpid()), 0) // and continues
	expect(t, v.syscall(unix.SYS_FCNTL, target, unix.F_GETFD), 0, 0)

	sent := v.syscall(callA, 3)
	expect(t, v.syscall(unix.SYS_FCNTL, uint64(sent.R), unix.F_GETFD), 0, 0)
	if fd := <-tracked; int64(fd) != sent.R {
		t.Errorf("done was told %d, the guest got %d", fd, sent.R)
	}

	expect(t, v.syscall(callA, 4), 0, unix.EACCES)
	expect(t, v.syscall(callA, 5), 0, unix.EACCES)
}

// TestInjectionUnderSignals: a signal that ended the supervisor's wait for an injection would leave the guest with an answer
// of zero that nobody gave.
func TestInjectionUnderSignals(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Error(err)
			return Errno(unix.EIO)
		}
		return InjectFDSend(fd, 0)
	}))
	s.mu.Lock()
	var l *listener
	for l = range s.listeners {
	}
	s.mu.Unlock()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if tid := l.tid.Load(); tid != 0 {
					_ = unix.Tgkill(unix.Getpid(), int(tid), unix.SIGURG)
				}
			}
		}
	}()
	for range 500 {
		r := v.syscall(callA)
		if r.Errno != 0 || r.R <= victimSocket {
			t.Errorf("the guest got %d, %v", r.R, r.Errno)
			break
		}
		expect(t, v.syscall(unix.SYS_CLOSE, uint64(r.R)), 0, 0)
	}
	close(stop)
	<-stopped
}

// TestInterruptedGuest has guests interrupted while their calls are judged: they try again, and the old answers are dropped.
func TestInterruptedGuest(t *testing.T) {
	v := startVictim(t, notified)
	var tries atomic.Int32
	supervise(t, v, handle(callA, func(c *Call) Action {
		if tries.Add(1) > 3 {
			return Return(5)
		}
		if err := unix.Tgkill(v.cmd.Process.Pid, c.PID(), unix.SIGURG); err != nil {
			t.Error(err)
		}
		for c.Valid() {
			runtime.Gosched()
		}
		return Errno(unix.EPERM)
	}))
	expect(t, v.syscall(callA), 5, 0)
	if n := tries.Load(); n != 4 {
		t.Errorf("%d notifications", n)
	}
}

func TestKill(t *testing.T) {
	for name, group := range map[string]func(pid int) int{
		"its group":               func(pid int) int { return pid },
		"everybody":               func(int) int { return 1 },
		"the supervisor's group":  func(int) int { return unix.Getpgrp() },
		"a group of the caller's": func(int) int { return 0 },
		"a number below all pids": func(int) int { return -5 },
	} {
		t.Run(name, func(t *testing.T) {
			v := startVictim(t, notified)
			leader := name == "its group"
			if leader {
				expect(t, v.syscall(unix.SYS_SETPGID, 0, 0), 0, 0)
			}
			s := supervise(t, v, handle(callA, func(c *Call) Action {
				return Kill(unix.SIGKILL, group(c.PID()))
			}))
			v.send(order{NR: callA})
			_ = v.cmd.Wait()
			if status := v.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGKILL {
				t.Errorf("the victim ended with %v", v.cmd.ProcessState)
			}
			s.Wait()
		})
	}
}

func TestKillAnswersENOMEM(t *testing.T) {
	v := startVictim(t, notified)
	expect(t, v.syscall(unix.SYS_SETPGID, 0, 0), 0, 0)
	supervise(t, v, handle(callA, func(c *Call) Action { return Kill(unix.SIGURG, c.PID()) }))
	expect(t, v.syscall(callA), 0, unix.ENOMEM)
}

// TestLoopDoesNotAllocate covers what every notification passes through; the answer goes to a listener that does not know the
// id, which costs the same.
func TestLoopDoesNotAllocate(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return Continue() }),
		callB: HandlerFunc(func(*Call) Action { return Errno(unix.EPERM) }),
		callC: HandlerFunc(func(c *Call) Action { return Return(int64(c.Arg(0))) }),
	})
	s.mu.Lock()
	var l *listener
	for l = range s.listeners {
	}
	s.mu.Unlock()
	for _, nr := range []int32{callA, callB, callC} {
		c := s.newCall(l)
		c.n = rawNotification{id: ^uint64(0), pid: 1, data: seccompData{nr: nr, arch: nativeAuditArch}}
		if n := testing.AllocsPerRun(100, func() { s.answer(c) }); n != 0 {
			t.Errorf("answering %s allocates %v times", syscallLabel(int(nr)), n)
		}
	}
	// And the whole loop, receive included, by what the process allocates meanwhile: far less than once a call.
	const calls = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if r := v.do(order{NR: callB, Times: calls}); r.Differ != 0 || r.Errno != unix.EPERM {
		t.Errorf("%+v", r)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > calls/4 {
		t.Errorf("%d allocations for %d notifications", n, calls)
	}
}

// BenchmarkNotification is the whole way of a notified call, from the guest and back.
func BenchmarkNotification(b *testing.B) {
	for name, h := range map[string]HandlerFunc{
		"errno":    func(*Call) Action { return Errno(unix.EACCES) },
		"continue": func(*Call) Action { return Continue() },
		"sockaddr": func(c *Call) Action {
			var address [16]byte
			if err := c.ReadMemory(c.Arg(0), address[:]); err != nil {
				return Errno(unix.EFAULT)
			}
			return Errno(unix.EACCES)
		},
		"file": func(c *Call) Action {
			fd, err := c.File(0)
			if err != nil {
				return Errno(unix.EBADF)
			}
			unix.Close(fd)
			return Errno(unix.EACCES)
		},
		"defer": func(*Call) Action { return Defer(func() Action { return Errno(unix.EACCES) }) },
	} {
		b.Run(name, func(b *testing.B) {
			v := startVictim(b, notified)
			supervise(b, v, handle(callA, h))
			buffer := v.alloc(smallestPage)
			v.do(order{NR: callA, Args: [6]uint64{buffer}, Times: 500})
			b.ReportAllocs()
			b.ResetTimer()
			v.do(order{NR: callA, Args: [6]uint64{buffer}, Times: b.N})
			b.StopTimer()
		})
	}
}
