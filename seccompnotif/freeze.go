package seccompnotif

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// freezing is one attempt to stop every task that could write to a caller's memory.
type freezing struct {
	t       *tracer
	caller  *Call
	process *Process // the caller's
	seen    map[int]*Process
	pending []*tracee
	traced  []foreign
}

// foreign is a task that a guest traces, and that rests in a stop of its tracer's.
type foreign struct {
	process     *Process
	tid, tracer int
}

// freeze stops all tasks but the caller. On failure some are stopped.
//
// New processes cannot appear meanwhile: creations are jobs of the tracer. New threads can, as long as not all of their siblings
// have stopped, so it is looked for more until there are none.
func (t *tracer) freeze(c *Call, p *Process) error {
	tr, err := t.seize(c.PID(), p.pid)
	if err != nil {
		return fmt.Errorf("it cannot be traced: %w", err)
	}
	if !c.Valid() {
		return ErrGone
	}
	f := &freezing{t: t, caller: c, process: p, seen: map[int]*Process{c.PID(): p}}
	t.forgetVForks()
	deadline := time.Now().Add(stopTimeout)
	if err := f.awaitCaller(tr, deadline); err != nil {
		return err
	}
	for {
		before := len(f.seen)
		for _, p := range t.index.list() {
			if err := f.stopProcess(p); err != nil {
				return err
			}
		}
		if len(f.seen) == before {
			return f.checkTraced()
		}
		if err := f.await(deadline); err != nil {
			return err
		}
	}
}

// thaw lets every task go on that is not in the midst of a creation.
func (t *tracer) thaw() {
	for _, tr := range t.tracees {
		if cr := t.creations[tr.process]; cr == nil || cr.tracee != tr {
			t.leave(tr)
		}
	}
}

// forgetVForks drops what is known of processes that are gone.
func (t *tracer) forgetVForks() {
	for tid, v := range t.vforks {
		if v.parent.Exited() || v.child.Exited() {
			delete(t.vforks, tid)
		}
	}
}

// stopProcess begins to stop those tasks of p that have not been seen yet.
func (f *freezing) stopProcess(p *Process) error {
	tids, err := tasks(p.pid)
	if err != nil {
		if p.Exited() {
			return nil
		}
		return fmt.Errorf("threads of process %d: %w", p.pid, err)
	}
	for _, tid := range tids {
		if f.seen[tid] != nil {
			continue
		}
		if err := f.stopTask(p, tid); err != nil {
			return err
		}
	}
	return nil
}

func (f *freezing) stopTask(p *Process, tid int) error {
	if f.rests(p, tid) {
		f.seen[tid] = p
		return nil
	}
	tr, err := f.t.seize(tid, p.pid)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EPERM):
		return f.untraceable(p, tid)
	case err != nil:
		return fmt.Errorf("thread %d of process %d cannot be traced: %w", tid, p.pid, err)
	}
	// What was read of the number was true of p's thread only if that is there afterwards.
	if !isTask(p, tid) {
		f.t.leave(tr)
		return nil
	}
	f.seen[tid] = p
	tr.leaving = false
	tr.interrupt()
	f.pending = append(f.pending, tr)
	return nil
}

// rests tells whether the task cannot run before this freeze is over, although nobody stops it.
func (f *freezing) rests(p *Process, tid int) bool {
	if f.t.isParked(p, tid) {
		return true
	}
	// Its child is the caller, and it sleeps until that very thread has executed a program or ended.
	v, ok := f.t.vforks[tid]
	return ok && v.child == f.process && f.caller.PID() == v.child.pid && f.t.inVFork(p, tid)
}

// isParked tells whether the task waits for an answer, which nobody can give while the barrier is closed, in a sleep that only a
// fatal signal ends. Under a filter with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV every task that waits does, from the first signal
// on at the latest. Nobody can ask for a filter's flags, but a task that still waits when it was asked to stop shows them.
func (t *tracer) isParked(p *Process, tid int) bool {
	l := t.parked.waits(tid)
	if l == nil {
		return false
	}
	if l.killable.Load() {
		return true
	}
	// It has slept so all the time, if it waits for the answer before and after. Once is not enough: for a moment it may have
	// slept for a lock.
	for range 2 {
		if taskState(p.pid, tid) != 'D' || t.parked.waits(tid) != l {
			return false
		}
		t.sleep(firstNap)
	}
	l.killable.Store(true)
	return true
}

// inVFork tells whether the task sleeps in the vfork that the tracer saw create a child. It writes no memory any more in that
// call. In this sleep too only a fatal signal reaches it.
func (t *tracer) inVFork(p *Process, tid int) bool {
	if _, ok := t.vforks[tid]; !ok || taskState(p.pid, tid) != 'D' {
		return false
	}
	call, err := readTask(p.pid, tid, "syscall")
	if err != nil {
		return false
	}
	number, _, _ := bytes.Cut(call, []byte(" "))
	nr, err := strconv.Atoi(string(number))
	if err != nil {
		return false
	}
	for _, creation := range creationCalls {
		if nr == creation {
			return true
		}
	}
	return false
}

