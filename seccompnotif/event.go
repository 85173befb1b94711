package seccompnotif

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Category is what kind of thing a call is about.
type Category string

// The categories.
const (
	File    Category = "file"
	Network Category = "network"
	Proc    Category = "process"
	Memory  Category = "memory"
)

// Event is a system call of the guest, as a [Subscriber] is told of it. Nothing in it is read again from the guest's memory
// before the call is made: what it says is what happens, or the call does not happen.
type Event struct {
	ID       uint64 // ascending, from 1; of one [Gate]
	Time     time.Time
	Syscall  string
	Category Category
	// Held says that the call waits for a verdict.
	Held bool

	PID       int    // of the process, in the supervisor's pid namespace
	Thread    int    // the caller's thread id, in the supervisor's pid namespace
	ParentPID int    // of its parent, in the supervisor's pid namespace; 0 if that is outside of it
	StartTime uint64 // of the process, in clock ticks after boot: a recycled pid has another

	GuestPID       int // the process in its own pid namespace
	GuestParentPID int // its parent there; 0 if that is in another

	Details
	// Dropped is how many reported events before this one were lost because the subscriber was slow.
	Dropped uint64
}

// Details are what an event tells beside who called what.
type Details struct {
	// Denied says that something else has refused the call already: nobody is asked.
	Denied bool
	// Protocol of a network call: "tcp", "udp", "icmp", "unix" and others.
	Protocol string
	Addr     netip.AddrPort // the destination, or what is bound to; the zero value if it is no IP address
	Size     uint64         // bytes that mmap or mremap asks for
	Flags    uint32         // open's and clone's, where they are in a register
	Argv     *Argv          // of execve and execveat; nil if it is not known
}

// Decision is what becomes of a call. The zero value denies.
type Decision uint8

// The decisions.
const (
	Deny  Decision = iota // the call fails with Verdict.Errno
	Allow                 // the call is made
	Audit                 // the call is made and put on record
)

// Verdict is a subscriber's answer. The zero value denies with EPERM.
type Verdict struct {
	Decision Decision
	Errno    unix.Errno // of Deny; 0 is EPERM
}

// Subscriber is told what a guest does, and asked about some of it.
type Subscriber interface {
	// Judge returns the verdict about a call that waits for it. It is called by several goroutines at once. Nobody listens
	// any more when the context is done; an error denies.
	Judge(context.Context, Event) (Verdict, error)
	// Report tells of a call that does not wait, or that was refused already. It is called by one goroutine. While it does
	// not return further reports queue up, and are dropped when the queue is full.
	Report(Event)
}

// SubscriberFunc is a [Subscriber] made of a function, which is told of every event; its verdict counts where the call is held.
type SubscriberFunc func(Event) Verdict

// Judge calls f.
func (f SubscriberFunc) Judge(_ context.Context, e Event) (Verdict, error) { return f(e), nil }

// Report calls f.
func (f SubscriberFunc) Report(e Event) { f(e) }
