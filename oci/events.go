package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Event is one line of what events prints.
type Event struct {
	Type string `json:"type"` // "stats", "oom", "denial", "audit" or "port"
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"` // [Stats] or [DenialRecord]
}

// FollowedRecord is one line of what [Runtime.Follow] writes.
type FollowedRecord struct {
	ID string `json:"id"`
	DenialRecord
}

// Follow writes to w, a JSON object a line, what the supervisor of a container has denied and what was allowed to be on record: what
// there has been and, until the container has stopped, what is to come.
func (r *Runtime) Follow(id string, w io.Writer) error {
	dir, record, status, err := r.open(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	out := json.NewEncoder(w)
	reader := denialReader{dir: dir}
	defer reader.close()
	write := func() error {
		return reader.records(func(of DenialRecord) error { return out.Encode(FollowedRecord{id, of}) })
	}
	if status == specs.StateStopped {
		return write()
	}
	changes, err := watchDirectory(dir)
	if err != nil {
		return err
	}
	defer changes.close()
	changed := make(chan struct{}, 1)
	go changes.run(func() { wake(changed) })
	ended := make(chan error, 1)
	go func() { ended <- waitContainer(record) }()
	for {
		if err := write(); err != nil {
			return err
		}
		select {
		case <-changed:
		case err := <-ended:
			if err != nil {
				return err
			}
			return write()
		}
	}
}

// Events writes a container's events to w, a JSON object a line. With once that is its statistics, and no more. Otherwise it is the denials that
// there have been and, until the container has stopped, those to come, its statistics at each interval, and the processes
// killed for want of memory. The statistics of a supervised container tell what its supervisor has done.
func (r *Runtime) Events(id string, once bool, interval time.Duration, w io.Writer) error {
	dir, record, status, err := r.open(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	if status == specs.StateStopped || status == specs.StateCreating {
		return fmt.Errorf("container with id %s is not running", id)
	}
	group, err := loadCgroup(record)
	if err != nil {
		return err
	}
	s := &eventStream{id: id, group: group, out: json.NewEncoder(w), denials: denialReader{dir: dir}, logf: r.Log.Warnf}
	if p, err := loadPlan(dir); err == nil && p.Supervised() { // a container without a plan on record is an older runtime's
		s.supervisor = client(dir).Stats
	}
	defer s.denials.close()
	if once {
		return s.stats()
	}
	return s.follow(dir, record, interval, r.Log.Errorf)
}

// eventStream is the output of one call.
type eventStream struct {
	id      string
	group   *cgroup.Manager
	out     *json.Encoder
	denials denialReader
	// supervisor asks for the supervisor's counts; nil without one.
	supervisor func() (*monitor.Stats, error)
	logf       func(format string, args ...any)
}

// stats writes the statistics of the moment.
func (s *eventStream) stats() error {
	counters, err := s.group.Stats()
	if err != nil {
		return &statsError{err}
	}
	stats := newStats(counters)
	if s.supervisor != nil {
		if stats.Supervisor, err = s.supervisor(); err != nil {
			s.logf("%v", err) // the monitor may have died, which the rest does not depend on
		}
	}
	return s.write("stats", stats)
}

// statsError is a failure to read, not to write.
type statsError struct{ err error }

func (e *statsError) Error() string { return "unable to get container cgroup stats: " + e.err.Error() }
func (e *statsError) Unwrap() error { return e.err }

func (s *eventStream) write(kind string, data any) error {
	return s.out.Encode(Event{kind, s.id, data})
}

// writeDenials writes the denials that are new in the log.
func (s *eventStream) writeDenials() error {
	return s.denials.records(func(of DenialRecord) error {
		kind := "denial"
		switch of.Verdict {
		case monitor.Audited:
			kind = "audit"
		case monitor.Remapped:
			kind = "port"
		}
		return s.write(kind, of)
	})
}

// follow writes events until the container has stopped.
func (s *eventStream) follow(dir *state.Dir, record *state.Record, interval time.Duration, logf func(string, ...any)) error {
	changes, err := watchDirectory(dir)
	if err != nil {
		return err
	}
	defer changes.close()
	changed := make(chan struct{}, 1)
	go changes.run(func() { wake(changed) })

	const pendingKills = 64 // each kill is an event; more than that at once are as good as fewer
	kills := make(chan struct{}, pendingKills)
	oom, err := watchOOM(s.group)
	if err != nil {
		return err
	}
	if oom != nil {
		defer oom.close()
		go oom.run(func() { wake(kills) })
	}

	ended := make(chan error, 1)
	go func() { ended <- waitContainer(record) }()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	// What the log has by now is read first; the watch, which has begun, tells of all that comes.
	for {
		if err := s.writeDenials(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-kills:
			err = s.write("oom", nil)
		case <-ticker.C:
			if s.group.Absent() == nil {
				err = s.stats()
			}
		case err := <-ended:
			if err != nil {
				return err
			}
			return s.last(kills)
		}
		if unreadable, ok := err.(*statsError); ok {
			// The container may be about to end.
			logf("%v", unreadable)
			err = nil
		}
		if err != nil {
			return err
		}
	}
}

// last writes what there was just before the end.
func (s *eventStream) last(kills <-chan struct{}) error {
	for {
		select {
		case <-kills:
			if err := s.write("oom", nil); err != nil {
				return err
			}
		default:
			return s.writeDenials()
		}
	}
}

// wake leaves a token in a channel, unless it is full of them.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// waitContainer waits until the container's first process has ended, and then for its monitor, which has written all that it had to
// write when it ends. A monitor that does not end is not waited for any longer than by a delete.
func waitContainer(record *state.Record) error {
	init, err := openProcess(record.Init)
	if err != nil {
		return err
	}
	if init != nil {
		defer init.Close()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(init.Fd()), Events: unix.POLLIN}}, -1)
			if n > 0 {
				break
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("poll: %w", err)
			}
		}
	}
	supervisor, err := openProcess(record.Monitor)
	if err != nil || supervisor == nil {
		return err
	}
	defer supervisor.Close()
	_ = waitEnd(supervisor) // what it has not written by then, it may never write
	return nil
}
