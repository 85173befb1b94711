package seccompnotif

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// logged collects what a supervisor logs.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) option(s *Supervisor) {
	s.config.Log = func(format string, args ...any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, fmt.Sprintf(format, args...))
	}
}

// with tells how many lines have text in them.
func (l *logged) with(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(l.lines), func(line string) bool { return !strings.Contains(line, text) }))
}

func TestDeferRefused(t *testing.T) {
	v := startVictim(t, notified)
	ran := make(chan struct{}, 1)
	deferring := HandlerFunc(func(*Call) Action { return Defer(func() Action { ran <- struct{}{}; return Return(1) }) })
	table, err := NewTable().Handle(callA, deferring).Handle(callB, deferring).RefuseDefer(callA).Under(notified).Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	attach(t, s, v)
	expect(t, v.syscall(callA), 0, unix.EPERM)
	if len(ran) > 0 {
		t.Error("the function ran")
	}
	expect(t, v.syscall(callB), 1, 0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDeferredThatEndsItsGoroutine: runtime.Goexit neither returns nor panics.
func TestDeferredThatEndsItsGoroutine(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action {
		return Defer(func() Action { runtime.Goexit(); return Return(1) })
	}))
	expect(t, v.syscall(callA), 0, unix.EIO)
	awaitFree(t, s)
}

func TestInjectedBytesCannotBeMade(t *testing.T) {
	v := startVictim(t, notified)
	var log logged
	supervise(t, v, handle(callA, func(*Call) Action { return InjectBytes([]byte("x")) }), log.option)
	fd := v.syscall(callA)
	expect(t, fd, fd.R, 0)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// No descriptor is left for the anonymous file, though for everything that is open.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	r := v.syscall(callA)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	expect(t, r, 0, unix.EIO)
	if log.with("anonymous file") != 1 {
		t.Errorf("logged %q", log.lines)
	}
	again := v.syscall(callA)
	expect(t, again, again.R, 0)
}

// TestInjectedBytesCannotBeChanged tries every way to a sealed file that its guest has.
func TestInjectedBytesCannotBeChanged(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return InjectBytes([]byte("sealed")) }),
		callB: HandlerFunc(func(*Call) Action { return InjectWritableBytes([]byte("open")) }),
	})
	sealed, open := uint64(v.syscall(callA).R), uint64(v.syscall(callB).R)
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK
	if r := v.syscall(unix.SYS_FCNTL, sealed, unix.F_GET_SEALS); r.Errno != 0 || r.R&all != all {
		t.Errorf("the seals are %#x, %v", r.R, r.Errno)
	}
	path := v.alloc(4096)
	for _, test := range []struct {
		fd   uint64
		want unix.Errno
	}{{sealed, unix.EPERM}, {open, 0}} {
		v.poke(path, fmt.Appendf(nil, "/proc/self/fd/%d\x00", test.fd))
		again := v.syscall(unix.SYS_OPENAT, ^uint64(99), path, unix.O_RDWR) // AT_FDCWD
		expect(t, again, again.R, 0)
		expect(t, v.syscall(unix.SYS_PWRITE64, uint64(again.R), path, 1, 0), 1, test.want)
		expect(t, v.syscall(unix.SYS_FALLOCATE, uint64(again.R), 0, 0, 4096), 0, test.want)
		mapped := v.syscall(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, uint64(again.R), 0)
		expect(t, mapped, mapped.R, test.want)
		if test.want != 0 {
			expect(t, v.syscall(unix.SYS_FCNTL, test.fd, unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE), 0, test.want)
		}
	}
}

// TestToldOfADescriptor: done is called once for an injection that succeeded, never for another, and may panic.
func TestToldOfADescriptor(t *testing.T) {
	v := startVictim(t, notified)
	told := make(chan int, 4)
	var log logged
	supervise(t, v, handle(callA, func(c *Call) Action {
		source := -1
		if c.Arg(0) == 1 {
			var err error
			if source, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
				t.Error(err)
			}
		}
		return InjectFDSendTracked(source, unix.O_CLOEXEC, func(fd int) { told <- fd; panic("on purpose") })
	}), log.option)
	r := v.syscall(callA, 1)
	expect(t, r, r.R, 0)
	expect(t, v.syscall(unix.SYS_FCNTL, uint64(r.R), unix.F_GETFD), unix.FD_CLOEXEC, 0)
	expect(t, v.syscall(callA, 0), 0, unix.EACCES)
	if fd := <-told; int64(fd) != r.R || len(told) > 0 {
		t.Errorf("told of %d and %d more, the guest got %d", fd, len(told), r.R)
	}
	if log.with("panicked") != 1 || log.with("not injected") != 1 {
		t.Errorf("logged %q", log.lines)
	}
}

