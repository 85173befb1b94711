package seccompnotif

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// CreationNotifications are the calls that [TableBuilder.TrackCreation] must be asked about: every way to make a process.
// Threads are made unasked.
func CreationNotifications() []Notification {
	process := []Match{{Arg: 0, Op: MaskedEqual, Mask: unix.CLONE_THREAD}}
	return []Notification{{Syscall: "clone", When: process}, {Syscall: "fork"}, {Syscall: "vfork"}}
}

// CreationDenials are what an overlay has to deny for [TableBuilder.TrackCreation]: clone3, whose flags lie in memory where
// nobody can judge them (libc falls back to clone), and a clone that hides the child from a tracer.
func CreationDenials() []Denial {
	return []Denial{
		{Syscall: clone3, Errno: unix.ENOSYS},
		{Syscall: "clone", Errno: unix.EPERM, When: []Match{
			{Arg: 0, Op: AnyBit, Mask: unix.CLONE_UNTRACED},
			{Arg: 0, Op: MaskedEqual, Mask: unix.CLONE_THREAD},
		}},
	}
}

// TrackCreation has every fork-like call that is continued traced for exactly one event, the creation of the child, so that
// the child is in the index before it runs an instruction; and every execve that is continued seen through to its end, one at
// a time. It is what [JudgeExec] and a limit of processes rest on. The overlay has to have [CreationNotifications] and
// [CreationDenials], and where it notifies execve, execveat too.
//
// Tracing needs the right to trace the guests, which [Supervisor.Enroll] checks, and takes the place that a tracer inside the
// guest could have: a fork-like call or an execve of a task that is traced already fails with EPERM. Nobody else in the
// supervisor's process may wait for a guest (wait4(2), waitid(2)) before its pidfd says that it has exited.
func (b *TableBuilder) TrackCreation() *TableBuilder {
	b.tracking = true
	for _, nr := range creationCalls {
		b.Handle(nr, HandlerFunc(traceable)).RefuseDefer(nr)
	}
	return b.RefuseDefer(unix.SYS_EXECVE).RefuseDefer(unix.SYS_EXECVEAT)
}

// traceable refuses what would keep the creation from the tracer. It looks at registers alone.
func traceable(c *Call) Action {
	if createsProcess(&c.n) && cloneFlags(&c.n)&unix.CLONE_UNTRACED != 0 {
		return Errno(unix.EPERM)
	}
	return Continue()
}

// checkTracking reports what keeps an overlay from serving a table that tracks creation.
func checkTracking(verdicts map[int]*verdict) error {
	for _, nr := range creationCalls {
		if !verdicts[nr].notifies() {
			return fmt.Errorf("creation cannot be tracked: the overlay does not notify %s", syscallLabel(nr))
		}
	}
	if _, denied := verdicts[unix.SYS_CLONE3].outright(); !denied {
		return fmt.Errorf("creation cannot be tracked: the overlay does not deny %s", clone3)
	}
	if verdicts[unix.SYS_EXECVE].notifies() != verdicts[unix.SYS_EXECVEAT].notifies() {
		return errors.New("the overlay notifies one of execve and execveat and not the other")
	}
	return nil
}

func isExec(n *rawNotification) bool {
	return n.data.nr == unix.SYS_EXECVE || n.data.nr == unix.SYS_EXECVEAT
}

// cloneFlags returns the flags of a clone, of which the kernel looks at the lower half; a fork has none.
func cloneFlags(n *rawNotification) uint32 {
	if n.data.nr != unix.SYS_CLONE {
		return 0
	}
	return uint32(n.data.args[0])
}

// createsProcess tells whether the call, let through, makes a process and not a thread.
func createsProcess(n *rawNotification) bool {
	for _, nr := range creationCalls {
		if n.data.nr == int32(nr) {
			return cloneFlags(n)&unix.CLONE_THREAD == 0
		}
	}
	return false
}

// creation is a fork-like call that was let through and has not been seen to end.
type creation struct {
	parent  *Process
	tracee  *tracee // the caller
	overdue time.Time
}

// vfork is a creation whose caller sleeps until the child has executed a program or exited.
type vfork struct {
	parent, child *Process
}

// creationPatience is how long after the answer a creation is let be. Then it has failed, in all likelihood, and the task has
// gone on without a word to its tracer; or it has not run yet, and doubles this the next time.
const creationPatience = 5 * time.Millisecond

// mostNotes is when notes about threads are looked through for those of threads that are gone.
const mostNotes = 512

