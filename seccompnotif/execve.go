package seccompnotif

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// JudgeTimeout is how long the function given to [JudgeExec] may take; past it the execve fails with EPERM.
	JudgeTimeout = 5 * time.Second
	// stopTimeout is how long tasks get to stop for an execve; past it the execve fails with EPERM.
	stopTimeout = time.Second
	// execTimeout is how long the kernel may take for an execve that was let through. Past it the caller is killed: nothing else
	// would take the permission back.
	execTimeout = 10 * time.Second
)

// JudgeExec decides about an execve(2) or execveat(2) by its arguments. Every task that could change them is stopped: all other
// threads of the caller and all other processes in the index. Then they are read, and decide is called with them on a goroutine
// of its own. It may take [JudgeTimeout]; past it, and if it panics, the answer is EPERM. It must not wait for an answer to another
// call, nor write to a guest's memory. If it answers [Continue], the tasks stay
// stopped until the kernel has read the arguments again and has either run the program or failed to. With any other answer they
// go on at once. An answer of Hold, Defer, JudgeExec, InjectFD or InjectFDSend is taken for EPERM.
//
// If a task cannot be stopped within a second, or is traced by somebody else, the execve fails with EPERM. A task in vfork(2)
// need not stop and neither need one whose own call waits for an answer; such answers wait for the end of the freeze.
//
// Before the new program runs its first instruction, the arguments and the name of the file that the kernel took are compared with
// those that were there to be judged, and it is killed if they differ. This is against what writes to memory without being a task: devices, rings of packets, the exit of a task.
//
// Execves are judged one at a time. The table must have [TableBuilder.TrackCreation], so that every process is in the index, and
// the filter SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV. A file that is mapped shared must not be written by anybody outside.
func JudgeExec(decide func(Argv) Action) Action {
	return Action{kind: actJudgeExec, more: &moreAction{judge: decide}}
}

// exec lets an execve through or not, and returns when it is over.
func (t *tracer) exec(j *tracerJob) {
	c := j.call
	p, err := c.Process()
	if err == nil && !c.Valid() {
		err = ErrGone
	}
	if err != nil {
		t.denyExec(c, err)
		return
	}
	if j.decide == nil {
		// Safe: nothing was decided by memory. It is seen through so that no task is attached to in the midst of it, which
		// would wait for its end.
		t.release(c, p, nil)
		return
	}
	t.barrier.Lock()
	open := true
	unlock := func() {
		if open {
			open = false
			t.thaw()
			t.barrier.Unlock()
		}
	}
	defer unlock()
	if err := t.freeze(c, p); err != nil {
		t.denyExec(c, err)
		return
	}
	what, err := readProgram(&c.n, c.readFrozen)
	if err != nil {
		t.failExec(c, err)
		return
	}
	a, err := t.verdict(c, what.argv, j.decide)
	switch {
	case err != nil:
		t.denyExec(c, err)
	case a.kind == actContinue:
		// Safe: nobody who could change what was decided by runs before the kernel has read it.
		t.release(c, p, &what)
	default:
		unlock()
		t.answer(c, a)
	}
}

// denyExec refuses an execve for a reason that is none of the caller's business.
func (t *tracer) denyExec(c *Call, err error) {
	if !errors.Is(err, ErrGone) {
		t.log("%s of thread %d denied: %v", syscallLabel(c.Syscall()), c.PID(), err)
	}
	t.send(c, rawResponse{error: -int32(unix.EPERM)}, failed)
}

// failExec answers as the kernel would.
func (t *tracer) failExec(c *Call, err error) {
	var e unix.Errno
	if !errors.As(err, &e) || e == 0 || e > maxErrno {
		e = unix.EFAULT
	}
	t.send(c, rawResponse{error: -int32(e)}, failed)
}

// readFrozen reads the memory of a caller that waits.
func (c *Call) readFrozen(at uint64, into []byte) error {
	return c.transfer(unix.SYS_PROCESS_VM_READV, at, into)
}

// verdict asks decide.
func (t *tracer) verdict(c *Call, argv Argv, decide func(Argv) Action) (Action, error) {
	if t.judging.Add(1) > MaxDeferred {
		t.judging.Add(-1)
		return Errno(unix.EAGAIN), nil
	}
	// The call is in decide's hands until it returns, also past the time-out. One reference is the tracer's, so there is another.
	c.listener.acquire()
	c.frozen = true
	verdict := make(chan Action, 1)
	go func() {
		defer t.judging.Add(-1)
		defer c.listener.release()
		a := Errno(unix.EPERM) // of a decide that panics or ends the goroutine
		defer func() {
			if r := recover(); r != nil {
				t.log("judgement of %s of thread %d panicked: %v", syscallLabel(c.Syscall()), c.PID(), r)
				a = Errno(unix.EPERM)
			}
			verdict <- a
		}()
		a = decide(argv)
	}()
	late := time.Now().Add(t.judge)
	tick := time.NewTicker(lastNap)
	defer tick.Stop()
	for {
		select {
		case a := <-verdict:
			return t.judgement(c, a), nil
		case <-tick.C:
		}
		switch {
		case !c.Valid() || t.closing():
			go func() { t.discard(c, <-verdict) }()
			return Action{}, ErrGone
		case time.Now().After(late):
			go func() { t.discard(c, <-verdict) }()
			return Action{}, fmt.Errorf("no judgement within %v", t.judge)
		}
		// Who is killed while frozen must not be kept from ending.
		t.poll()
	}
}

