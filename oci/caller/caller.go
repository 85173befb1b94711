package caller

/*
#cgo CFLAGS: -O2 -Wall -Wextra
#include "caller.h"

extern const char *const caller_options_with_value[];
static const char *option(int i) { return caller_options_with_value[i]; }
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is the calling process, as the monitor sees it. Its methods are safe for concurrent use.
type Process struct {
	socket *os.File
	fd     int           // of socket; os.File.Fd would make it blocking
	gone   chan struct{} // closed when the calling process has ended, or been let go of

	mu    sync.Mutex
	news  sync.Cond
	ended map[int]unix.WaitStatus // its children that have ended
}

// Find returns the calling process, or nil in a process that was not split from one.
func Find() *Process {
	if C.caller_socket < 0 {
		return nil
	}
	fd := int(C.caller_socket)
	C.caller_socket = -1
	// Non-blocking, so that the runtime's poller waits on it. An error shows at the first use.
	_ = unix.SetNonblock(fd, true)
	p := &Process{socket: os.NewFile(uintptr(fd), "caller"), fd: fd, gone: make(chan struct{}), ended: make(map[int]unix.WaitStatus)}
	p.news.L = &p.mu
	go p.listen()
	return p
}

// Finish has the calling process exit with code, and lets go of it.
func (p *Process) Finish(code int) error {
	defer p.socket.Close()
	return p.tell(C.struct_caller_message{kind: C.CALLER_EXIT, value: C.int32_t(code)})
}

// Workload names the child whose end the calling process is to wait for and to exit like.
func (p *Process) Workload(pid int) error {
	return p.tell(C.struct_caller_message{kind: C.CALLER_WORKLOAD, value: C.int32_t(pid)})
}

// Tie has child pid of the calling process killed when this process has ended, in whatever way, if the child has not ended before. It takes
// effect before anything that the calling process is told afterwards.
func (p *Process) Tie(pid int) error {
	return p.tell(C.struct_caller_message{kind: C.CALLER_TIE, value: C.int32_t(pid)})
}

func (p *Process) tell(m C.struct_caller_message) error {
	_, err := p.socket.Write(unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m)))
	if err != nil {
		return fmt.Errorf("telling the calling process: %w", err)
	}
	return nil
}

// listen takes what the calling process says, until it ends.
func (p *Process) listen() {
	for {
		var m C.struct_caller_exit
		b := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
		if n, err := p.socket.Read(b); err != nil || n != len(b) {
			break
		}
		p.mu.Lock()
		p.ended[int(m.pid)] = unix.WaitStatus(m.status)
		p.news.Broadcast()
		p.mu.Unlock()
	}
	p.mu.Lock()
	close(p.gone)
	p.news.Broadcast()
	p.mu.Unlock()
}

// Gone says whether the calling process has ended.
func (p *Process) Gone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// OnGone calls f once when the calling process ends, unless stop has been called before. When stop has returned, f is not running.
func (p *Process) OnGone(f func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-p.gone:
			f()
		case <-quit:
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// ErrGone means that the calling process has ended before what was waited for.
var ErrGone = errors.New("the calling process has ended")

// Exited blocks until the calling process has reaped its child pid, and returns how that ended. It returns [ErrGone] when the calling process is
// no more.
func (p *Process) Exited(pid int) (unix.WaitStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if status, ok := p.ended[pid]; ok {
			return status, nil
		}
		if p.Gone() {
			return 0, ErrGone
		}
		p.news.Wait()
	}
}

// Seal sees to it that this process's executable cannot be written through /proc/PID/exe. If it must, it executes the program anew: then everything starts
// over, in the same process and with the same calling process, so it is to be called before anything is done. p may be nil.
func Seal(p *Process) error {
	fd := -1
	if p != nil {
		fd = p.fd
	}
	if result, err := C.caller_seal(C.int(fd)); result != 0 {
		return fmt.Errorf("sealing the executable: %w", err)
	}
	return nil
}

// Enter executes the program anew in a user namespace, where it has every capability; with mounts it has a mount namespace of its own there, too. Then everything
// starts over, as with [Seal], and is sealed. It returns only with an error. p may be nil.
func Enter(p *Process, user *os.File, mounts bool) error {
	fd, own := -1, 0
	if p != nil {
		fd = p.fd
	}
	if mounts {
		own = 1
	}
	_, err := C.caller_enter(C.int(fd), C.int(user.Fd()), C.int(own))
	return fmt.Errorf("entering a user namespace: %w", err)
}

// OptionsWithValue are the global options that the constructor knows to be followed by a value.
func OptionsWithValue() []string {
	var names []string
	for i := C.int(0); ; i++ {
		name := C.option(i)
		if name == nil {
			return names
		}
		names = append(names, C.GoString(name))
	}
}