// untraceable finds out why a task may not be traced. A dead one need not be, and one that a guest traces need not if it is
// stopped for its tracer and that is stopped as well.
func (f *freezing) untraceable(p *Process, tid int) error {
	status, err := readTask(p.pid, tid, "status")
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	state, tracer, err := parseTracing(status)
	switch {
	case err != nil:
		return fmt.Errorf("thread %d of process %d: %w", tid, p.pid, err)
	case (state == 'Z' || state == 'X') && (tracer == 0 || p != f.process):
		f.seen[tid] = p
		return nil
	case tracer == 0:
		return fmt.Errorf("thread %d of process %d may not be traced: %w", tid, p.pid, unix.EPERM)
	case state != 't' || p == f.process:
		// An execve would wait for the tracer, which is stopped, to take notice of the end of its siblings.
		return fmt.Errorf("thread %d of process %d is traced by %d", tid, p.pid, tracer)
	}
	f.seen[tid] = p
	f.traced = append(f.traced, foreign{p, tid, tracer})
	return nil
}

// checkTraced looks at the tasks that a guest traces once more, when everything else has stopped.
func (f *freezing) checkTraced() error {
	for _, x := range f.traced {
		status, err := readTask(x.process.pid, x.tid, "status")
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		state, tracer := byte(0), 0
		if err == nil {
			state, tracer, err = parseTracing(status)
		}
		if err != nil || state != 't' || tracer != x.tracer || f.seen[tracer] == nil {
			return fmt.Errorf("thread %d of process %d is traced by %d", x.tid, x.process.pid, x.tracer)
		}
	}
	return nil
}

// awaitCaller asks the caller to stop, which it is to do only when its execve is over, and sees whether that ends its wait for the
// answer. A listener under which it does serves no judgements.
func (f *freezing) awaitCaller(tr *tracee, deadline time.Time) error {
	l := f.caller.listener
	lacking := errors.New("its filter lacks SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
	if l.interruptible.Load() {
		return lacking
	}
	tr.leaving = false
	tr.interrupt()
	for f.t.idle = 0; !f.t.isParked(f.process, tr.tid); f.t.idle++ {
		if n, event, signal := look(tr.tid); n != running {
			l.interruptible.Store(n == stopped && !l.killable.Load())
			f.t.outcome(tr, n, event, signal)
			return ErrGone
		}
		if f.t.closing() || time.Now().After(deadline) {
			return lacking
		}
		f.t.nap()
	}
	return nil
}

// await waits until every pending task has stopped or cannot run.
func (f *freezing) await(deadline time.Time) error {
	for f.t.idle = 0; ; f.t.idle++ {
		waiting := f.pending[:0]
		for _, tr := range f.pending {
			if !f.settled(tr) {
				waiting = append(waiting, tr)
			}
		}
		f.pending = waiting
		switch {
		case len(waiting) == 0:
			return nil
		case !f.caller.Valid() || f.t.closing():
			return ErrGone
		case time.Now().After(deadline):
			return fmt.Errorf("thread %d of process %d has not stopped within %v", waiting[0].tid, waiting[0].process, stopTimeout)
		}
		f.t.nap()
	}
}

func (f *freezing) settled(tr *tracee) bool {
	n, event, signal := look(tr.tid)
	if n != running {
		f.t.outcome(tr, n, event, signal)
		return true
	}
	p := f.seen[tr.tid]
	// Not at once: most tasks stop within microseconds.
	return f.t.idle > 1 && (f.t.inVFork(p, tr.tid) || f.t.isParked(p, tr.tid) || isZombie(p, tr.tid))
}

// isZombie tells whether the task is dead, though it cannot be waited for: a leader whose threads live on.
func isZombie(p *Process, tid int) bool {
	state := taskState(p.pid, tid)
	return state == 'Z' || state == 'X' || state == 0
}

// isTask tells whether tid is a thread of p.
func isTask(p *Process, tid int) bool {
	if tid == p.pid {
		return p.Signal(0) == nil
	}
	var st unix.Stat_t
	return unix.Stat(fmt.Sprintf("/proc/%d/task/%d", p.pid, tid), &st) == nil && p.Signal(0) == nil
}

// tasks returns the threads of the process pid.
func tasks(pid int) ([]int, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/task"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, err
	}
	// A directory has two links and one for each below it.
	if st.Nlink == 3 {
		return []int{pid}, nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	tids := make([]int, 0, len(names))
	for _, name := range names {
		tid, err := strconv.Atoi(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no thread", path, name)
		}
		tids = append(tids, tid)
	}
	return tids, nil
}
