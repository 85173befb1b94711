package seccompnotif

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// victimVariable makes a process of the test binary a victim: a guest that does the system calls that the test asks it for.
const victimVariable = "SECCOMPNOTIF_VICTIM"

func TestMain(m *testing.M) {
	testguest.Main(victimVariable, func(s *testguest.Self) error {
		if err := s.Confine(); err != nil {
			return err
		}
		return testguest.Serve(s, func(o order) (outcome, error) { return obey(o), nil })
	})
	code := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(code)
}

// atEnd is called when all tests have run.
var atEnd []func()

type order struct {
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
	*testguest.Guest[order, outcome]
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
	return &victim{testguest.Start[order, outcome](t, testguest.Options{Variable: victimVariable, Program: program, Flags: flags})}
}

// syscall has the victim make a system call.
func (v *victim) syscall(nr uintptr, args ...uint64) outcome {
	v.Helper()
	o := order{NR: nr}
	copy(o.Args[:], args)
	return v.Do(o)
}

// alloc maps memory in the victim.
func (v *victim) alloc(n int) uint64 {
	v.Helper()
	r := v.Do(order{Alloc: n})
	if r.Errno != 0 {
		v.Fatal(r.Errno)
	}
	return uint64(r.R)
}

func (v *victim) poke(addr uint64, b []byte) {
	v.Helper()
	v.Do(order{Args: [6]uint64{addr}, Poke: b})
}

func (v *victim) peek(addr uint64, n int) []byte {
	v.Helper()
	return v.Do(order{Args: [6]uint64{addr}, Peek: n}).Data
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
		v.End()
		s.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// awaitFree waits until no worker is busy: one ends a moment after its answer.
func awaitFree(t testing.TB, s *Supervisor) {
	t.Helper()
	testguest.Await(t, "idle workers", func() bool { return s.inFlight.Load() == 0 })
}

// expect fails the test unless the outcome is r, or e if that is not zero.
func expect(t testing.TB, got outcome, r int64, e unix.Errno) {
	t.Helper()
	if got.Errno != e || e == 0 && got.R != r {
		t.Errorf("the guest got %d, %s; want %d, %s", got.R, errnoLabel(got.Errno), r, errnoLabel(e))
	}
}

func attach(t testing.TB, s *Supervisor, v *victim) {
	t.Helper()
	if err := s.Attach(v.TakeListener()); err != nil {
		t.Fatal(err)
	}
}
