package seccompnotif

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// VerdictTimeout is how long a held call waits for its verdict; past it the call is denied.
	VerdictTimeout = 5 * time.Second
	// MaxHeld is how many calls a gate holds at a time; the next one fails with EAGAIN.
	MaxHeld = 1024
	// maxReports is how many reported events wait for a slow subscriber; the next one is dropped, and counted.
	maxReports = 1024
)

// GateConfig is what a gate is made of.
type GateConfig struct {
	// Subscriber is whom the gate asks and tells. It is required.
	Subscriber Subscriber
	// Syscalls are the names of the system calls that the subscriber wants events of; see [EventCalls].
	Syscalls []string
	// Argv has the events of execve and execveat tell the arguments, see [JudgeExec]. It takes [TableBuilder.TrackCreation], which the
	// table is to have.
	Argv bool
	// Record, if not nil, is told of held calls that were denied, with the error if there was no verdict, and of those allowed
	// with [Audit]. It is called by several goroutines while the caller waits, so it must be quick.
	Record func(*Call, Event, Verdict, error)
	// Log, if not nil, is told of what nobody else would learn, like [Config.Log].
	Log func(format string, args ...any)
}

// Gate stands between handlers and a [Subscriber]. What needs a decision is held until the subscriber has given its verdict, away
// from the listener's loop; everything else is reported without waiting. It never makes anything possible that other handlers
// refuse: those are asked first. Its methods are safe for concurrent use.
type Gate struct {
	config  GateConfig
	wanted  map[int]EventCall // by system call number
	timeout time.Duration     // VerdictTimeout, but for tests

	last    atomic.Uint64 // id of the last event
	judging atomic.Int32
	waiting atomic.Int32
	dropped atomic.Uint64

	start   sync.Once // of the goroutine that reports
	reports chan Event
	closed  chan struct{}
	end     sync.Once
}

// NewGate returns a gate. It reports names that make no events.
func NewGate(config GateConfig) (*Gate, error) {
	if config.Subscriber == nil {
		return nil, errors.New("gate: no subscriber")
	}
	g := &Gate{
		config: config, wanted: map[int]EventCall{}, timeout: VerdictTimeout,
		reports: make(chan Event, maxReports), closed: make(chan struct{}),
	}
	for _, name := range config.Syscalls {
		call, ok := FindEventCall(name)
		if !ok {
			return nil, fmt.Errorf("gate: %s makes no events", name)
		}
		if nr, present, _ := SyscallNumber(name); present {
			g.wanted[nr] = call
		}
	}
	return g, nil
}

// Wants tells whether the subscriber wants events of a system call. A nil gate wants none.
func (g *Gate) Wants(nr int) bool {
	if g == nil {
		return false
	}
	_, wanted := g.wanted[nr]
	return wanted
}

// Close ends the reporting. Calls that are held are not affected.
func (g *Gate) Close() { g.end.Do(func() { close(g.closed) }) }

// Later runs f on a goroutine of its own and performs the action it returns, whichever that is. It is where [Gate.Ask] belongs: f
// may take as long as a verdict does. MaxHeld of them run at a time; the next call fails with EAGAIN.
func (g *Gate) Later(f func() Action) Action {
	return Hold(func(h *Held) {
		if g.waiting.Add(1) > MaxHeld {
			g.waiting.Add(-1)
			_ = h.Answer(Errno(unix.EAGAIN)) // the first answer, so there is no error
			return
		}
		go func() {
			defer g.waiting.Add(-1)
			h.goOn(h.supervisor.runDeferred(h.call, f))
		}()
	})
}

// Ask waits for the verdict about c and returns 0 if the call may be made, or what it fails with. What details say must be what
// the call will be made with: registers, or copies that are then used. It blocks, so it does not belong on a listener's loop.
func (g *Gate) Ask(c *Call, details Details) unix.Errno { return g.AskAs(c.Syscall(), c, details) }

