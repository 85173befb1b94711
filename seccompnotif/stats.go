package seccompnotif

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ending is how a notification ended.
type ending uint8

const (
	continued ending = iota
	failed
	returned
	injected
	killed
	stale
	endingCount
)

// callStats counts the notifications of one system call.
type callStats struct {
	endings  [endingCount]atomic.Uint64
	deferred atomic.Uint64
	latency  histogram
}

// counters are the counts of a supervisor, by system call number. Their size is fixed by its table.
type counters struct {
	began time.Time
	calls []*callStats // nil where there is no handler
	other callStats    // of a foreign architecture, or without a handler
}

func newCounters(t *Table) *counters {
	x := &counters{began: time.Now(), calls: make([]*callStats, len(t.chains))}
	for nr, chain := range t.chains {
		if len(chain) > 0 {
			x.calls[nr] = &callStats{}
		}
	}
	return x
}

// now returns the time since the counters were made, by the monotonic clock.
func (x *counters) now() time.Duration { return time.Since(x.began) }

func (x *counters) of(n *rawNotification) *callStats {
	if nr := int(n.data.nr); n.data.arch == nativeAuditArch && nr >= 0 && nr < len(x.calls) && x.calls[nr] != nil {
		return x.calls[nr]
	}
	return &x.other
}

// count records how c has ended, now.
func (s *Supervisor) count(c *Call, o ending) {
	of := s.counters.of(&c.n)
	of.endings[o].Add(1)
	of.latency.add(s.counters.now() - c.received)
}

// Stats are the counts of one system call's notifications.
type Stats struct {
	// Syscall is the call's name; empty for all that have no handler or are of a foreign architecture, together.
	Syscall string
	// How its notifications ended: it was let through (with a descriptor put into the guest or not), it failed with an errno, a
	// value was returned, the answer was a descriptor, its process group was signalled, or nobody waited for the answer any more.
	Continued, Failed, Returned, Injected, Killed, Stale uint64
	// Deferred is how many were handed to a worker.
	Deferred uint64
	// Latency is the time from a notification's receipt to its answer, that of a worker or a holder included.
	Latency Latency
}

// Stats returns the counts of all system calls that have been notified, by number. They may be read at any time, also after
// Close.
func (s *Supervisor) Stats() []Stats {
	var list []Stats
	add := func(name string, of *callStats) {
		ended := func(o ending) uint64 { return of.endings[o].Load() }
		one := Stats{
			Syscall: name, Continued: ended(continued), Failed: ended(failed), Returned: ended(returned),
			Injected: ended(injected), Killed: ended(killed), Stale: ended(stale),
			Deferred: of.deferred.Load(), Latency: of.latency.read(),
		}
		if one.Latency.Count > 0 || one.Deferred > 0 {
			list = append(list, one)
		}
	}
	for nr, of := range s.counters.calls {
		if of != nil {
			add(syscallLabel(nr), of)
		}
	}
	add("", &s.counters.other)
	return list
}

// refusesDefer tells whether a deferred answer to c is not to be had; see [TableBuilder.RefuseDefer].
func (s *Supervisor) refusesDefer(c *Call) bool {
	if !s.config.Table.refusesDefer(c.n.data.nr) {
		return false
	}
	s.logf("deferred answer to %s of thread %d refused: what continues it must not run on a worker", syscallLabel(c.Syscall()), c.PID())
	s.fail(c, unix.EPERM)
	return true
}
