package seccompnotif

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// judged runs f as the handler of callA and reports the error that it returns to the test.
func judged(t *testing.T, v *victim, f func(*Call) error) {
	t.Helper()
	judgedBy(t, v, Config{}, f)
}

func judgedBy(t *testing.T, v *victim, config Config, f func(*Call) error) {
	t.Helper()
	superviseBy(t, v, config, handle(callA, func(c *Call) Action {
		if err := f(c); err != nil {
			t.Error(err)
			return Errno(unix.EIO)
		}
		return Return(0)
	}))
}

func TestMemory(t *testing.T) {
	v := startVictim(t, notified)
	page := uint64(os.Getpagesize())
	const marker = "written by the supervisor"
	judged(t, v, func(c *Call) error {
		start := c.Arg(0)
		b := make([]byte, 5)
		if err := c.ReadMemory(start, b); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
		if err := c.WriteMemory(start+100, []byte(marker)); err != nil {
			t.Error(err)
		}
		// The second page is not there.
		var memory *MemoryError
		for name, err := range map[string]error{
			"read across the end":  c.ReadMemory(start+page-2, make([]byte, 4)),
			"write across the end": c.WriteMemory(start+page-2, make([]byte, 4)),
			"read beyond":          c.ReadMemory(start+page, make([]byte, 4)),
			"null":                 c.ReadMemory(0, make([]byte, 4)),
			"wrap":                 c.ReadMemory(^uint64(0)-1, make([]byte, 4)),
		} {
			if !errors.Is(err, unix.EFAULT) || !errors.As(err, &memory) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := c.ReadMemory(0, nil); err != nil {
			t.Errorf("nothing to read: %v", err)
		}
		return nil
	})
	start := v.alloc(int(2 * page))
	expect(t, v.syscall(unix.SYS_MUNMAP, start+page, page), 0, 0)
	v.poke(start, []byte("hello"))
	expect(t, v.syscall(callA, start), 0, 0)
	if got := v.peek(start+100, len(marker)); string(got) != marker {
		t.Errorf("the guest sees %q", got)
	}
}

func TestReadString(t *testing.T) {
	v := startVictim(t, notified)
	page := uint64(os.Getpagesize())
	long := strings.Repeat("x", int(page)+100)
	judged(t, v, func(c *Call) error {
		start := c.Arg(0)
		for _, test := range []struct {
			name  string
			at    uint64
			limit int
			want  string
			err   error
		}{
			{"at the end of the mapping", start + 2*page - 6, 4096, "quits", nil},
			{"across pages", start, len(long) + 1, long, nil},
			{"limit without room for the NUL", start, len(long), "", unix.ENAMETOOLONG},
			{"limit of nothing", start, 0, "", unix.ENAMETOOLONG},
			{"empty", start + uint64(len(long)), 10, "", nil},
			{"null", 0, 10, "", unix.EFAULT},
			{"no NUL before the end", start + 2*page, 100, "", unix.EFAULT},
			{"end of the address space", ^uint64(0), 100, "", unix.EFAULT},
		} {
			if got, err := c.ReadString(test.at, test.limit); got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%s: %q, %v", test.name, got, err)
			}
		}
		return nil
	})
	start := v.alloc(int(3 * page))
	expect(t, v.syscall(unix.SYS_MUNMAP, start+2*page, page), 0, 0)
	v.poke(start, append([]byte(long), 0))
	v.poke(start+2*page-6, []byte("quits\x00"))
	expect(t, v.syscall(callA, start), 0, 0)
}

// TestFile looks at descriptors through each way to a task: the leader, a thread, a thread with descriptors of its own.
func TestFile(t *testing.T) {
	for name, threads := range map[string]bool{"with PIDFD_THREAD": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			if threads && !pidfdThreadKnown() {
				t.Skip("this kernel has no PIDFD_THREAD (Linux 6.9)")
			}
			v := startVictim(t, notified)
			judgedBy(t, v, Config{Features: &Features{PIDFDThread: threads, AddFDSend: true}}, func(c *Call) error {
				file, err := c.File(int(int32(c.Arg(0))))
				if want := unix.Errno(c.Arg(1)); want != 0 {
					if !errors.Is(err, want) {
						t.Errorf("File: %v, want %v", err, want)
					}
					return nil
				}
				if err != nil {
					return err
				}
				defer unix.Close(file)
				if flags, err := unix.FcntlInt(uintptr(file), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("flags of the duplicate: %#x, %v", flags, err)
				}
				_, err = unix.Write(file, []byte{1, 0, 0, 0, 0, 0, 0, 0})
				return err
			})
			eventfd := v.syscall(unix.SYS_EVENTFD2, 0, unix.EFD_NONBLOCK)
			if eventfd.Errno != 0 {
				t.Fatal(eventfd.Errno)
			}
			fd := uint64(eventfd.R)
			buffer := v.alloc(8)
			counted := func(want byte) {
				t.Helper()
				if r := v.syscall(unix.SYS_READ, fd, buffer, 8); r.Errno != 0 || v.peek(buffer, 1)[0] != want {
					t.Errorf("the guest's eventfd was written to %d times, not %d (%v)", v.peek(buffer, 1)[0], want, r.Errno)
				}
			}
			for range 3 {
				expect(t, v.syscall(callA, fd), 0, 0)
			}
			counted(3)
			expect(t, v.Do(order{NR: callA, Args: [6]uint64{fd}, Thread: true, Times: 3}), 0, 0)
			counted(3)
			expect(t, v.syscall(callA, 999, uint64(unix.EBADF)), 0, 0)
			expect(t, v.syscall(callA, ^uint64(0), uint64(unix.EBADF)), 0, 0)
			// This thread has closed what the leader still has.
			want := unix.EBADF
			if !threads {
				want = unix.EACCES
			}
			expect(t, v.Do(order{NR: callA, Args: [6]uint64{fd, uint64(want), 0, 0, 0, fd}, Lone: true}), 0, 0)
		})
	}
}

