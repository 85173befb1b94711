package seccompnotif

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxErrno is MAX_ERRNO of <linux/err.h>: an answer beyond it would be taken for a return value.
const maxErrno = 4095

// perform carries out an action that is neither a hold nor deferred.
func (s *Supervisor) perform(c *Call, a Action) {
	switch a.kind {
	case actContinue:
		s.proceed(c)
	case actErrno:
		s.fail(c, a.errno)
	case actReturn:
		s.send(c, rawResponse{val: a.value}, returned)
	case actInjectFD:
		s.injectAt(c, a.more)
	case actInjectFDSend:
		s.injectAndAnswer(c, a.more)
		unix.Close(a.more.source)
	case actInjectBytes:
		s.injectBytes(c, a.more)
	case actKill:
		s.kill(c, a.more)
	case actJudgeExec:
		s.judgeExec(c, a.more.judge)
	default:
		// Hold and Defer never get here; an action that nobody knows how to perform denies.
		s.fail(c, unix.EIO)
	}
}

// discard gives back what an action that will not be performed owns. Whoever would have kept c gets it with its answer given.
func (s *Supervisor) discard(c *Call, a Action) {
	switch a.kind {
	case actInjectFDSend:
		unix.Close(a.more.source)
	case actHold:
		a.more.keep(&Held{supervisor: s, call: c, answered: true})
	}
}

func (s *Supervisor) fail(c *Call, e unix.Errno) { s.failAs(c, e, failed) }

func (s *Supervisor) failAs(c *Call, e unix.Errno, as ending) {
	if e == 0 || e > maxErrno {
		e = unix.EIO
	}
	s.send(c, rawResponse{error: -int32(e)}, as)
}

// send answers the notification, and counts that. That its task is gone is not an error.
func (s *Supervisor) send(c *Call, r rawResponse, as ending) {
	if !c.admitted {
		s.tracer.pass()
		defer s.tracer.passed()
	}
	s.sendNow(c, r, as)
}

// deliver sends the answer and tells whether the guest got it.
func (s *Supervisor) deliver(c *Call, r rawResponse, as ending) bool {
	r.id = c.n.id
	for {
		// A raw system call: it takes the filter's lock for a few instructions and never waits for the guest.
		_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(c.listener.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
		switch e {
		case 0:
			s.count(c, as)
			return true
		case unix.EINTR:
			continue
		}
		s.count(c, stale)
		if !c.listener.gone(e) {
			s.logf("answer to %s of thread %d refused by the kernel: %v", syscallLabel(c.Syscall()), c.PID(), e)
		}
		return false
	}
}

// injectAt performs InjectFD. To continue afterwards is safe: the decision to inject stands whatever the guest's memory holds.
func (s *Supervisor) injectAt(c *Call, m *moreAction) {
	_, err := s.inject(c, addFD{id: c.n.id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, srcFD: uint32(m.source), newFD: uint32(m.target)})
	if err != nil {
		s.injectionFailed(c, err)
		return
	}
	s.proceed(c)
}

func (s *Supervisor) injectAndAnswer(c *Call, m *moreAction) {
	guestFD, err := s.inject(c, addFD{id: c.n.id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, srcFD: uint32(m.source), newFDFlags: m.flags})
	if err != nil {
		s.injectionFailed(c, err)
		return
	}
	s.count(c, injected)
	if m.done != nil {
		s.tell(c, m.done, guestFD)
	}
}

// inject puts a descriptor into the guest, when no task is stopped for an execve.
func (s *Supervisor) inject(c *Call, a addFD) (int, error) {
	if !c.admitted {
		s.tracer.pass()
		defer s.tracer.passed()
	}
	return c.listener.addFD(a)
}

// tell calls done. The guest has its answer by then, so a panic can only be reported.
func (s *Supervisor) tell(c *Call, done func(int), guestFD int) {
	defer func() {
		if r := recover(); r != nil {
			s.logf("function told of the descriptor for %s of thread %d panicked: %v", syscallLabel(c.Syscall()), c.PID(), r)
		}
	}()
	done(guestFD)
}

func (s *Supervisor) injectionFailed(c *Call, err error) {
	// ESRCH: the task died while the descriptor was on its way.
	if errno, ok := err.(unix.Errno); ok && (errno == unix.ESRCH || c.listener.gone(errno)) {
		s.count(c, stale)
		return
	}
	s.logf("descriptor for %s of thread %d not injected: %v", syscallLabel(c.Syscall()), c.PID(), err)
	s.fail(c, unix.EACCES)
}

func (s *Supervisor) injectBytes(c *Call, m *moreAction) {
	fd, err := anonymousFile(m.bytes, m.sealed)
	if err != nil {
		s.logf("anonymous file for %s of thread %d: %v", syscallLabel(c.Syscall()), c.PID(), err)
		s.fail(c, unix.EIO)
		return
	}
	s.injectAndAnswer(c, &moreAction{source: fd, flags: unix.O_CLOEXEC})
	unix.Close(fd)
}

// anonymousFile returns a rewound memfd that holds b.
func anonymousFile(b []byte, sealed bool) (int, error) {
	flags := unix.MFD_CLOEXEC
	if sealed {
		flags |= unix.MFD_ALLOW_SEALING
	}
	fd, err := unix.MemfdCreate("", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("", flags)
	}
	if err != nil {
		return -1, err
	}
	if err := fillAndSeal(fd, b, sealed); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func fillAndSeal(fd int, b []byte, sealed bool) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	if !sealed {
		return nil
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK)
	return err
}

func (s *Supervisor) kill(c *Call, m *moreAction) {
	var err error
	if m.pgid > 1 && m.pgid != unix.Getpgrp() {
		err = unix.Kill(-m.pgid, m.signal)
	} else {
		s.logf("process group %d is not to be signalled for %s: thread %d alone gets signal %d", m.pgid, syscallLabel(c.Syscall()), c.PID(), int(m.signal))
		var p *Process
		if p, err = c.Process(); err == nil {
			err = p.Signal(m.signal)
		}
	}
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, ErrGone) {
		s.logf("signal %d for %s of thread %d: %v", int(m.signal), syscallLabel(c.Syscall()), c.PID(), err)
	}
	s.failAs(c, unix.ENOMEM, killed)
}

// addFD performs SECCOMP_IOCTL_NOTIF_ADDFD and returns the number that the guest got.
//
// The call waits for the guest's thread to take the descriptor. A signal to ours would end that wait and leave the guest, in
// the atomic form, with an answer of zero that nobody gave: the kernel has marked the notification as answered by then. Go
// sends its threads signals of its own accord, so all are kept off for the moment.
func (l *listener) addFD(a addFD) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return -1, err
	}
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&a)))
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		return -1, err
	}
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// gone tells whether e is how the kernel says that nobody waits for the answer: the notification is stale, or the listener
// was closed and its number given to something else.
func (l *listener) gone(e unix.Errno) bool {
	return e == unix.ENOENT || l.closed.Load()
}
