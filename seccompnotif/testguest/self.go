// Package testguest gives tests of supervisors real guests: the test binary, started again, comes under a filter and then makes the system calls
// that the test asks it for. Both ends of that conversation are here: [Start] and [Guest] are the test's, [Main] and [Self] the guest's.
package testguest

import (
	"encoding/gob"
	"fmt"
	"net"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptors of a guest, besides the standard ones.
const (
	Socket     = 3          // to the test: what exec.Cmd gives the first extra file
	FirstExtra = Socket + 1 // the first file that [Options.Change] adds to the command's
)

// Only here, before main, is the main goroutine sure to be on the main thread, which a guest stays on: tests take the process's id for that of the
// thread that makes the calls. A little later, on a busy machine, it may be on any.
func init() { runtime.LockOSThread() }

// Main is for TestMain, before all else: where the environment has variable, the process is a guest, which runs f on its main thread and
// ends. Anywhere else it returns at once.
func Main(variable string, f func(*Self) error) {
	if os.Getenv(variable) == "" {
		runtime.UnlockOSThread()
		return
	}
	s, err := listen()
	if err == nil {
		err = f(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Self is the guest's end. It is not for more than one goroutine at a time.
type Self struct {
	conn   *net.UnixConn
	in     *gob.Decoder
	out    *gob.Encoder
	filter filter
}

// filter is what the test sends first.
type filter struct {
	Program []unix.SockFilter
	Flags   uintptr
}

func listen() (*Self, error) {
	c, err := net.FileConn(os.NewFile(Socket, "test"))
	if err != nil {
		return nil, err
	}
	s := &Self{conn: c.(*net.UnixConn)}
	s.in, s.out = gob.NewDecoder(s.conn), gob.NewEncoder(s.conn)
	return s, s.in.Decode(&s.filter)
}

// Setting reads [Options.Setting] into what the pointer leads to.
func (s *Self) Setting(into any) error { return s.in.Decode(into) }

// Confine installs the test's filter, if it has one, on all threads, and tells the test that the guest is ready. Serve comes next.
func (s *Self) Confine() error {
	var rights []byte
	if s.filter.Program != nil {
		listener, err := s.filter.install()
		if err != nil {
			return err
		}
		defer unix.Close(listener)
		rights = unix.UnixRights(listener)
	}
	_, _, err := s.conn.WriteMsgUnix([]byte{0}, rights, nil)
	return err
}

// install returns the filter's listener.
func (f filter) install() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	p := unix.SockFprog{Len: uint16(len(f.Program)), Filter: &f.Program[0]}
	flags := f.Flags | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
	if errno != 0 {
		return -1, fmt.Errorf("install the filter: %w", errno)
	}
	return int(fd), nil
}

// Serve does what the test asks for, one thing after another, until the test is done or do returns an error.
func Serve[Order, Outcome any](s *Self, do func(Order) (Outcome, error)) error {
	for {
		var order Order
		if err := s.in.Decode(&order); err != nil {
			return nil // the test is done
		}
		outcome, err := do(order)
		if err != nil {
			return err
		}
		if err := s.out.Encode(outcome); err != nil {
			return err
		}
	}
}
