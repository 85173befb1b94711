package seccompnotif

import (
	"errors"
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
	// refused, a handler that panicked, an injection that failed. It is called from several goroutines.
	Log func(format string, args ...any)
}

// Supervisor answers the notifications of its listeners.
type Supervisor struct {
	config Config
}

// New returns a supervisor without listeners.
func New(config Config) (*Supervisor, error) {
	if config.Table == nil {
		return nil, errors.New("seccomp supervisor: no table of handlers")
	}
	return &Supervisor{config: config}, nil
}

// Attach takes over listener, a seccomp notification descriptor, and answers its notifications until the last task under its
// filter is gone or the supervisor is closed. The descriptor belongs to the supervisor from then on, even if Attach fails.
func (s *Supervisor) Attach(listener int) error { panic("not yet") }

// Wait returns when every listener attached so far is done.
func (s *Supervisor) Wait() { panic("not yet") }

// Close ends every listener. Tasks that wait for an answer, and every later notified call, get ENOSYS from the kernel.
func (s *Supervisor) Close() error { panic("not yet") }

// Held is a notification kept by [Hold].
type Held struct{ call *Call }
type listener struct{ fd int }

// Index
type Index struct{}

// Process
type Process struct{}

func (c *Call) ReadMemory(addr uint64, into []byte) error          { panic("not yet") }
func (c *Call) WriteMemory(addr uint64, from []byte) error         { panic("not yet") }
func (c *Call) ReadString(addr uint64, limit int) (string, error) { panic("not yet") }
func (c *Call) File(fd int) (int, error)                           { panic("not yet") }
func (c *Call) Process() (*Process, error)                         { panic("not yet") }
