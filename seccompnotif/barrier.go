package seccompnotif

import (
	"sync"

	"golang.org/x/sys/unix"
)

// While tasks are stopped for an execve, nobody may answer another call: an answered task runs on in the kernel, which may
// write to memory on its behalf, before it stops. Nor may anybody write to a guest's memory. So whoever does either passes the
// barrier first, which the tracer closes meanwhile. Without a tracer there is no barrier.

// pass waits until no task is stopped for an execve, and keeps it so until passed is called.
func (t *tracer) pass() {
	if t != nil {
		t.barrier.RLock()
	}
}

func (t *tracer) passed() {
	if t != nil {
		t.barrier.RUnlock()
	}
}

// parkedCalls knows which threads wait for an answer to a call that was received. In a wait that only a fatal signal ends they
// cannot be stopped, and need not be.
type parkedCalls struct {
	mu       sync.Mutex
	byThread map[uint32]parkedCall // a thread has one call at a time
}

type parkedCall struct {
	listener *listener
	id       uint64
}

func (p *parkedCalls) add(c *Call) {
	p.mu.Lock()
	p.byThread[c.n.pid] = parkedCall{c.listener, c.n.id}
	p.mu.Unlock()
}

func (p *parkedCalls) remove(c *Call) {
	p.mu.Lock()
	if p.byThread[c.n.pid] == (parkedCall{c.listener, c.n.id}) {
		delete(p.byThread, c.n.pid)
	}
	p.mu.Unlock()
}

// removeAll forgets the calls of a listener that is done.
func (p *parkedCalls) removeAll(l *listener) {
	p.mu.Lock()
	for tid, c := range p.byThread {
		if c.listener == l {
			delete(p.byThread, tid)
		}
	}
	p.mu.Unlock()
}

// waits returns the listener of the call that the thread waits for an answer to, nil if it waits for none.
func (p *parkedCalls) waits(tid int) *listener {
	p.mu.Lock()
	known, ok := p.byThread[uint32(tid)]
	p.mu.Unlock()
	if !ok || !known.listener.acquire() {
		return nil
	}
	defer known.listener.release()
	c := Call{listener: known.listener, n: rawNotification{id: known.id}}
	if !c.Valid() {
		return nil
	}
	return known.listener
}

// sendNow is send without the barrier, and tells whether the guest got the answer.
func (s *Supervisor) sendNow(c *Call, r rawResponse, as ending) bool {
	delivered := s.deliver(c, r, as)
	if s.tracer != nil {
		s.tracer.parked.remove(c)
	}
	return delivered
}

// proceed lets c through: at once, or with the tracer where that has to see what comes of it.
func (s *Supervisor) proceed(c *Call) {
	if s.tracer != nil {
		if exec := isExec(&c.n); exec || createsProcess(&c.n) {
			kept := *c // c itself is received into again
			s.tracer.submit(&tracerJob{call: &kept, exec: exec})
			return
		}
	}
	s.send(c, rawResponse{flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}, continued)
}

// judgeExec performs JudgeExec; c is the tracer's from then on.
func (s *Supervisor) judgeExec(c *Call, decide func(Argv) Action) {
	if s.tracer == nil || !isExec(&c.n) {
		s.logf("the arguments of %s of thread %d cannot be judged: it is no execve, or the table does not track creation", syscallLabel(c.Syscall()), c.PID())
		s.fail(c, unix.EPERM)
		return
	}
	s.tracer.submit(&tracerJob{call: c, exec: true, decide: decide})
}
