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
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is the calling process, as the monitor sees it.
type Process struct {
	socket *os.File
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
	return &Process{os.NewFile(uintptr(fd), "caller")}
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

func (p *Process) tell(m C.struct_caller_message) error {
	_, err := p.socket.Write(unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m)))
	if err != nil {
		return fmt.Errorf("telling the calling process: %w", err)
	}
	return nil
}

// ErrGone means that the calling process has ended.
var ErrGone = errors.New("the calling process has ended")

// Exited blocks until a child of the calling process has ended, and returns its pid and status. It returns [ErrGone] when
// the calling process is no more.
func (p *Process) Exited() (pid int, status unix.WaitStatus, err error) {
	var m C.struct_caller_exit
	b := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
	n, err := p.socket.Read(b)
	if err != nil || n != len(b) {
		return 0, 0, ErrGone
	}
	return int(m.pid), unix.WaitStatus(m.status), nil
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
