package seccompnotif

import (
	"encoding/gob"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests run against real victims: the test binary started again, under a filter, doing the system calls that the test asks
// it for over a socket. The listener comes over the same socket, before.

const victimEnv = "SECCOMPNOTIF_VICTIM"

// victimSocket is the descriptor that exec.Cmd gives the first extra file.
const victimSocket = 3

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		if err := victimMain(); err != nil {
			fmt.Fprintln(os.Stderr, "victim:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(code)
}

// atEnd is called when all tests have run.
var atEnd []func()

type order struct {
	Program []unix.SockFilter // first order: the filter
	Flags   uintptr

	NR     uintptr
	Args   [6]uint64
	Times  int  // repeat; the reply counts results that differ from the first
	Thread bool // on a thread that is not the leader
	Lone   bool // on such a thread, with a descriptor table of its own
	Many   int  // on so many threads at once

	Alloc int    // map so many bytes, readable and writable
	Poke  []byte // to Args[0]
	Peek  int    // bytes at Args[0]
}

type outcome struct {
	R      int64
	Errno  unix.Errno
	Differ int
	TID    int
	PID    int
	Data   []byte
	Many   []outcome
}

func victimMain() error {
	runtime.LockOSThread()
	file := os.NewFile(victimSocket, "socket")
	c, err := net.FileConn(file)
	if err != nil {
		return err
	}
	conn := c.(*net.UnixConn)
	in, out := gob.NewDecoder(conn), gob.NewEncoder(conn)
	var first order
	if err := in.Decode(&first); err != nil {
		return err
	}
	listener, err := installFilter(first.Program, first.Flags)
	if err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(listener), nil); err != nil {
		return err
	}
	unix.Close(listener)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return nil // the test is done
		}
		if err := out.Encode(obey(o)); err != nil {
			return err
		}
	}
}

