package seccompnotif

import (
	"errors"
	"fmt"
)

// SetProcessLimit bounds how many processes the supervised guests may be at a time, from now on; 0 is no limit. Threads are not
// counted, and neither are processes that have exited. A fork-like call over the limit fails with EAGAIN. Processes that are
// there already stay, however many they are.
//
// The count is exact: a place is taken when the call is let through, given back if the call fails, and given back when the
// process exits, before anybody who waited for that can ask for another. It needs [TableBuilder.TrackCreation], and without is
// an error.
func (s *Supervisor) SetProcessLimit(n int) error {
	switch {
	case s.tracer == nil:
		return errors.New("limit of processes: the table does not track creation")
	case n < 0:
		return fmt.Errorf("limit of processes: %d is negative", n)
	}
	s.tracer.limit.Store(int64(n))
	s.tracer.wake()
	return nil
}

// room tells whether one more process may be made: 1 if so, -1 if not, 0 if that depends on creations that are under way.
func (t *tracer) room() int {
	live, underWay := t.index.count(), len(t.creations)
	limit := int(t.limit.Load())
	full := func() bool { return limit > 0 && live+underWay >= limit || t.index.full(underWay) }
	if full() {
		// The watcher may not have come to exits that the guests know of.
		t.index.dropExited()
		live = t.index.count()
	}
	switch {
	case !full():
		return 1
	case underWay == 0 || limit > 0 && live >= limit:
		return -1
	}
	return 0
}
