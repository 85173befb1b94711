package seccompnotif

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listener is one notification descriptor and the state of its loop.
//
// Its number stays in use until nobody can answer through it any more, so that an answer never reaches a stranger who got
// the number: the loop, and each deferred or held call, has a reference. Closing it early puts something else in its place.
type listener struct {
	fd      int
	standIn int          // what takes the listener's place when it is closed early
	tid     atomic.Int32 // the loop's thread, 0 before it runs
	closed  atomic.Bool  // the listener is closed; its number may live on
	watched watch
	// Whether a signal ends a task's wait for the answer to a call that was received, as far as that is known.
	killable, interruptible atomic.Bool
	syncWake                bool     // answers wake the guest on this CPU
	buffer                  []uint64 // what the kernel receives into

	mu   sync.Mutex
	refs int
}

// newListener takes fd over and prepares it; on failure it is closed. What features, unless nil, denies the kernel is not used.
func newListener(fd, standIn int, features *Features) (*listener, error) {
	l := &listener{fd: fd, standIn: standIn, refs: 1}
	if err := l.prepare(features); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return l, nil
}

func (l *listener) prepare(features *Features) error {
	sizes, err := kernelSizes()
	if err != nil {
		return err
	}
	l.buffer = alignedBuffer(sizes.notif)
	if err := checkListener(l.fd); err != nil {
		return err
	}
	unix.CloseOnExec(l.fd)
	if features != nil && !features.AddFDSend || !l.knowsAddFDSend() {
		// In two steps the guest could be interrupted between them, and keep a descriptor that it was not told of.
		return errors.New("seccomp listener: the kernel lacks SECCOMP_ADDFD_FLAG_SEND (Linux 5.14)")
	}
	if features == nil || features.SyncWakeUp {
		l.syncWake, err = setSyncWakeUp(l.fd)
	}
	return err
}

// knowsAddFDSend tells whether the kernel knows SECCOMP_ADDFD_FLAG_SEND: it looks at the flags before it looks for the
// notification, and none has this id.
func (l *listener) knowsAddFDSend() bool {
	a := addFD{id: noID, flags: unix.SECCOMP_ADDFD_FLAG_SEND, srcFD: uint32(l.fd)}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&a)))
	return e == unix.ENOENT
}

// noID is the id of no notification: the kernel counts from a random number of 64 bits.
const noID = 0

// checkListener reports whether fd is a seccomp listener: no other file answers ENOENT to a question for an id.
func checkListener(fd int) error {
	none := uint64(noID)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&none)))
	if e != 0 && e != unix.ENOENT {
		return fmt.Errorf("descriptor %d is no seccomp listener: %w", fd, e)
	}
	return nil
}

// setSyncWakeUp asks that sender and receiver wake each other on the same CPU, which makes a notification several times
// cheaper (Linux 6.7). The flags are the ioctl's argument itself, not a pointer to them.
func setSyncWakeUp(fd int) (bool, error) {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	switch e {
	case 0:
		return true, nil
	case unix.EINVAL, unix.ENOTTY: // older kernels do not know the ioctl
		return false, nil
	}
	return false, fmt.Errorf("seccomp listener: SECCOMP_IOCTL_NOTIF_SET_FLAGS: %w", e)
}

// acquire takes a reference, unless the last one is gone.
func (l *listener) acquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs == 0 {
		return false
	}
	l.refs++
	return true
}

// release gives a reference back; the last one frees the number.
func (l *listener) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs--; l.refs == 0 {
		unix.Close(l.fd)
	}
}

// close ends the listener, whoever still refers to it, and makes the loop notice.
//
// Closing the descriptor would not do: a receive that has begun keeps the file, and its number could go to another file while
// a worker answers through it. So another file takes the number over, which closes the listener if no receive is under way;
// one that is gets a signal, upon which it fails (EINTR) or is begun anew, on the other file, and fails there (ENOTTY).
func (l *listener) close() {
	if !l.acquire() {
		return
	}
	defer l.release()
	if !l.closed.CompareAndSwap(false, true) {
		return
	}
	if err := unix.Dup3(l.standIn, l.fd, unix.O_CLOEXEC); err != nil {
		// Only EINTR and EBUSY are left, neither of which Linux gives for a number that is in use.
		panic("seccompnotif: dup3: " + err.Error())
	}
	// A loop without a thread id has not received yet, and will find the other file.
	if tid := l.tid.Load(); tid != 0 {
		// Go's handler for SIGURG ignores one that it did not send. An error means that the thread is gone, and the loop with it.
		_ = unix.Tgkill(unix.Getpid(), int(tid), unix.SIGURG)
	}
}

