package launch

/*
#cgo CFLAGS: -O2 -Wall -Wextra -fno-stack-protector -U_FORTIFY_SOURCE
#include "walk.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Options says how the child is made.
type Options struct {
	// Namespaces are the CLONE_NEW* flags of the namespaces that the child is born in. CLONE_NEWTIME cannot be among them: its
	// clock offsets must be set before anybody lives there; see [Program.Hop].
	Namespaces uint64
	// Place has namespaces of its own that the child is born in, besides Namespaces; nil for the caller's.
	Place *Place
	// PIDNamespace is the file of a PID namespace below the caller's own that the child is born in, or nil.
	PIDNamespace *os.File
	// Sibling makes the child one of the caller's parent (CLONE_PARENT): that process reaps it, and gets its exit signal.
	Sibling bool
	// Cgroup is the descriptor of a cgroup v2 directory that the child is born in; 0 for the caller's own.
	Cgroup int
}

// Child is a process that is walking its program. Its methods are to be called from one goroutine at a time, but for [Child.Kill].
type Child struct {
	// PID is in the caller's PID namespace. It changes at a [Program.Hop].
	PID int
	// PIDFD refers to that process.
	PIDFD *os.File

	program *Program
	arena   *arena
	sync    *os.File
	mu      sync.Mutex // for PID and PIDFD between a hop and Kill
}

// Start makes a child that walks p. The caller goes on with [Child.Wait] and [Child.Proceed] at each sync point and ends with
// [Child.Wait], which reports the end of the walk; then [Child.Close].
func Start(p *Program, o Options) (*Child, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(ends[1])
	// The parent's end may be polled: a child that hangs in a system call must not pin a thread of ours without a way out.
	if err := unix.SetNonblock(ends[0], true); err != nil {
		unix.Close(ends[0])
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	c := &Child{program: p, sync: os.NewFile(uintptr(ends[0]), "launch")}
	if c.arena, err = p.encode(ends[1]); err != nil {
		c.sync.Close()
		return nil, err
	}
	if err := c.clone(o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Child) clone(o Options) error {
	how := C.struct_walk_clone{flags: C.uint64_t(o.Namespaces), pid_namespace: -1, own_pid_namespace: -1, cgroup: -1}
	if o.Sibling {
		how.flags |= unix.CLONE_PARENT
	}
	if o.Cgroup > 0 {
		how.cgroup = C.int(o.Cgroup)
	}
	if o.PIDNamespace != nil {
		own, err := os.Open("/proc/self/ns/pid")
		if err != nil {
			return err
		}
		defer own.Close()
		how.pid_namespace, how.own_pid_namespace = C.int(o.PIDNamespace.Fd()), C.int(own.Fd())
	}
	place := o.Place
	if place == nil {
		place = Unshare(0)
	}
	child, err := place.bear(birth{program: c.arena.program, how: how})
	runtime.KeepAlive(o)
	if err != nil {
		return err
	}
	if child.pidfd >= 0 {
		c.PIDFD = os.NewFile(uintptr(child.pidfd), "pidfd")
	}
	if child.pid < 0 {
		return fmt.Errorf("clone3: %w", unix.Errno(-child.pid))
	}
	c.PID = child.pid
	return nil
}

// Done is the sync point that [Child.Wait] reports when the walk is over: the child has become the program that it executed, or has
// been killed while it was about to.
const Done Sync = -1

// Wait blocks until the child has reached a sync point, and returns which. It returns [Done] when the child's last step has
// replaced it, a [*StepError] when a step has failed, and an error when the child has died of a signal before.
func (c *Child) Wait() (Sync, error) {
	for {
		var byteRead [1]byte
		_, err := io.ReadFull(c.sync, byteRead[:])
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return Done, c.ended()
		}
		if err != nil {
			return Done, fmt.Errorf("waiting for the launch: %w", err)
		}
		if byteRead[0] != 0 {
			return Sync(byteRead[0]), nil
		}
		if err := c.follow(); err != nil {
			return Done, err
		}
	}
}

// follow goes over to the process that the child has hopped to.
func (c *Child) follow() error {
	pid := int(atomic.LoadInt32((*int32)(&c.arena.program.hopped)))
	// The successor waits for our byte, so the pid is its own until we write it.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of the launched process: %w", err)
	}
	c.mu.Lock()
	c.PIDFD.Close()
	c.PID, c.PIDFD = pid, os.NewFile(uintptr(fd), "pidfd")
	c.mu.Unlock()
	return c.Proceed()
}

// Proceed lets a child that waits at a sync point go on.
func (c *Child) Proceed() error {
	if _, err := c.sync.Write([]byte{1}); err != nil {
		return fmt.Errorf("going on with the launch: %w", err)
	}
	return nil
}

// ended says how the walk ended, once the child's end of the socket is closed.
func (c *Child) ended() error {
	at := int(atomic.LoadInt32((*int32)(&c.arena.program.step)))
	if e := unix.Errno(atomic.LoadInt32((*int32)(&c.arena.program.error))); e != 0 {
		return c.program.failure(at, e)
	}
	if at == len(c.program.steps)-1 || (at >= 0 && c.program.steps[at].number == unix.SYS_EXECVE && c.program.steps[at].operation == opCall) {
		return nil
	}
	if at < 0 {
		return errors.New("the launched process died before its first step")
	}
	s := c.program.steps[at]
	return &StepError{Index: at, Call: s.name, About: s.about, Errno: 0}
}

// Result is what the step that r names returned in the child, -1 if it has not been reached; or the number of an inherited descriptor.
// Descriptors are the child's; see [Child.Take].
func (c *Child) Result(r FD) int {
	if r.kind != argSlot {
		return int(r.value)
	}
	return int(atomic.LoadInt64(&c.arena.slots[r.value]))
}

// Take duplicates a descriptor that the child has got (pidfd_getfd(2)). The child must be waiting at a sync point.
func (c *Child) Take(r FD) (*os.File, error) {
	n := c.Result(r)
	fd, err := unix.PidfdGetfd(int(c.PIDFD.Fd()), n, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_getfd of the launched process's %s (%d): %w", r.text, n, err)
	}
	return os.NewFile(uintptr(fd), r.text), nil
}

// Kill ends the child. It may be called at any time, from any goroutine.
func (c *Child) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return unix.PidfdSendSignal(int(c.PIDFD.Fd()), unix.SIGKILL, nil, 0)
}

// Close lets go of the launch: a child that is still waiting at a sync point exits. The PIDFD stays open and is the caller's.
func (c *Child) Close() {
	c.sync.Close()
	c.arena.free()
}
