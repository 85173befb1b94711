package seccompnotif

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

func TestContinueErrnoReturn(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return Continue() }),
		callB: HandlerFunc(func(c *Call) Action { return Errno(unix.Errno(c.Arg(0))) }),
		callC: HandlerFunc(func(c *Call) Action { return Return(int64(c.Arg(0)) + int64(c.Arg(5))) }),
	})
	expect(t, v.syscall(callA), int64(os.Getpid()), 0)
	expect(t, v.syscall(callB, uint64(unix.EXDEV)), 0, unix.EXDEV)
	expect(t, v.syscall(callB, 0), 0, unix.EIO)
	expect(t, v.syscall(callB, maxErrno+1), 0, unix.EIO)
	expect(t, v.syscall(callC, 40, 0, 0, 0, 0, 2), 42, 0)
}

func TestInjection(t *testing.T) {
	v := startVictim(t, notified)
	content := []byte("127.0.0.1 localhost\n")
	tracked := make(chan int, 1)
	const target = 200
	source, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(source)
	duplicate := func() int {
		fd, err := unix.FcntlInt(uintptr(source), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
		}
		return fd
	}
	supervise(t, v, handle(callA, func(c *Call) Action {
		switch c.Arg(0) {
		case 0:
			return InjectBytes(content)
		case 1:
			return InjectWritableBytes(content)
		case 2:
			return InjectFD(source, target)
		case 3:
			return InjectFDSendTracked(duplicate(), 0, func(fd int) { tracked <- fd })
		case 4:
			return InjectFDSend(-1, 0)
		default:
			return InjectFD(source, 1<<30)
		}
	}))
	buffer := v.alloc(4096)
	read := func(fd int64) []byte {
		r := v.syscall(unix.SYS_READ, uint64(fd), buffer, 4096)
		if r.Errno != 0 {
			t.Fatal(r.Errno)
		}
		return v.peek(buffer, int(r.R))
	}

	sealed := v.syscall(callA, 0)
	expect(t, sealed, sealed.R, 0)
	if got := read(sealed.R); !bytes.Equal(got, content) {
		t.Errorf("injected file holds %q", got)
	}
	expect(t, v.syscall(unix.SYS_WRITE, uint64(sealed.R), buffer, 1), 0, unix.EPERM)
	expect(t, v.syscall(unix.SYS_FTRUNCATE, uint64(sealed.R), 0), 0, unix.EPERM)
	expect(t, v.syscall(unix.SYS_FTRUNCATE, uint64(sealed.R), 4096), 0, unix.EPERM)
	expect(t, v.syscall(unix.SYS_FCNTL, uint64(sealed.R), unix.F_GETFD), unix.FD_CLOEXEC, 0)

	writable := v.syscall(callA, 1)
	if got := read(writable.R); !bytes.Equal(got, content) {
		t.Errorf("injected file holds %q", got)
	}
	expect(t, v.syscall(unix.SYS_WRITE, uint64(writable.R), buffer, 1), 1, 0)

	expect(t, v.syscall(unix.SYS_FCNTL, target, unix.F_GETFD), 0, unix.EBADF)
	expect(t, v.syscall(callA, 2), int64(os.Getpid()), 0) // and continues
	expect(t, v.syscall(unix.SYS_FCNTL, target, unix.F_GETFD), 0, 0)

	sent := v.syscall(callA, 3)
	expect(t, v.syscall(unix.SYS_FCNTL, uint64(sent.R), unix.F_GETFD), 0, 0)
	if fd := <-tracked; int64(fd) != sent.R {
		t.Errorf("done was told %d, the guest got %d", fd, sent.R)
	}

	expect(t, v.syscall(callA, 4), 0, unix.EACCES)
	expect(t, v.syscall(callA, 5), 0, unix.EACCES)
}

// TestInjectionUnderSignals: a signal that ended the supervisor's wait for an injection would leave the guest with an answer
// of zero that nobody gave.
func TestInjectionUnderSignals(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Error(err)
			return Errno(unix.EIO)
		}
		return InjectFDSend(fd, 0)
	}))
	s.mu.Lock()
	var l *listener
	for l = range s.listeners {
	}
	s.mu.Unlock()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if tid := l.tid.Load(); tid != 0 {
					_ = unix.Tgkill(unix.Getpid(), int(tid), unix.SIGURG)
				}
			}
		}
	}()
	for range 500 {
		r := v.syscall(callA)
		if r.Errno != 0 || r.R <= testguest.Socket {
			t.Errorf("the guest got %d, %v", r.R, r.Errno)
			break
		}
		expect(t, v.syscall(unix.SYS_CLOSE, uint64(r.R)), 0, 0)
	}
	close(stop)
	<-stopped
}

func TestKill(t *testing.T) {
	for name, group := range map[string]func(pid int) int{
		"its group":               func(pid int) int { return pid },
		"everybody":               func(int) int { return 1 },
		"the supervisor's group":  func(int) int { return unix.Getpgrp() },
		"a group of the caller's": func(int) int { return 0 },
		"a number below all pids": func(int) int { return -5 },
	} {
		t.Run(name, func(t *testing.T) {
			v := startVictim(t, notified)
			leader := name == "its group"
			if leader {
				expect(t, v.syscall(unix.SYS_SETPGID, 0, 0), 0, 0)
			}
			s := supervise(t, v, handle(callA, func(c *Call) Action {
				return Kill(unix.SIGKILL, group(c.PID()))
			}))
			v.Send(order{NR: callA})
			_ = v.Cmd.Wait()
			if status := v.Cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGKILL {
				t.Errorf("the victim ended with %v", v.Cmd.ProcessState)
			}
			s.Wait()
		})
	}
}

func TestKillAnswersENOMEM(t *testing.T) {
	v := startVictim(t, notified)
	expect(t, v.syscall(unix.SYS_SETPGID, 0, 0), 0, 0)
	supervise(t, v, handle(callA, func(c *Call) Action { return Kill(unix.SIGURG, c.PID()) }))
	expect(t, v.syscall(callA), 0, unix.ENOMEM)
}