// TestInjectionIntoADyingGuest kills guests while descriptors are on their way to them. Whether one still arrives or not, nothing is
// logged and nothing stays open.
func TestInjectionIntoADyingGuest(t *testing.T) {
	before := measureFootprint(t).files
	for range 20 {
		v := startVictim(t, notified)
		var log logged
		arrived := make(chan struct{}, 1)
		s := supervise(t, v, handle(callA, func(c *Call) Action {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			if err != nil {
				t.Error(err)
			}
			select {
			case arrived <- struct{}{}:
			default:
			}
			return InjectFDSend(fd, unix.O_CLOEXEC)
		}), log.option)
		v.Send(order{NR: callA, Many: 8})
		<-arrived
		v.End()
		s.Wait()
		if len(log.lines) > 0 {
			t.Errorf("logged %q", log.lines)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := measureFootprint(t).files; after > before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
}

// TestRefusedAnswerIsLogged: the kernel takes no answer twice, and none that contradicts itself.
func TestRefusedAnswerIsLogged(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	var log logged
	s := supervise(t, v, handle(callA, func(*Call) Action { return Hold(func(h *Held) { held <- h }) }), log.option)
	v.Send(order{NR: callA})
	h := <-held
	s.send(h.Call(), rawResponse{val: 1, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}, continued)
	if log.with("refused by the kernel") != 1 {
		t.Errorf("logged %q", log.lines)
	}
	s.perform(h.Call(), Action{kind: 200}) // nobody knows how to perform it
	expect(t, v.Receive(), 0, unix.EIO)
	if err := h.Answer(Return(1)); err != nil {
		t.Error(err)
	}
}

// TestLogIsBounded: what a guest can bring about as often as it likes must not fill a disk.
func TestLogIsBounded(t *testing.T) {
	v := startVictim(t, notified)
	var log logged
	s := supervise(t, v, handle(callA, func(*Call) Action { panic("on purpose") }), log.option)
	const calls = 10 * maxLogged
	if r := v.Do(order{NR: callA, Times: calls}); r.Errno != unix.EIO || r.Differ != 0 {
		t.Errorf("%+v", r)
	}
	if n := log.with("panicked"); n != maxLogged || log.with("not logged") != 0 {
		t.Errorf("%d lines: %q", n, log.lines)
	}
	s.logLimit.mu.Lock()
	s.logLimit.began -= logWindow // time goes by
	s.logLimit.mu.Unlock()
	v.syscall(callA)
	if log.with("panicked") != maxLogged+1 || log.with(fmt.Sprintf("%d lines about notifications were not logged", calls-maxLogged)) != 1 {
		t.Errorf("the log ends with %q", log.lines[maxLogged:])
	}
}

// TestWithoutAFeature runs on a kernel that is said to lack one.
func TestWithoutAFeature(t *testing.T) {
	t.Run("sync wake-up", func(t *testing.T) {
		v := startVictim(t, notified)
		s := superviseBy(t, v, Config{Features: &Features{AddFDSend: true}}, handle(callA, func(*Call) Action { return Return(6) }))
		s.mu.Lock()
		for l := range s.listeners {
			if l.syncWake {
				t.Error("it is in use")
			}
		}
		s.mu.Unlock()
		expect(t, v.Do(order{NR: callA, Times: 100}), 6, 0)
	})
	t.Run("addfd-send", func(t *testing.T) {
		v := startVictim(t, notified)
		table, err := NewTable().Build()
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Table: table, Features: &Features{SyncWakeUp: true, PIDFDThread: true}})
		if err != nil {
			t.Fatal(err)
		}
		fd := v.TakeListener()
		const want = "seccomp listener: the kernel lacks SECCOMP_ADDFD_FLAG_SEND (Linux 5.14)"
		if err := s.Attach(fd); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		expect(t, v.syscall(callA), 0, unix.ENOSYS) // the listener is closed, so nothing got past it
	})
	// That of a descriptor table of its own is in TestFile, and that a plan needs WAIT_KILLABLE_RECV among the plan's.
}

// TestBlockedLoopsDoNotStallTheCollector: a loop that waited in a raw system call would hold its processor, and the collector
// would wait for it until the next notification, which is never.
func TestBlockedLoopsDoNotStallTheCollector(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var victims []*victim
	s := supervise(t, startVictim(t, notified), handle(callA, func(*Call) Action { return Return(2) }))
	for range 3 {
		v := startVictim(t, notified)
		attach(t, s, v)
		victims = append(victims, v)
	}
	for range 3 {
		for _, v := range victims {
			expect(t, v.syscall(callA), 2, 0)
		}
		runtime.GC()
	}
}

