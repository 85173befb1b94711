package seccompnotif

import "golang.org/x/sys/unix"

// Action is a handler's answer to a notification. The zero value is [Continue]. Actions are values: they do nothing until a
// supervisor performs them, and each may be performed once.
type Action struct {
	kind  actionKind
	errno unix.Errno
	value int64
	more  *moreAction // nil for continue, errno and return, which must not allocate
}

type actionKind uint8

const (
	actContinue actionKind = iota
	actErrno
	actReturn
	actInjectFD
	actInjectFDSend
	actInjectBytes
	actHold
	actKill
	actDefer
	actJudgeExec
)

// moreAction carries what the rarer actions need.
type moreAction struct {
	source int    // descriptor of ours to inject
	target int    // number it gets in the guest
	flags  uint32 // O_CLOEXEC or 0
	done   func(guestFD int)
	bytes  []byte
	sealed bool
	keep   func(*Held)
	signal unix.Signal
	pgid   int
	run    func() Action
	judge  func(Argv) Action
}

// Continue says that the handler does not intervene. At the end of the chain the system call proceeds as it was issued: the
// kernel reads every pointer of it again, so nothing that was read from the guest's memory may have been the reason.
func Continue() Action { return Action{} }

// Errno makes the system call return -1 with errno e. An e outside of 1 to 4095 is answered as EIO.
func Errno(e unix.Errno) Action { return Action{kind: actErrno, errno: e} }

// Errno returns the errno of an action of [Errno], 0 of any other.
func (a Action) Errno() unix.Errno {
	if a.kind != actErrno {
		return 0
	}
	return a.errno
}

// Return makes the system call return v without being run.
func Return(v int64) Action { return Action{kind: actReturn, value: v} }

// InjectFD puts a duplicate of source, a descriptor of the supervisor, at the number target in the guest, replacing what is
// there, and lets the system call continue. The duplicate is not close-on-exec. The source remains the caller's, and must
// stay open until the supervisor has performed the action. A failed injection answers EACCES.
func InjectFD(source, target int) Action {
	return Action{kind: actInjectFD, more: &moreAction{source: source, target: target}}
}

// InjectFDSend puts a duplicate of source, a descriptor of the supervisor, into the guest at the lowest free number and
// makes the system call return that number, in one atomic step (SECCOMP_ADDFD_FLAG_SEND, Linux 5.14). flags is O_CLOEXEC or
// zero and describes the guest's copy. The supervisor owns source and closes it, whatever happens. A failed injection answers
// EACCES.
func InjectFDSend(source int, flags int) Action {
	return InjectFDSendTracked(source, flags, nil)
}

// InjectFDSendTracked is [InjectFDSend], and calls done once with the number that the guest got. done is not called when the
// injection failed or the guest was gone. It runs on the goroutine that answers, when the guest may already be using the
// descriptor.
func InjectFDSendTracked(source int, flags int, done func(guestFD int)) Action {
	return Action{kind: actInjectFDSend, more: &moreAction{source: source, flags: uint32(flags), done: done}}
}

// InjectBytes answers with the number of a fresh descriptor, close-on-exec, of an anonymous file that holds b, is rewound and
// can never be changed (memfd_create(2), sealed against sealing, writing, growing and shrinking). The system call fails with
// EIO if the file cannot be made, with EACCES if it cannot be injected. b is read when the action is performed.
func InjectBytes(b []byte) Action {
	return Action{kind: actInjectBytes, more: &moreAction{bytes: b, sealed: true}}
}

// InjectWritableBytes is [InjectBytes] without the seals, for a guest that is to write to its copy.
func InjectWritableBytes(b []byte) Action {
	return Action{kind: actInjectBytes, more: &moreAction{bytes: b}}
}

// Hold gives no answer now: the task stays parked in its system call. keep is called at once with the held notification, on
// the goroutine that would have answered, and whoever has the [Held] answers later. It must be answered, even if with an
// error, since the task waits for it; a task that is killed, or a supervisor that closes, ends the wait otherwise. keep is
// called too, for the sake of what it releases, where the answer has been given meanwhile for a function that was late.
func Hold(keep func(*Held)) Action {
	return Action{kind: actHold, more: &moreAction{keep: keep}}
}

// Kill sends signal to every process of the process group pgid (a number of the supervisor's pid namespace), then answers
// ENOMEM so that the notification resolves for whoever survives. A pgid below 2, which kill(2) would take for something
// larger than a group, and the supervisor's own group are never signalled: then the signal goes to the calling process alone.
func Kill(signal unix.Signal, pgid int) Action {
	return Action{kind: actKill, more: &moreAction{signal: signal, pgid: pgid}}
}

// Defer runs f on a worker, away from the listener's loop, and performs the action f returns. At most [MaxDeferred] functions
// are in flight in a supervisor; the next one is answered EAGAIN without being run. One that has not returned after
// [DeferTimeout] is answered EIO, and what it returns later is discarded. EIO is also the answer to an f that panics or that
// itself returns a deferred action, EPERM for a system call that [TableBuilder.RefuseDefer] names.
func Defer(f func() Action) Action {
	return Action{kind: actDefer, more: &moreAction{run: f}}
}
