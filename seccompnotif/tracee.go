package seccompnotif

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tracee is a task that the tracer is attached to.
type tracee struct {
	tid     int
	process int // its thread group; for a thread, not tid
	stopped bool
	signal  int  // to be delivered when it goes on: it was stopped on the way to this signal
	leaving bool // to be detached as soon as it stops
	pressed bool // it was asked to stop, and has not stopped since
}

// Stops that ptrace(2) reports, as waitid(2) gives them: an event and a signal.
const (
	ptraceEventStop = 128 // PTRACE_EVENT_STOP of <linux/ptrace.h>
	traceeOptions   = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC
)

// ptrace is the bare system call. Attaching may sleep, so it is not a raw one.
func ptrace(request, tid int, addr, data uintptr) error {
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// seize attaches to the thread tid of the process, without stopping it. All tracees have the same options, which can be changed
// only while a task is stopped.
func (t *tracer) seize(tid, process int) (*tracee, error) {
	if tr := t.tracees[tid]; tr != nil {
		return tr, nil
	}
	if err := ptrace(unix.PTRACE_SEIZE, tid, 0, traceeOptions); err != nil {
		return nil, err
	}
	tr := &tracee{tid: tid, process: process}
	t.tracees[tid] = tr
	return tr, nil
}

// interrupt has the tracee stop before it next runs code of its own.
func (tr *tracee) interrupt() {
	tr.pressed = true
	_ = ptrace(unix.PTRACE_INTERRUPT, tr.tid, 0, 0) // ESRCH: it is dying
}

// eventMessage is what the kernel says about the event that the tracee stopped at.
func (tr *tracee) eventMessage() (int, error) {
	var message uint
	err := ptrace(unix.PTRACE_GETEVENTMSG, tr.tid, 0, uintptr(unsafe.Pointer(&message)))
	return int(message), err
}

// news is what became of a tracee.
type news int

const (
	running news = iota
	stopped
	exited
	lost // it is no tracee any more
)

// look asks what became of the tracee with number tid, and for one that stopped how: the event and the signal.
//
// A stop is looked at and not taken (WNOWAIT), and nothing is asked about tracees in general: children that this process has
// otherwise, and waits for elsewhere, are none of the tracer's business.
func look(tid int) (n news, event, signal int) {
	const options = unix.WNOHANG | unix.WEXITED | unix.WSTOPPED | unix.WNOWAIT | unix.WALL | unix.WNOTHREAD
	var info waitInfo
	for {
		info = waitInfo{}
		_, _, e := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info)), options, 0, 0)
		switch {
		case e == unix.EINTR:
			continue
		case e != 0:
			return lost, 0, 0
		case info.pid == 0:
			return running, 0, 0
		case info.code == cldTrapped || info.code == cldStopped:
			return stopped, int(info.status >> 8), int(info.status & 0x7f)
		}
		return exited, 0, 0
	}
}

// waitInfo is the part of siginfo_t, <asm-generic/siginfo.h>, that waitid(2) fills in, in the size of the whole.
type waitInfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// CLD_TRAPPED and CLD_STOPPED of <asm-generic/siginfo.h>.
const (
	cldTrapped = 4
	cldStopped = 5
)

// note records how the tracee stopped, as look has it.
func (tr *tracee) note(event, signal int) {
	tr.stopped, tr.pressed = true, false
	tr.signal = 0
	if event == 0 {
		tr.signal = signal
	}
}

// detach lets the stopped tracee go on where it was. A group stop that is in force takes hold of it again.
func (t *tracer) detach(tr *tracee) {
	err := ptrace(unix.PTRACE_DETACH, tr.tid, 0, uintptr(tr.signal))
	if errors.Is(err, unix.ESRCH) {
		// Killed meanwhile: what is left of it is taken in later.
		tr.stopped, tr.leaving = false, true
		return
	}
	delete(t.tracees, tr.tid)
}

// leave detaches the tracee now or as soon as it stops.
func (t *tracer) leave(tr *tracee) {
	tr.leaving = true
	switch {
	case tr.stopped:
		t.detach(tr)
	case !tr.pressed:
		tr.interrupt()
	}
}

// bury takes in what is left of a tracee that has exited. A thread of a process, which the kernel keeps until then, may hold up
// an execve of another one; a process's parent is told only then. What this process's own children leave is for those who
// started them.
func (t *tracer) bury(tr *tracee) {
	delete(t.tracees, tr.tid)
	if tr.tid == tr.process {
		if stat, err := readProc(tr.tid, "stat"); err == nil {
			if s, err := parseStat(stat); err == nil && s.parent == unix.Getpid() {
				return
			}
		}
	}
	take(tr.tid, unix.WEXITED)
}

// take takes the news that look saw.
func take(tid int, of uintptr) {
	var info waitInfo
	// WNOHANG: never interrupted.
	_, _, _ = unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info)), of|unix.WNOHANG|unix.WALL|unix.WNOTHREAD, 0, 0)
}

// poll looks after all tracees, and tells whether one had news.
func (t *tracer) poll() bool {
	any := false
	for tid, tr := range t.tracees {
		n, event, signal := look(tid)
		if n == running || n == stopped && tr.stopped && !tr.leaving {
			continue
		}
		any = true
		if cr := t.creations[tr.process]; cr != nil && cr.tracee == tr {
			t.creationNews(cr, n, event, signal)
			continue
		}
		t.outcome(tr, n, event, signal)
	}
	return t.overdue() || any
}

// outcome deals with news of a tracee from which nothing more is wanted.
func (t *tracer) outcome(tr *tracee, n news, event, signal int) {
	switch n {
	case stopped:
		t.adopt(tr, event)
		tr.note(event, signal)
		if tr.leaving {
			t.detach(tr)
		}
	case exited:
		t.bury(tr)
	case lost:
		delete(t.tracees, tr.tid)
	}
}
