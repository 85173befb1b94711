package seccompnotif

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxDeferred is how many functions given to [Defer] a supervisor runs at a time; the next one is answered EAGAIN.
	MaxDeferred = 64
	// DeferTimeout is how long a function given to [Defer] may take; past it the guest gets EIO.
	DeferTimeout = 30 * time.Second
)

// Config is what a supervisor is made of.
type Config struct {
	// Table holds the handlers. It is required.
	Table *Table
	// Log, if not nil, is told in one line, like log.Printf, of what nobody else would learn: an answer that the kernel
	// refused, a handler that panicked, an injection that failed. It is called from several goroutines. A guest that brings
	// such things about again and again has 50 of them logged in ten seconds, and the rest counted.
	Log func(format string, args ...any)
	// Features, if not nil, is what the supervisor takes the kernel to have, instead of trying: a kernel that has more is then
	// used like one that has not. Whoever installs filters sees to WaitKillableRecv.
	Features *Features
}

// Supervisor answers the notifications of its listeners. Its methods are safe for concurrent use.
type Supervisor struct {
	config       Config
	watch        *watcher
	index        *processIndex
	tracer       *tracer // nil unless the table tracks creation
	counters     *counters
	logLimit     logLimit
	inFlight     atomic.Int32
	deferTimeout time.Duration // DeferTimeout, but for tests

	mu        sync.Mutex
	idle      sync.Cond // the last listener is done
	listeners map[*listener]struct{}
	closed    bool
}

// New returns a supervisor without listeners.
func New(config Config) (*Supervisor, error) {
	if config.Table == nil {
		return nil, errors.New("seccomp supervisor: no table of handlers")
	}
	if _, err := kernelSizes(); err != nil {
		return nil, err
	}
	watch, err := newWatcher()
	if err != nil {
		return nil, fmt.Errorf("seccomp supervisor: %w", err)
	}
	s := &Supervisor{
		config:       config,
		watch:        watch,
		index:        newProcessIndex(watch, config.Features),
		counters:     newCounters(config.Table),
		deferTimeout: DeferTimeout,
		listeners:    map[*listener]struct{}{},
	}
	s.idle.L = &s.mu
	if config.Table.tracks {
		if s.tracer, err = newTracer(s); err != nil {
			return nil, errors.Join(fmt.Errorf("seccomp supervisor: %w", err), watch.close())
		}
	}
	return s, nil
}

// Attach takes over listener, a seccomp notification descriptor, and answers its notifications until the last task under its
// filter is gone or the supervisor is closed. The descriptor belongs to the supervisor from then on, even if Attach fails. It
// fails on a kernel that cannot put a descriptor into the guest in one step with the answer ([Features].AddFDSend).
func (s *Supervisor) Attach(fd int) error {
	l, err := newListener(fd, s.watch.epfd, s.config.Features)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.release()
		return errors.New("seccomp supervisor: closed")
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	// Linux wakes a receiver whose last guest is gone only since 6.11: the hang-up is watched for besides.
	if err := s.watch.add(&l.watched, l.fd, 0, l.close); err != nil {
		s.detach(l)
		return fmt.Errorf("seccomp listener: %w", err)
	}
	go s.serve(l)
	return nil
}

// detach forgets l, whose loop has ended or never began.
func (s *Supervisor) detach(l *listener) {
	s.watch.remove(&l.watched)
	l.close()
	l.release()
	s.mu.Lock()
	delete(s.listeners, l)
	if s.tracer != nil {
		s.tracer.parked.removeAll(l)
	}
	if len(s.listeners) == 0 {
		s.idle.Broadcast()
	}
	s.mu.Unlock()
}

// Wait returns when no listener is left. Functions given to [Defer] may still be running.
func (s *Supervisor) Wait() {
	s.mu.Lock()
	for len(s.listeners) > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
}

// Close ends every listener and returns when their loops have ended. Tasks that wait for an answer, and every later notified
// call, get ENOSYS from the kernel. It must not be called by a handler.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for l := range s.listeners {
		l.close()
	}
	s.mu.Unlock()
	if s.tracer != nil {
		s.tracer.stop() // a loop may be waiting for the end of what it does
	}
	s.Wait()
	if !first {
		return nil
	}
	if s.tracer != nil {
		s.tracer.close()
	}
	err := s.watch.close()
	s.index.close()
	return err
}