// AskAs is [Gate.Ask] about what a call does besides what it is called, as if it were the system call nr: listen(2) on a socket that is
// not bound is a bind(2) as well.
func (g *Gate) AskAs(nr int, c *Call, details Details) unix.Errno {
	if !g.Wants(nr) {
		return 0
	}
	e, err := g.event(nr, c, details)
	if err != nil {
		return g.unknown(c, err)
	}
	e.Held = true
	verdict, err := g.judge(e)
	if err != nil {
		verdict = Verdict{}
	}
	if verdict.Decision == Allow {
		return 0
	}
	if g.config.Record != nil {
		g.config.Record(c, e, verdict, err)
	}
	if verdict.Decision == Audit {
		return 0
	}
	return verdict.errno()
}

// errno is what a denied call fails with. Numbers that mean something else to the kernel than to programs, such as a restart of
// the call, are not for subscribers to give.
func (v Verdict) errno() unix.Errno {
	if unix.ErrnoName(v.Errno) == "" {
		return unix.EPERM
	}
	return v.Errno
}

// judge asks the subscriber and waits no longer than the timeout, whatever the subscriber does.
func (g *Gate) judge(e Event) (Verdict, error) {
	if g.judging.Add(1) > MaxHeld {
		g.judging.Add(-1)
		return Verdict{}, fmt.Errorf("more than %d calls are being judged", MaxHeld)
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	type answer struct {
		verdict Verdict
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		// Who ignores the context keeps its place: what is bounded is how many run.
		defer g.judging.Add(-1)
		defer cancel()
		var a answer
		defer func() {
			if r := recover(); r != nil {
				a = answer{err: fmt.Errorf("the subscriber panicked: %v", r)}
			}
			done <- a
		}()
		a.verdict, a.err = g.config.Subscriber.Judge(ctx, e)
	}()
	select {
	case a := <-done:
		return a.verdict, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-done: // which has cancelled the context
		return a.verdict, a.err
	default:
		return Verdict{}, fmt.Errorf("the subscriber has not answered in %v", g.timeout)
	}
}

// Report tells the subscriber of c without waiting for anything.
func (g *Gate) Report(c *Call, details Details) {
	if !g.Wants(c.Syscall()) {
		return
	}
	e, err := g.event(c.Syscall(), c, details)
	if err != nil {
		g.unknown(c, err)
		return
	}
	g.start.Do(func() { go g.report() })
	select {
	case g.reports <- e:
	default:
		g.dropped.Add(1)
	}
}

// report hands events to the subscriber until the gate is closed.
func (g *Gate) report() {
	for {
		select {
		case <-g.closed:
			return
		case e := <-g.reports:
			e.Dropped = g.dropped.Swap(0)
			g.tell(e)
		}
	}
}

func (g *Gate) tell(e Event) {
	defer func() {
		if r := recover(); r != nil {
			g.logf("the subscriber told of %s panicked: %v", e.Syscall, r)
		}
	}()
	g.config.Subscriber.Report(e)
}

// event describes c as the system call nr.
func (g *Gate) event(nr int, c *Call, details Details) (Event, error) {
	p, err := c.Process()
	if err != nil {
		return Event{}, err
	}
	k, err := kinOf(c, p)
	if err != nil {
		return Event{}, err
	}
	call := g.wanted[nr]
	return Event{
		ID: g.last.Add(1), Time: time.Now(), Syscall: call.Name, Category: call.Category,
		PID: p.pid, Thread: c.PID(), StartTime: p.start,
		ParentPID: k.parent, GuestPID: k.guest, GuestParentPID: k.guestParent,
		Details: details,
	}, nil
}

// unknown is what becomes of a call whose caller cannot be told.
func (g *Gate) unknown(c *Call, err error) unix.Errno {
	if !errors.Is(err, ErrGone) {
		g.logf("%s of thread %d: %v: denied", syscallLabel(c.Syscall()), c.PID(), err)
	}
	return unix.EPERM
}

func (g *Gate) logf(format string, args ...any) {
	if g.config.Log != nil {
		g.config.Log(format, args...)
	}
}