// TestTheLoopFindsTheEndItself takes away the watcher, which tells of hang-ups on kernels that do not wake a receiver.
func TestTheLoopFindsTheEndItself(t *testing.T) {
	v := startVictim(t, notified)
	arrived, release := make(chan struct{}), make(chan struct{})
	s := supervise(t, v, handle(callA, func(*Call) Action { close(arrived); <-release; return Return(1) }))
	s.mu.Lock()
	for l := range s.listeners {
		s.watch.remove(&l.watched)
	}
	s.mu.Unlock()
	v.Send(order{NR: callA})
	<-arrived
	v.End()
	close(release)
	s.Wait() // from here on a receive fails with ENOENT, as often as it is tried
	if of := s.Stats(); len(of) != 1 || of[0].Stale != 1 {
		t.Errorf("%+v", of)
	}
}

// TestInterruptedBeforeReceipt: a notification whose task is interrupted before it is received leaves a receive that fails with
// ENOENT, though tasks live.
func TestInterruptedBeforeReceipt(t *testing.T) {
	v := startVictim(t, notified)
	release := make(chan struct{})
	first := make(chan int, 2)
	supervise(t, v, handle(callA, func(c *Call) Action { first <- c.PID(); <-release; return Return(8) }))
	v.Send(order{NR: callA, Many: 2})
	busy := <-first
	pid := v.Cmd.Process.Pid
	waiting := 0
	testguest.Await(t, "a thread that waits", func() bool {
		for _, tid := range threadsIn(t, pid, callA) {
			if tid != busy {
				waiting = tid
			}
		}
		return waiting != 0
	})
	before := switches(t, waiting)
	testguest.Await(t, "its signals", func() bool {
		if err := unix.Tgkill(pid, waiting, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
		return switches(t, waiting) >= before+3
	})
	close(release)
	for _, r := range v.Receive().Many {
		expect(t, r, 8, 0)
	}
}

// threadsIn returns the threads of a process that wait inside a system call.
func threadsIn(t *testing.T, pid, nr int) []int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	var tids []int
	for _, entry := range entries {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, entry.Name()))
		if err != nil {
			continue // it has ended
		}
		var tid int
		if _, err := fmt.Sscan(entry.Name(), &tid); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(text), fmt.Sprintf("%d ", nr)) {
			tids = append(tids, tid)
		}
	}
	return tids
}

// switches returns how often a thread has gone to sleep by itself.
func switches(t *testing.T, tid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
			var n int
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no count of switches")
	return 0
}

// TestWritesRespectProtection: what the guest may not write is not written for it.
func TestWritesRespectProtection(t *testing.T) {
	v := startVictim(t, notified)
	judged(t, v, func(c *Call) error {
		var memory *MemoryError
		err := c.WriteMemory(c.Arg(0), []byte("x"))
		if !errors.Is(err, unix.EFAULT) || !errors.As(err, &memory) || memory.Op != "write" || memory.Addr != c.Arg(0) || memory.Length != 1 {
			t.Errorf("a write to a page that is read-only: %v", err)
		}
		if text := err.Error(); !strings.HasPrefix(text, "guest memory: write of 1 bytes at 0x") || strings.Contains(text, "\n") {
			t.Errorf("the error reads %q", text)
		}
		return c.WriteMemory(c.Arg(1), []byte("x"))
	})
	page := uint64(os.Getpagesize())
	start := v.alloc(int(2 * page))
	expect(t, v.syscall(unix.SYS_MPROTECT, start, page, unix.PROT_READ), 0, 0)
	expect(t, v.syscall(callA, start, start+page), 0, 0)
	if got := v.peek(start, 1)[0]; got != 0 {
		t.Errorf("the page holds %q", got)
	}
}

// TestCallFacts: what a call says of itself.
func TestCallFacts(t *testing.T) {
	v := startVictim(t, notified)
	seen := map[uint64]bool{}
	judged(t, v, func(c *Call) error {
		if c.Syscall() != callA || c.Arg(3) != 1<<63+4 || c.ID() == 0 || seen[c.ID()] || c.InstructionPointer() == 0 {
			t.Errorf("%s with %#x, id %d, at %#x", syscallLabel(c.Syscall()), c.Arg(3), c.ID(), c.InstructionPointer())
		}
		seen[c.ID()] = true
		defer func() {
			if recover() == nil {
				t.Error("a seventh argument")
			}
		}()
		_ = c.Arg(6)
		return nil
	})
	for range 3 {
		expect(t, v.syscall(callA, 0, 0, 0, 1<<63+4), 0, 0)
	}
}
