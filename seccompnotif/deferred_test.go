package seccompnotif

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	v.Send(order{NR: callA, Args: [6]uint64{3, 77}, Thread: true})
	w := startVictim(t, notified)
	supervise(t, w, handle(callB, func(*Call) Action { return Return(9) }))
	expect(t, w.syscall(callB), 9, 0)
	close(release)
	expect(t, v.Receive(), 77, 0)
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
	for _, r := range v.Do(order{NR: callA, Many: 2}).Many {
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
	v.Send(order{NR: callA, Many: MaxDeferred})
	for range MaxDeferred {
		<-started
	}
	expect(t, w.syscall(callA), 0, unix.EAGAIN)
	close(release)
	for _, r := range v.Receive().Many {
		expect(t, r, 1, 0)
	}
	awaitFree(t, s)
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

// TestDeferTimeoutHold: what a late function wanted to keep is given to its keeper all the same, who can only release it.
func TestDeferTimeoutHold(t *testing.T) {
	v := startVictim(t, notified)
	release, kept := make(chan struct{}), make(chan *Held, 1)
	supervise(t, v, handle(callA, func(*Call) Action {
		return Defer(func() Action {
			<-release
			return Hold(func(h *Held) { kept <- h })
		})
	}), func(s *Supervisor) { s.deferTimeout = 10 * time.Millisecond })
	expect(t, v.syscall(callA), 0, unix.EIO)
	close(release)
	h := <-kept
	if h.Call().Valid() {
		t.Error("the notification is valid after its answer")
	}
	if err := h.Answer(Return(1)); err == nil {
		t.Error("a second answer is accepted")
	}
}

func TestHold(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return Hold(func(h *Held) { held <- h }) }),
		callB: HandlerFunc(func(*Call) Action { return Hold(func(*Held) { panic("on purpose") }) }),
	})
	v.Send(order{NR: callA, Args: [6]uint64{11}})
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
	expect(t, v.Receive(), 22, 0)
	expect(t, v.syscall(callB), 0, unix.EIO)

	v.Send(order{NR: callA})
	if err := (<-held).Answer(Defer(func() Action { return Return(1) })); err != nil {
		t.Error(err)
	}
	expect(t, v.Receive(), 0, unix.EIO)
}

func TestAnswerForADeadTaskIsDropped(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	var mu sync.Mutex
	var logged []string
	s := supervise(t, v, handle(callA, func(*Call) Action { return Hold(func(h *Held) { held <- h }) }), func(s *Supervisor) {
		s.config.Log = func(format string, _ ...any) { mu.Lock(); logged = append(logged, format); mu.Unlock() }
	})
	v.Send(order{NR: callA})
	h := <-held
	v.End()
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

func TestCloseWhileHeld(t *testing.T) {
	v := startVictim(t, notified)
	held := make(chan *Held, 1)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Hold(func(h *Held) { held <- h }) }))
	v.Send(order{NR: callA})
	h := <-held
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	expect(t, v.Receive(), 0, unix.ENOSYS)
	if err := h.Answer(Return(5)); err != nil {
		t.Error(err)
	}
}

// TestAnswerUnder: what is answered is decided with the lock, and may be left for later.
func TestAnswerUnder(t *testing.T) {
	v := startVictim(t, notified)
	var lock sync.Mutex
	supervise(t, v, handle(callA, func(c *Call) Action {
		return Hold(func(h *Held) {
			answered, err := h.AnswerUnder(&lock, func() (Action, bool) {
				if lock.TryLock() {
					t.Error("the lock is not locked")
				}
				return Return(5), c.Arg(0) == 1
			})
			if answered != (c.Arg(0) == 1) || err != nil {
				t.Errorf("answered %v, %v", answered, err)
			}
			if !lock.TryLock() {
				t.Error("the lock stays locked")
			} else {
				lock.Unlock()
			}
			if err := h.Answer(Return(6)); (err != nil) != answered {
				t.Errorf("a second answer: %v", err)
			}
		})
	}))
	expect(t, v.syscall(callA, 1), 5, 0)
	expect(t, v.syscall(callA, 2), 6, 0)
}
