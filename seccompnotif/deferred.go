package seccompnotif

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// deferred is one function given to Defer.
type deferred struct {
	mu       sync.Mutex
	answered bool
}

// claim returns true to the one who may answer. then runs before anybody else is told otherwise.
func (d *deferred) claim(then func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answered {
		return false
	}
	d.answered = true
	if then != nil {
		then()
	}
	return true
}

// startDeferred runs f on a worker and answers c with what it returns.
func (s *Supervisor) startDeferred(c *Call, f func() Action) {
	if s.inFlight.Add(1) > MaxDeferred {
		s.inFlight.Add(-1)
		s.fail(c, unix.EAGAIN)
		return
	}
	if !c.listener.acquire() {
		s.inFlight.Add(-1)
		return
	}
	s.counters.of(&c.n).deferred.Add(1)
	d := &deferred{}
	// The late answer is given under the lock: once the worker has lost its claim it may release the listener.
	late := time.AfterFunc(s.deferTimeout, func() {
		d.claim(func() {
			s.logf("deferred answer to %s of thread %d is late: denied", syscallLabel(c.Syscall()), c.PID())
			s.fail(c, unix.EIO)
		})
	})
	go func() {
		// The place is held until f returns, also past the time-out: what is bounded is how many run.
		defer s.inFlight.Add(-1)
		defer c.listener.release()
		a := Errno(unix.EIO) // of an f that ends the goroutine
		defer func() {
			if !d.claim(nil) {
				s.discard(c, a)
				return
			}
			late.Stop()
			s.finish(c, a)
		}()
		a = s.runDeferred(c, f)
	}()
}

// runDeferred calls f and turns what it must not do into EIO.
func (s *Supervisor) runDeferred(c *Call, f func() Action) (a Action) {
	defer func() {
		if r := recover(); r != nil {
			s.logf("deferred answer to %s of thread %d panicked: %v", syscallLabel(c.Syscall()), c.PID(), r)
			a = Errno(unix.EIO)
		}
	}()
	return f()
}

// finish performs an action that comes from elsewhere than the loop, where nothing can be deferred any more.
func (s *Supervisor) finish(c *Call, a Action) {
	switch a.kind {
	case actDefer:
		s.fail(c, unix.EIO)
	case actHold:
		s.hold(c, a.more.keep)
	default:
		s.perform(c, a)
	}
}

// Held is a notification that [Hold] kept. Its methods may be called from any goroutine.
type Held struct {
	supervisor *Supervisor
	call       *Call

	mu       sync.Mutex
	answered bool
}

// hold gives c to keep. If that fails the call is denied.
func (s *Supervisor) hold(c *Call, keep func(*Held)) {
	if !c.listener.acquire() {
		return
	}
	h := &Held{supervisor: s, call: c}
	defer func() {
		if r := recover(); r != nil {
			s.logf("keeper of %s of thread %d panicked: %v", syscallLabel(c.Syscall()), c.PID(), r)
			_ = h.Answer(Errno(unix.EIO)) // unless keep has answered before it panicked
		}
	}()
	keep(h)
}

// Call returns the notification, to be used only until it is answered.
func (h *Held) Call() *Call { return h.call }

// Answer performs a and ends the wait. An action of [Hold] or [Defer] answers EIO. A second answer is an error; that the
// guest is gone is none.
func (h *Held) Answer(a Action) error {
	if !h.claim() {
		h.supervisor.discard(h.call, a)
		return errors.New("held notification: already answered")
	}
	defer h.call.listener.release()
	if a.kind == actHold || a.kind == actDefer {
		a = Errno(unix.EIO)
	}
	h.supervisor.perform(h.call, a)
	return nil
}

// AnswerUnder is [Held.Answer] with what decide returns, which is called, and acted on, while lock is locked: whoever locks it otherwise
// knows that no answer is on its way that was decided before. If decide does not want to answer, the call stays held, and AnswerUnder
// returns false. While tasks are stopped for an execve (see [JudgeExec]) answers have to wait; this one waits without the lock.
//
// decide must neither read nor write the guest's memory.
func (h *Held) AnswerUnder(lock sync.Locker, decide func() (Action, bool)) (bool, error) {
	t := h.supervisor.tracer
	t.pass()
	defer t.passed()
	lock.Lock()
	defer lock.Unlock()
	a, answer := decide()
	if !answer {
		return false, nil
	}
	h.call.admitted = true
	return true, h.Answer(a)
}

// claim returns true to the first who answers.
func (h *Held) claim() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	answered := h.answered
	h.answered = true
	return !answered
}

// goOn ends the holding with what a handler would have answered: the call may be held again, or deferred.
func (h *Held) goOn(a Action) {
	if !h.claim() {
		h.supervisor.discard(h.call, a)
		return
	}
	defer h.call.listener.release()
	if a.kind == actDefer {
		h.supervisor.startDeferred(h.call, a.more.run)
		return
	}
	h.supervisor.finish(h.call, a)
}
