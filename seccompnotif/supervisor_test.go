package seccompnotif

import (
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// The calls that the tests have notified: nothing that Go's runtime makes on its own.
const (
	callA = unix.SYS_GETPPID
	callB = unix.SYS_GETPRIORITY
	callC = unix.SYS_SETPRIORITY
)

var notified = Overlay{Notify: []string{"getppid", "getpriority", "setpriority"}}

func handle(nr int, f HandlerFunc) map[int]Handler { return map[int]Handler{nr: f} }

func TestUnhandledAndPanickingAreDenied(t *testing.T) {
	v := startVictim(t, notified)
	supervise(t, v, handle(callA, func(*Call) Action { panic("on purpose") }))
	expect(t, v.syscall(callA), 0, unix.EIO)
	expect(t, v.syscall(callB), 0, unix.EPERM)
}

func TestForeignCallsNeverReachAHandler(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Return(1) }))
	c := &Call{n: rawNotification{data: seccompData{nr: callA, arch: unix.AUDIT_ARCH_I386}}}
	if a := s.decide(c); a.kind != actErrno || a.errno != unix.ENOSYS {
		t.Errorf("a call of i386 is answered %+v", a)
	}
	c.n.data.arch = nativeAuditArch
	if a := s.decide(c); a.kind != actReturn {
		t.Errorf("a native call is answered %+v", a)
	}
}

func TestWithoutSupervisorCallsFail(t *testing.T) {
	v := startVictim(t, notified)
	unix.Close(v.TakeListener())
	expect(t, v.syscall(callA), 0, unix.ENOSYS)
}

func TestCloseEndsABlockedLoop(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Return(3) }))
	expect(t, v.syscall(callA), 3, 0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	expect(t, v.syscall(callA), 0, unix.ENOSYS)
	if err := s.Attach(startVictim(t, notified).TakeListener()); err == nil {
		t.Error("a closed supervisor took a listener")
	}
}

func TestSeveralListeners(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, handle(callA, func(*Call) Action { return Return(4) }))
	w := startVictim(t, notified)
	attach(t, s, w)
	expect(t, v.syscall(callA), 4, 0)
	expect(t, w.syscall(callA), 4, 0)
	w.End()
	expect(t, v.syscall(callA), 4, 0)
}

func TestAttachRefusesOtherFiles(t *testing.T) {
	table, err := NewTable().Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(fd); err == nil || !strings.Contains(err.Error(), "is no seccomp listener") {
		t.Errorf("an eventfd as a listener: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a supervisor without a table")
	}
}

// TestInterruptedGuest has guests interrupted while their calls are judged: they try again, and the old answers are dropped.
func TestInterruptedGuest(t *testing.T) {
	v := startVictim(t, notified)
	var tries atomic.Int32
	supervise(t, v, handle(callA, func(c *Call) Action {
		if tries.Add(1) > 3 {
			return Return(5)
		}
		if err := unix.Tgkill(v.Cmd.Process.Pid, c.PID(), unix.SIGURG); err != nil {
			t.Error(err)
		}
		testguest.Await(t, "the end of the interrupted call", func() bool { return !c.Valid() })
		return Errno(unix.EPERM)
	}))
	expect(t, v.syscall(callA), 5, 0)
	if n := tries.Load(); n != 4 {
		t.Errorf("%d notifications", n)
	}
}
