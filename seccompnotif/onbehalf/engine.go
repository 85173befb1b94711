package onbehalf

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// MaxCalls is how many calls an engine makes at a time, those included that wait in the kernel, such as an open of a FIFO that
	// nobody else has opened. The next one fails with EAGAIN.
	MaxCalls = 1024
	// keptWorkers is how many threads stay when there is nothing to do.
	keptWorkers = 2
)

// Config is what an engine is made of.
type Config struct {
	// Confine, if not nil, is called once on each thread that makes calls, and binds that thread alone: it puts it under what
	// confines the guest beyond its identity and its root, such as Landlock. It must leave the thread's capabilities.
	Confine func() error
	// Log, if not nil, is told in one line of what nobody else would learn. It is called from several goroutines.
	Log func(format string, args ...any)
}

// Engine makes calls for guests. Its methods are safe for concurrent use.
type Engine struct {
	config    Config
	host      *seccompnotif.Host
	protected protections

	calls   atomic.Int32   // made now
	threads sync.WaitGroup // of all workers

	mu     sync.Mutex
	idle   []*worker
	closed bool
}

// New returns an engine. The supervisor must have the privileges, and the view of /proc, that supervising the guest takes.
func New(config Config) (*Engine, error) {
	host, err := seccompnotif.OpenHost()
	if err != nil {
		return nil, fmt.Errorf("calls on behalf: %w", err)
	}
	e := &Engine{config: config, host: host}
	e.protected = readProtections(host.Proc())
	// That threads can be confined is known before the first guest depends on it.
	if err := e.on(func(*worker) unix.Errno { return 0 }); err != nil {
		_ = e.Close() // nothing has been done with it
		return nil, err
	}
	return e, nil
}

// Close ends the engine's threads. No call may be in progress.
func (e *Engine) Close() error {
	e.mu.Lock()
	idle, closed := e.idle, e.closed
	e.idle, e.closed = nil, true
	e.mu.Unlock()
	if closed {
		return nil
	}
	for _, w := range idle {
		w.dismiss()
	}
	e.threads.Wait()
	return e.host.Close()
}

// Denials returns what a guest whose opens are made on its behalf must be denied: to restrict itself by Landlock, since a file that is
// opened for it would be opened outside of its rules. Programs find Landlock missing, as on a kernel without it.
func Denials() []seccompnotif.Denial {
	var denials []seccompnotif.Denial
	for _, name := range []string{"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} {
		denials = append(denials, seccompnotif.Denial{Syscall: name, Errno: unix.EOPNOTSUPP})
	}
	return denials
}

func (e *Engine) logf(format string, args ...any) {
	if e.config.Log != nil {
		e.config.Log(format, args...)
	}
}

// errnoOf returns the errno in err, EACCES if there is none.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, seccompnotif.ErrGone):
		return unix.ESRCH // nobody gets to see it
	case errors.As(err, &errno):
		return errno
	}
	return unix.EACCES
}