// judgement turns what a judgement must not be into EPERM.
func (t *tracer) judgement(c *Call, a Action) Action {
	switch a.kind {
	case actHold, actDefer, actJudgeExec, actInjectFD, actInjectFDSend:
		t.discard(c, a)
		return Errno(unix.EPERM)
	}
	return a
}

// release continues the call and waits until its execve is over. judged, if not nil, is what the program has to get.
func (t *tracer) release(c *Call, p *Process, judged *program) {
	tr, err := t.seize(c.PID(), p.pid)
	if err != nil {
		t.denyExec(c, fmt.Errorf("it cannot be traced: %w", err))
		return
	}
	// If the execve fails it stops before it runs anything; the execve itself takes no notice. A restart is a call anew.
	tr.leaving = false
	tr.interrupt()
	if !t.send(c, rawResponse{flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}, continued) {
		t.leave(tr)
		return
	}
	late := time.Now().Add(execTimeout)
	for t.idle = 0; ; t.idle++ {
		if t.execOver(tr, p, judged) {
			return
		}
		if closing := t.closing(); closing || time.Now().After(late) {
			if judged != nil {
				t.log("process %d is killed: its execve has not ended (within %v, or before the supervisor closed)", p.pid, execTimeout)
				_ = p.Signal(unix.SIGKILL) // which fails only when it has ended
			}
			t.leave(tr)
			return
		}
		t.nap()
	}
}

// execOver tells whether the execve of tr, a thread of p, is over, and deals with its outcome.
func (t *tracer) execOver(tr *tracee, p *Process, judged *program) bool {
	// A thread that executes a program takes its process's number.
	if n, event, _ := look(p.pid); n == stopped && event == unix.PTRACE_EVENT_EXEC {
		if tr.tid != p.pid {
			delete(t.tracees, tr.tid)
			tr = &tracee{tid: p.pid, process: p.pid}
			t.tracees[p.pid] = tr
			// Until its stop is taken the kernel refuses commands to it, lest they be meant for the old leader.
			take(p.pid, unix.WSTOPPED)
		}
		t.executed(tr, p, judged)
		return true
	}
	n, event, signal := look(tr.tid)
	switch {
	case n == stopped:
		t.outcome(tr, n, event, signal)
		t.leave(tr)
		return true
	case p.Exited():
		t.outcome(tr, n, event, signal)
		return true
	}
	// A thread that is found dead may be the old leader, which has got the number of the one that takes its place.
	// The execve kills the other threads and waits until those that are traced have been taken in.
	for _, other := range t.tracees {
		if other.process == p.pid {
			if n, _, _ := look(other.tid); n == exited || n == lost {
				t.bury(other)
			}
		}
	}
	return false
}

// executed looks at the program before it runs, and lets it.
func (t *tracer) executed(tr *tracee, p *Process, judged *program) {
	tr.note(unix.PTRACE_EVENT_EXEC, 0)
	for tid, v := range t.vforks {
		if v.child == p {
			delete(t.vforks, tid)
		}
	}
	if judged != nil && !t.unchecked {
		if err := judged.check(p.pid); err != nil {
			t.log("process %d is killed before its program runs: %v", p.pid, err)
			_ = p.Signal(unix.SIGKILL) // which fails only when it has ended
		}
	}
	t.leave(tr)
}

// check compares what was judged with what the kernel gave the process, whose program has not run yet.
func (judged *program) check(pid int) error {
	stat, err := readProc(pid, "stat")
	if err != nil {
		return err
	}
	at, err := parseEnvironmentEnd(stat)
	if err != nil {
		return err
	}
	// The kernel puts the name of the file behind the environment.
	var page [smallestPage]byte
	of := Call{n: rawNotification{pid: uint32(pid)}}
	path, err := readString(at, len("/dev/fd/-2147483648/")+unix.PathMax, &page, of.readFrozen)
	if err != nil {
		return fmt.Errorf("the name of its file: %w", err)
	}
	if path != judged.path {
		return errors.New("its file is not the one that was judged")
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err
	}
	defer file.Close()
	var has argScanner
	var b [smallestPage]byte
	for {
		n, err := file.Read(b[:])
		has.write(b[:n])
		if n == 0 || err != nil {
			break
		}
	}
	if !judged.became(&has) {
		return errors.New("its arguments are not those that were judged")
	}
	return nil
}