func TestProcessIndex(t *testing.T) {
	v := startVictim(t, notified)
	type seen struct {
		p *Process
		c int
	}
	calls := make(chan seen, 10)
	s := supervise(t, v, handle(callA, func(c *Call) Action {
		p, err := c.Process()
		if err != nil {
			t.Error(err)
		}
		calls <- seen{p: p, c: c.PID()}
		return Return(0)
	}))
	expect(t, v.syscall(callA), 0, 0)
	expect(t, v.Do(order{NR: callA, Thread: true}), 0, 0)
	expect(t, v.syscall(callA), 0, 0)
	leader, thread, again := <-calls, <-calls, <-calls
	if leader.p != again.p || leader.p != thread.p {
		t.Error("one process has several records")
	}
	if pid := v.Cmd.Process.Pid; leader.p.PID() != pid || leader.c != pid || thread.c == pid {
		t.Errorf("victim %d is known as %d; its leader called as %d, its thread as %d", pid, leader.p.PID(), leader.c, thread.c)
	}
	if want, err := startTime(v.Cmd.Process.Pid); err != nil || leader.p.StartTime() != want || leader.p.Parent() != os.Getpid() {
		t.Errorf("start time %d, parent %d, want %v (%v)", leader.p.StartTime(), leader.p.Parent(), want, err)
	}
	if leader.p.Exited() {
		t.Error("the victim is thought to have exited")
	}
	if fd, err := leader.p.OpenPIDFD(); err != nil {
		t.Error(err)
	} else {
		unix.Close(fd)
	}

	p := leader.p
	v.End()
	s.Wait()
	awaitNobody(t, s)
	if err := p.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("signal to a process that is gone: %v", err)
	}
}

// startTime returns when the process pid started.
func startTime(pid int) (uint64, error) {
	s, err := readStat(pid)
	return s.start, err
}

func (x *processIndex) size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.processes) + len(x.threads)
}

// TestSweep takes the exit's report away from the index.
func TestSweep(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(c *Call) Action {
		if _, err := c.Process(); err != nil {
			t.Error(err)
		}
		return Return(0)
	}))
	expect(t, v.syscall(callA), 0, 0)
	s.index.mu.RLock()
	for _, p := range s.index.processes {
		s.watch.remove(&p.watch)
	}
	s.index.mu.RUnlock()
	s.index.sweep()
	if n := s.index.size(); n != 1 {
		t.Errorf("%d entries while the victim lives", n)
	}
	v.End()
	s.index.sweep()
	if n := s.index.size(); n != 0 {
		t.Errorf("%d entries after its end", n)
	}
}

func TestIndexIsBounded(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, handle(callA, func(c *Call) Action {
		if _, err := c.Process(); !errors.Is(err, unix.EMFILE) {
			t.Errorf("process beyond the limit: %v", err)
		}
		return Return(0)
	}), func(s *Supervisor) { s.index.limit = 0 })
	expect(t, v.syscall(callA), 0, 0)
}

// A thread that calls counts beside its process, which is still known when there is no room for the thread.
func TestIndexIsBoundedForThreads(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, handle(callA, func(c *Call) Action {
		_, err := c.File(0)
		switch full := errors.Is(err, unix.EMFILE); {
		case err != nil && !full:
			t.Errorf("descriptor of thread %d: %v", c.PID(), err)
		case full:
			return Errno(unix.EMFILE)
		}
		return Return(0)
	}), func(s *Supervisor) { s.index.limit = 2 })
	expect(t, v.syscall(callA), 0, 0)
	admitted := map[int]bool{}
	for _, r := range v.Do(order{NR: callA, Many: 20}).Many {
		if r.Errno == 0 {
			admitted[r.TID] = true
		} else {
			expect(t, r, 0, unix.EMFILE)
		}
	}
	delete(admitted, v.Cmd.Process.Pid)
	if len(admitted) > 1 {
		t.Errorf("threads %v were admitted", admitted)
	}
	expect(t, v.syscall(callA), 0, 0)
}

func TestProbe(t *testing.T) {
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", f)
	if !f.AddFDSend || !f.WaitKillableRecv {
		t.Errorf("%+v: the floor is Linux 5.19, which has both", f)
	}
	// The probe's filter must not have stayed behind.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(status), "Seccomp:\t2") {
		t.Error("the main thread is under the probe's filter")
	}
}
