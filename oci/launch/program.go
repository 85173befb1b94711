package launch

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Program is a list of steps under construction, and the descriptors that the child inherits. The zero value is not
// usable; see [New]. A Program is not safe for concurrent use.
type Program struct {
	steps  []step
	labels []label
	slots  []string // names of the results, by slot
	about  string
	keep   []int // descriptors inherited from the parent
	syncs  int
}

type label struct {
	name string
	at   int // index of the step it stands before, -1 while unplaced
}

// Label is a place in a program that a step can go on at instead of the next one.
type Label int

// noLabel means "the next step" after success and "the program has failed" after an error.
const noLabel Label = -1

// operation says what the walker does with a step; the values are shared with walk.h.
type operation uint32

const (
	opCall    operation = iota // issue the system call
	opLookup                   // openat2, again if something was renamed or mounted meanwhile
	opSync                     // tell the parent, wait for its word
	opHop                      // clone a successor that goes on with the list, and exit
	opExpect                   // compare one byte of a buffer
	opReached                  // fail unless an earlier step has had a result
	opFail                     // fail with a given errno
)

type step struct {
	operation operation
	name      string // of the system call, for people
	number    uintptr
	args      []Arg
	about     string // what the step is part of, in words
	result    int    // slot, or -1
	onSuccess Label
	onError   Label
	errnos    []unix.Errno // the errors that onError takes; none means all
}

// New returns an empty program.
func New() *Program {
	const usual = 256 // steps of a container's first process
	return &Program{steps: make([]step, 0, usual)}
}

// About sets the words that a failure of the following steps is reported with, such as "mount /proc".
func (p *Program) About(format string, values ...any) {
	p.about = fmt.Sprintf(format, values...)
}

// Len is the number of steps so far.
func (p *Program) Len() int { return len(p.steps) }

// Step refers to a step just added, to say more about it. It is valid until the next step is added.
type Step struct {
	program *Program
	index   int
}

// Call adds a raw system call. name is its name as in syscalls(2), number its unix.SYS_ constant.
func (p *Program) Call(name string, number uintptr, args ...Arg) Step {
	return p.call(opCall, name, number, args...)
}

func (p *Program) call(o operation, name string, number uintptr, args ...Arg) Step {
	if len(args) > maxArgs {
		panic("launch: " + name + " has more than six arguments")
	}
	for _, a := range args {
		p.keepInherited(a)
	}
	return p.add(step{operation: o, name: name, number: number, args: args})
}

func (p *Program) add(s step) Step {
	s.about, s.result, s.onSuccess, s.onError = p.about, -1, noLabel, noLabel
	p.steps = append(p.steps, s)
	return Step{p, len(p.steps) - 1}
}

func (p *Program) keepInherited(a Arg) {
	if a.kind == argInherited && int(a.value) > 2 {
		p.Keep(int(a.value))
	}
}

// Keep has the child inherit descriptor fd of the parent although no step names it. It is close-on-exec in the child
// unless the program says otherwise.
func (p *Program) Keep(fd int) {
	for _, k := range p.keep {
		if k == fd {
			return
		}
	}
	p.keep = append(p.keep, fd)
}

// Result keeps what the call returns under a name, and returns it as an argument for later steps.
func (s Step) Result(name string) FD {
	slot := len(s.program.slots)
	s.program.slots = append(s.program.slots, name)
	s.program.steps[s.index].result = slot
	return FD{Arg{kind: argSlot, value: uint64(slot), text: name}}
}

// Into stores what the call returns where an earlier step's result was: the two are alternatives.
func (s Step) Into(result FD) Step {
	if result.kind != argSlot {
		panic("launch: the result of a step goes into a result")
	}
	s.program.steps[s.index].result = int(result.value)
	return s
}

// Ignore lets the program go on with the next step after these errors (after any error if none is named).
func (s Step) Ignore(errnos ...unix.Errno) Step {
	next := s.program.Label("next")
	s.program.labels[next].at = s.index + 1
	return s.OnError(next, errnos...)
}

// OnError has the program go on at l after these errors (after any error if none is named).
func (s Step) OnError(l Label, errnos ...unix.Errno) Step {
	if len(errnos) > maxErrnos {
		panic("launch: too many errors named for one step")
	}
	st := &s.program.steps[s.index]
	st.onError, st.errnos = l, errnos
	return s
}