// receive waits for the next notification. It returns false when the listener is done: closed, or without a task that could
// notify.
func (l *listener) receive(n *rawNotification) (bool, error) {
	for {
		clear(l.buffer) // the kernel wants zeroes
		// Not a raw system call, though the thread does nothing else: while it waits, the scheduler must be able to take
		// the processor it holds, or garbage collection would stall.
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&l.buffer[0])))
		switch e {
		case 0:
			*n = *(*rawNotification)(unsafe.Pointer(&l.buffer[0]))
			return true, nil
		case unix.EINTR, unix.ENOENT:
			// Interrupted; or the guest was, before its notification was copied; or nobody is left, and the kernel will
			// say so as often as it is asked.
			if l.hungUp() {
				return false, nil
			}
		default:
			if l.closed.Load() {
				return false, nil
			}
			return false, fmt.Errorf("seccomp listener: SECCOMP_IOCTL_NOTIF_RECV: %w", e)
		}
	}
}

func (l *listener) hungUp() bool {
	if l.closed.Load() {
		return true
	}
	p := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 0); err != nil {
		return false
	}
	return p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// serve is the loop of one listener.
func (s *Supervisor) serve(l *listener) {
	// The thread ends with the loop, as many as there may have been at a time: Go would keep it for the next one, and its stacks with it.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread() // the main thread cannot be ended
	}
	l.tid.Store(int32(unix.Gettid()))
	defer s.detach(l)
	defer l.tid.Store(0)
	c := s.newCall(l)
	for {
		more, err := l.receive(&c.n)
		if err != nil {
			s.logf("%v", err)
		}
		if !more {
			return
		}
		c.received = s.counters.now()
		if s.tracer != nil {
			s.tracer.parked.add(c)
		}
		c = s.answer(c)
	}
}

func (s *Supervisor) newCall(l *listener) *Call {
	return &Call{listener: l, index: s.index, tracer: s.tracer}
}

// answer decides about c and performs the decision, or hands it to whoever will. It returns the call to receive into next: c
// itself, unless somebody keeps it.
func (s *Supervisor) answer(c *Call) *Call {
	a := s.decide(c)
	switch a.kind {
	case actDefer:
		if s.refusesDefer(c) {
			return c
		}
		s.startDeferred(c, a.more.run)
		return s.newCall(c.listener)
	case actHold:
		s.hold(c, a.more.keep)
		return s.newCall(c.listener)
	case actJudgeExec:
		s.perform(c, a)
		return s.newCall(c.listener)
	}
	s.perform(c, a)
	return c
}

// decide runs the chain of c's system call.
func (s *Supervisor) decide(c *Call) (a Action) {
	defer func() {
		if r := recover(); r != nil {
			s.logf("handler for %s of thread %d panicked: %v", syscallLabel(c.Syscall()), c.PID(), r)
			a = Errno(unix.EIO)
		}
	}()
	if c.n.data.arch != nativeAuditArch {
		// An overlay refuses these before they are notified; a listener of another filter may bring them.
		return Errno(unix.ENOSYS)
	}
	chain := s.config.Table.chain(c.n.data.nr)
	if len(chain) == 0 {
		// Somebody wanted this call judged and nobody is there to do it.
		s.logf("no handler for %s of thread %d: denied", syscallLabel(c.Syscall()), c.PID())
		return Errno(unix.EPERM)
	}
	for _, h := range chain {
		if a = h.Handle(c); a.kind != actContinue {
			return a
		}
	}
	// Safe as far as the handlers are: each of them vouches that it looked at registers alone.
	return Continue()
}
