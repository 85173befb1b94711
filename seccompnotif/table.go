package seccompnotif

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Handler decides about one kind of notification.
//
// Handle is called on the listener's own thread, so whatever it waits for, all tasks under that listener wait for: what may
// take long belongs in [Defer]. With several listeners it is called concurrently. A panic in it answers EIO.
type Handler interface {
	Handle(*Call) Action
}

// HandlerFunc makes a [Handler] of a function.
type HandlerFunc func(*Call) Action

// Handle calls f.
func (f HandlerFunc) Handle(c *Call) Action { return f(c) }

// Table holds for each system call the chain of its handlers. It does not change once built and is read without locks.
type Table struct {
	chains [][]Handler  // by system call number
	inline map[int]bool // calls to which a deferred answer is refused; nil for none
	tracks bool         // creation is tracked
}

// chain returns the handlers of the system call nr, none if nobody registered.
func (t *Table) chain(nr int32) []Handler {
	if nr < 0 || int(nr) >= len(t.chains) {
		return nil
	}
	return t.chains[nr]
}

// refusesDefer tells whether a deferred answer to the system call nr is refused.
func (t *Table) refusesDefer(nr int32) bool { return t.inline[int(nr)] }

// Syscalls returns the numbers that have at least one handler, ascending.
func (t *Table) Syscalls() []int {
	var nrs []int
	for nr, chain := range t.chains {
		if len(chain) > 0 {
			nrs = append(nrs, nr)
		}
	}
	return nrs
}

// TableBuilder collects handlers. It is not safe for concurrent use.
type TableBuilder struct {
	builtin, user map[int][]Handler
	last          map[int][]Handler
	inline        map[int]bool
	tracking      bool
	overlay       *Overlay
	gate          *Gate
	errs          []error
}

// NewTable returns an empty builder.
func NewTable() *TableBuilder {
	return &TableBuilder{builtin: map[int][]Handler{}, user: map[int][]Handler{}, last: map[int][]Handler{}}
}

// Under names the overlay that the table will serve. [TableBuilder.Build] then reports handlers that could never run.
func (b *TableBuilder) Under(o Overlay) *TableBuilder {
	b.overlay = &o
	return b
}

// Handle adds a built-in handler to the end of the chain of system call nr (unix.SYS_*). The first answer other than
// [Continue] ends the chain. Built-in handlers run before those of [TableBuilder.HandleUser], in whatever order the two are
// called, so that a user's handler cannot weaken them.
func (b *TableBuilder) Handle(nr int, h Handler) *TableBuilder {
	return b.add(b.builtin, nr, h)
}

// HandleUser adds a user's handler, to run when every built-in handler of system call nr has answered [Continue].
func (b *TableBuilder) HandleUser(nr int, h Handler) *TableBuilder {
	return b.add(b.user, nr, h)
}

// HandleLast adds a handler that makes the call: it runs at the end of the chain, when all other handlers have answered [Continue]
// and whoever [TableBuilder.Gate] asks has allowed the call.
func (b *TableBuilder) HandleLast(nr int, h Handler) *TableBuilder {
	return b.add(b.last, nr, h)
}

// RefuseDefer has a [Defer] that answers system call nr performed as an errno of EPERM, without the function's being run. It is
// for calls that can only be let through by the loop itself, which stops or traces tasks around the answer.
func (b *TableBuilder) RefuseDefer(nr int) *TableBuilder {
	if b.inline == nil {
		b.inline = map[int]bool{}
	}
	b.inline[nr] = true
	return b
}

// Gate has g asked, or told, about every system call that it wants, after all handlers have answered [Continue]. What a built-in
// handler refuses is reported to it as denied. Calls of [EventCall.OnBehalf] are for their handlers to ask about.
func (b *TableBuilder) Gate(g *Gate) *TableBuilder {
	b.gate = g
	return b
}

// maxSyscallNumber bounds the table; the largest number in use is below 500, and the table is indexed by it.
const maxSyscallNumber = 4095

func (b *TableBuilder) add(to map[int][]Handler, nr int, h Handler) *TableBuilder {
	switch {
	case nr < 0 || nr > maxSyscallNumber:
		b.errs = append(b.errs, fmt.Errorf("handler for system call %d: no such number", nr))
	case h == nil:
		b.errs = append(b.errs, fmt.Errorf("handler for %s is nil", syscallLabel(nr)))
	default:
		to[nr] = append(to[nr], h)
	}
	return b
}

// Build makes the table. It reports every handler that is nil or has an impossible number, and, if [TableBuilder.Under] named
// an overlay, every handler whose system call the overlay denies outright or does not notify: such a handler would never run.
func (b *TableBuilder) Build() (*Table, error) {
	errs := append([]error(nil), b.errs...)
	var verdicts map[int]*verdict
	if b.overlay != nil {
		var err error
		if verdicts, err = b.overlay.verdicts(); err != nil {
			return nil, err
		}
		if b.tracking {
			errs = append(errs, checkTracking(verdicts))
		}
	}
	size := 0
	for _, m := range []map[int][]Handler{b.builtin, b.user, b.last} {
		for nr := range m {
			size = max(size, nr+1)
		}
	}
	for nr := range b.gate.calls() {
		size = max(size, nr+1)
	}
	t := &Table{chains: make([][]Handler, size), inline: maps.Clone(b.inline), tracks: b.tracking}
	for nr := range t.chains {
		chain := slices.Concat(b.builtin[nr], b.user[nr], b.last[nr])
		if call, wanted := b.gate.calls()[nr]; wanted && !call.OnBehalf {
			chain = b.gate.guard(call, b.builtin[nr], b.user[nr], b.last[nr])
		} else if wanted && len(chain) == 0 {
			errs = append(errs, fmt.Errorf("no handler makes %s on the guest's behalf, so nobody could be asked about it", call.Name))
		}
		if len(chain) == 0 {
			continue
		}
		t.chains[nr] = chain
		if b.overlay == nil {
			continue
		}
		if errno, denied := verdicts[nr].outright(); denied {
			errs = append(errs, fmt.Errorf("handler for %s would never run: the overlay denies the call outright (%s)", syscallLabel(nr), errnoLabel(errno)))
		} else if !verdicts[nr].notifies() {
			errs = append(errs, fmt.Errorf("handler for %s would never run: the overlay does not notify the call", syscallLabel(nr)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}