// OnSuccess has the program go on at l when the call succeeds.
func (s Step) OnSuccess(l Label) Step {
	s.program.steps[s.index].onSuccess = l
	return s
}

// Label makes a place to go on at; [Program.Mark] puts it somewhere.
func (p *Program) Label(name string) Label {
	p.labels = append(p.labels, label{name: name, at: -1})
	return Label(len(p.labels) - 1)
}

// Mark puts l before the next step to be added. A label is only ever gone to from steps before it: programs have no loops.
func (p *Program) Mark(l Label) { p.labels[l].at = len(p.steps) }

// Fail adds a step that fails with e.
func (p *Program) Fail(e unix.Errno) {
	p.add(step{operation: opFail, name: "fail", number: uintptr(e)})
}

// Sync is a point at which the child waits for the parent; see [Child.Wait].
type Sync int

// Sync adds a point at which the child reports itself and waits until the parent lets it go on. name says what
// has been reached.
func (p *Program) Sync(name string) Sync {
	p.syncs++
	p.add(step{operation: opSync, name: name, number: uintptr(p.syncs)})
	return Sync(p.syncs)
}

// Hop adds a clone(2) with CLONE_PARENT: the new process goes on with the next step and the old one exits. It is how a program enters a
// PID or time namespace, which a task can only have its children do.
func (p *Program) Hop() {
	p.add(step{operation: opHop, name: "clone"})
}

// ExpectByte fails with e unless the first byte of buffer, which an earlier call has filled, is want.
func (p *Program) ExpectByte(buffer Arg, want byte, e unix.Errno) Step {
	return p.ExpectAt(buffer, 0, want, wholeByte, e)
}

// wholeByte is the mask of all bits.
const wholeByte = 0xff

// ExpectAt fails with e unless the bits of mask in the byte at offset of buffer are want. The offset must be within the buffer.
func (p *Program) ExpectAt(buffer Arg, offset int, want, mask byte, e unix.Errno) Step {
	if buffer.kind != argBuffer || offset < 0 || offset >= len(buffer.data.bytes) {
		panic("launch: a byte is expected outside of a buffer")
	}
	return p.add(step{operation: opExpect, name: "expect", number: uintptr(e),
		args: []Arg{buffer, Value(uint64(want)), Value(uint64(mask)), Value(uint64(offset))}})
}

// Reached fails with e unless the step that result is of has been reached and has succeeded.
func (p *Program) Reached(result FD, e unix.Errno) Step {
	return p.add(step{operation: opReached, name: "reached", number: uintptr(e), args: []Arg{result.Arg}})
}

// String lists the program, one step a line.
func (p *Program) String() string {
	var b strings.Builder
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%3d  %s", i, s)
		if s.result >= 0 {
			fmt.Fprintf(&b, " -> %s", p.slots[s.result])
		}
		if s.onSuccess != noLabel {
			fmt.Fprintf(&b, "  [on success: at %d]", p.labels[s.onSuccess].at)
		}
		if s.onError != noLabel {
			fmt.Fprintf(&b, "  [%s: at %d]", errnoNames(s.errnos), p.labels[s.onError].at)
		}
		if s.about != "" {
			fmt.Fprintf(&b, "  # %s", s.about)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func errnoNames(errnos []unix.Errno) string {
	if len(errnos) == 0 {
		return "any error"
	}
	names := make([]string, len(errnos))
	for i, e := range errnos {
		names[i] = unix.ErrnoName(e)
	}
	return strings.Join(names, ",")
}

func (s step) String() string {
	switch s.operation {
	case opSync:
		return fmt.Sprintf("sync %d: %s", s.number, s.name)
	case opHop:
		return "hop: clone(CLONE_PARENT), the old process exits"
	case opExpect:
		if s.args[2].value != wholeByte || s.args[3].value != 0 {
			return fmt.Sprintf("expect(byte %d of %s, of bits %#x, is %#x)", s.args[3].value, s.args[0], s.args[2].value, s.args[1].value)
		}
		return fmt.Sprintf("expect(%s starts with %q)", s.args[0], rune(s.args[1].value))
	case opReached:
		return fmt.Sprintf("reached(%s)", s.args[0])
	case opFail:
		return fmt.Sprintf("fail(%s)", unix.ErrnoName(unix.Errno(s.number)))
	}
	args := make([]string, len(s.args))
	for i, a := range s.args {
		args[i] = a.String()
	}
	return fmt.Sprintf("%s(%s)", s.name, strings.Join(args, ", "))
}