func installFilter(program []unix.SockFilter, flags uintptr) (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	fd, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

func obey(o order) outcome {
	switch {
	case o.Alloc > 0:
		b, err := unix.Mmap(-1, 0, o.Alloc, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return outcome{R: -1, Errno: err.(unix.Errno)}
		}
		return outcome{R: int64(uintptr(unsafe.Pointer(&b[0])))}
	case o.Poke != nil:
		copy(victimMemory(o.Args[0], len(o.Poke)), o.Poke)
		return outcome{}
	case o.Peek > 0:
		return outcome{Data: append([]byte(nil), victimMemory(o.Args[0], o.Peek)...)}
	case o.Many > 0:
		result := outcome{Many: make([]outcome, o.Many)}
		var all sync.WaitGroup
		for i := range result.Many {
			all.Go(func() { result.Many[i] = issue(o) })
		}
		all.Wait()
		return result
	case o.Thread, o.Lone:
		done := make(chan outcome)
		go func() {
			runtime.LockOSThread() // the main thread is locked to another goroutine, so this is another one; it ends with this goroutine
			if o.Lone {
				if err := unix.Unshare(unix.CLONE_FILES); err != nil {
					done <- outcome{R: -1, Errno: err.(unix.Errno)}
					return
				}
				unix.Close(int(o.Args[5])) // the leader keeps it
			}
			done <- issue(o)
		}()
		return <-done
	}
	return issue(o)
}

func issue(o order) outcome {
	call := func() (int64, unix.Errno) {
		r, _, e := unix.Syscall6(o.NR, uintptr(o.Args[0]), uintptr(o.Args[1]), uintptr(o.Args[2]), uintptr(o.Args[3]), uintptr(o.Args[4]), uintptr(o.Args[5]))
		return int64(r), e
	}
	result := outcome{TID: unix.Gettid(), PID: unix.Getpid()}
	result.R, result.Errno = call()
	for range o.Times - 1 {
		if r, e := call(); r != result.R || e != result.Errno {
			result.Differ++
		}
	}
	return result
}

//go:nocheckptr
func victimMemory(addr uint64, n int) []byte {
	// The address is that of a mapping of this process, which Go's memory management knows nothing of.
	p := *(*unsafe.Pointer)(unsafe.Pointer(&addr))
	return unsafe.Slice((*byte)(p), n)
}

// victim is a running victim.
type victim struct {
	t        testing.TB
	cmd      *exec.Cmd
	conn     *net.UnixConn
	in       *gob.Decoder
	out      *gob.Encoder
	listener int // -1 once attached
}

// startVictim starts a victim under the overlay.
func startVictim(t testing.TB, o Overlay) *victim {
	t.Helper()
	program, err := o.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	return startVictimUnder(t, program, 0)
}

func startVictimUnder(t testing.TB, program []unix.SockFilter, flags uintptr) *victim {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	ours := os.NewFile(uintptr(pair[0]), "socket")
	c, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, cmd: cmd, conn: c.(*net.UnixConn), listener: -1}
	t.Cleanup(v.end)
	v.in, v.out = gob.NewDecoder(v.conn), gob.NewEncoder(v.conn)
	if err := v.out.Encode(order{Program: program, Flags: flags}); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := v.conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		t.Fatalf("no listener from the victim: %v", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("no listener from the victim: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	v.listener = fds[0]
	return v
}

// end kills the victim and waits for it.
func (v *victim) end() {
	v.conn.Close()
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
	if v.listener >= 0 {
		unix.Close(v.listener)
		v.listener = -1
	}
}

// send gives the victim an order without waiting for the outcome.
func (v *victim) send(o order) {
	v.t.Helper()
	if err := v.out.Encode(o); err != nil {
		v.t.Fatal(err)
	}
}

// receive waits for the outcome of an order.
func (v *victim) receive() outcome {
	v.t.Helper()
	var r outcome
	if err := v.in.Decode(&r); err != nil {
		v.t.Fatalf("the victim is gone: %v", err)
	}
	return r
}

func (v *victim) do(o order) outcome {
	v.t.Helper()
	v.send(o)
	return v.receive()
}

// syscall has the victim make a system call.
func (v *victim) syscall(nr uintptr, args ...uint64) outcome {
	v.t.Helper()
	o := order{NR: nr}
	copy(o.Args[:], args)
	return v.do(o)
}

// alloc maps memory in the victim.
func (v *victim) alloc(n int) uint64 {
	v.t.Helper()
	r := v.do(order{Alloc: n})
	if r.Errno != 0 {
		v.t.Fatal(r.Errno)
	}
	return uint64(r.R)
}

func (v *victim) poke(addr uint64, b []byte) {
	v.t.Helper()
	v.do(order{Args: [6]uint64{addr}, Poke: b})
}

func (v *victim) peek(addr uint64, n int) []byte {
	v.t.Helper()
	return v.do(order{Args: [6]uint64{addr}, Peek: n}).Data
}

// supervise attaches v to a supervisor made of the handlers by system call number.
func supervise(t testing.TB, v *victim, handlers map[int]Handler, options ...func(*Supervisor)) *Supervisor {
	t.Helper()
	return superviseBy(t, v, Config{}, handlers, options...)
}

// superviseBy is supervise with a configuration, whose table and log are set here.
func superviseBy(t testing.TB, v *victim, config Config, handlers map[int]Handler, options ...func(*Supervisor)) *Supervisor {
	t.Helper()
	b := NewTable()
	for nr, h := range handlers {
		b.Handle(nr, h)
	}
	table, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	config.Table, config.Log = table, t.Logf
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		option(s)
	}
	attach(t, s, v)
	t.Cleanup(func() {
		v.end()
		s.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// expect fails the test unless the outcome is r, or e if that is not zero.
func expect(t testing.TB, got outcome, r int64, e unix.Errno) {
	t.Helper()
	if got.Errno != e || e == 0 && got.R != r {
		t.Errorf("the guest got %d, %s; want %d, %s", got.R, errnoLabel(got.Errno), r, errnoLabel(e))
	}
}

// takeListener hands the victim's listener over.
func (v *victim) takeListener() int {
	fd := v.listener
	v.listener = -1
	return fd
}

func attach(t testing.TB, s *Supervisor, v *victim) {
	t.Helper()
	if err := s.Attach(v.takeListener()); err != nil {
		t.Fatal(err)
	}
}
