package seccompnotif

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrGone says that a notification is no longer valid: its task died, or a signal interrupted its system call. What was read
// for it must not be used. Nobody waits for the answer, so any will do.
var ErrGone = errors.New("the notification is no longer valid")

// Call is one notification: a system call of the guest that waits for an answer. It is valid while [Handler.Handle] runs,
// inside the functions given to [Defer] and [JudgeExec], and as long as a [Held] is unanswered. Afterwards it is used again for another
// notification. Its methods may be called from several goroutines at once.
type Call struct {
	listener *listener
	index    *processIndex
	tracer   *tracer // nil without
	admitted bool    // its answer has passed the barrier
	frozen   bool    // its arguments are being judged, while nobody may write to a guest's memory
	n        rawNotification
	received time.Duration // by the supervisor's clock
}

// Syscall returns the system call's number, to be compared with unix.SYS_*. It is always one of the native architecture: the
// loop answers ENOSYS to any other before a handler sees it.
func (c *Call) Syscall() int { return int(c.n.data.nr) }

// Arg returns the value of the register of argument i, 0 to 5. The kernel ignores the upper half where the argument is an
// int: convert before comparing. Arg panics if i is out of range.
func (c *Call) Arg(i int) uint64 { return c.n.data.args[i] }

// PID returns the thread id of the caller in the supervisor's pid namespace. It is the process id only for the leader of a
// thread group; see [Call.Process].
func (c *Call) PID() int { return int(c.n.pid) }

// ID returns the notification's id, unique for its listener.
func (c *Call) ID() uint64 { return c.n.id }

// InstructionPointer returns the address of the instruction that made the system call.
func (c *Call) InstructionPointer() uint64 { return c.n.data.ip }

// Frozen tells whether every task that could change what the call's pointers lead to is stopped, until the kernel has looked at it. It
// holds in the function given to [JudgeExec].
func (c *Call) Frozen() bool { return c.frozen }

// Valid tells whether the system call still waits for an answer (SECCOMP_IOCTL_NOTIF_ID_VALID). Whatever was learnt about
// the task by its pid is true only if Valid holds afterwards.
func (c *Call) Valid() bool {
	id := c.n.id
	// A raw system call: it looks the id up in a list and never sleeps.
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(c.listener.fd), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&id)))
	return e == 0
}