// begin lets the fork-like call j through, or denies it. It returns false if the job has to wait.
func (t *tracer) begin(j *tracerJob) bool {
	c := j.call
	parent, err := c.Process()
	if err != nil {
		if !errors.Is(err, ErrGone) {
			t.log("%s of thread %d denied: %v", syscallLabel(c.Syscall()), c.PID(), err)
		}
		return t.refuse(j, unix.EAGAIN)
	}
	if cr := t.creations[parent.pid]; cr != nil {
		if cr.tracee.tid != c.PID() {
			// Attaching to a thread waits for an execve of its process, and that for the end of every other thread, which
			// one that is traced comes to only when its tracer takes notice.
			return false
		}
		// It has made another call, so the one before has ended, and without an event it has failed. The caller stays
		// traced for this one.
		delete(t.creations, parent.pid)
	}
	switch room := t.room(); {
	case room < 0:
		if tr := t.tracees[c.PID()]; tr != nil {
			t.leave(tr)
		}
		return t.refuse(j, unix.EAGAIN)
	case room == 0:
		if tr := t.tracees[c.PID()]; tr != nil {
			t.leave(tr)
		}
		return false
	}
	tr, err := t.seize(c.PID(), parent.pid)
	if err != nil {
		t.log("%s of thread %d denied: it cannot be traced: %v", syscallLabel(c.Syscall()), c.PID(), err)
		return t.refuse(j, unix.EPERM)
	}
	tr.leaving = false
	delete(t.vforks, tr.tid)
	// Safe: what was decided rests on registers. If the call was not waiting any more, the number that was attached to may be
	// a stranger's, and it is let go of.
	if !t.send(c, rawResponse{flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}, continued) {
		t.leave(tr)
	} else {
		t.creations[parent.pid] = &creation{parent: parent, tracee: tr, overdue: time.Now().Add(creationPatience << t.restarts[tr.tid])}
	}
	c.listener.release()
	return true
}

func (t *tracer) refuse(j *tracerJob, e unix.Errno) bool {
	t.send(j.call, rawResponse{error: -int32(e)}, failed)
	j.call.listener.release()
	return true
}

// creationNews deals with the first news of the caller of a fork-like call.
func (t *tracer) creationNews(cr *creation, n news, event, signal int) {
	tr := cr.tracee
	delete(t.creations, tr.process)
	if n != stopped {
		delete(t.restarts, tr.tid)
		t.outcome(tr, n, event, signal)
		return
	}
	pressed := tr.pressed
	tr.note(event, signal)
	switch child := t.adopt(tr, event); {
	case child != 0:
		t.created(cr, child, event)
		delete(t.restarts, tr.tid)
	case pressed:
		if len(t.restarts) > mostNotes {
			clear(t.restarts)
		}
		t.restarts[tr.tid] = min(t.restarts[tr.tid]+1, 8)
	}
	t.leave(tr)
}

// adopt takes notice of the task that the tracee made, which the kernel has attached to and stopped before its first instruction.
// It returns the task's number, 0 if the event is another one.
func (t *tracer) adopt(tr *tracee, event int) int {
	switch event {
	case unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK, unix.PTRACE_EVENT_CLONE:
	default:
		return 0
	}
	child, err := tr.eventMessage()
	if err != nil || child <= 0 || t.tracees[child] != nil {
		return 0
	}
	t.tracees[child] = &tracee{tid: child, process: tr.process, leaving: true}
	return child
}

// created enters the child into the index before it is let go of.
func (t *tracer) created(cr *creation, child, event int) {
	p, err := t.index.enroll(child)
	switch {
	case errors.Is(err, errThread): // made after the call had failed, by a clone that nobody is asked about
		return
	case err != nil:
		t.log("process %d, made by process %d, is killed: it cannot be kept in the index: %v", child, cr.parent.pid, err)
		// Still the tracer's, so the number is the child's.
		_ = unix.Kill(child, unix.SIGKILL)
		return
	}
	p.inherit(cr.parent)
	t.tracees[child].process = child
	if event == unix.PTRACE_EVENT_VFORK {
		if len(t.vforks) > mostNotes {
			t.forgetVForks()
		}
		t.vforks[cr.tracee.tid] = vfork{parent: cr.parent, child: p}
	}
}

// overdue asks the callers whose creation takes long to stop, upon which it turns out what became of it.
func (t *tracer) overdue() bool {
	if len(t.creations) == 0 {
		return false
	}
	any := false
	now := time.Now()
	for _, cr := range t.creations {
		if cr.tracee.pressed || now.Before(cr.overdue) {
			continue
		}
		// A fork that is interrupted before it has begun is not carried out but made again, and then judged again.
		any = true
		cr.tracee.interrupt()
	}
	return any
}
