package seccompnotif

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStats has one notification end in each way there is.
func TestStats(t *testing.T) {
	program, err := notified.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	// The signal that one answer sends would otherwise end the wait for that answer.
	v := startVictimUnder(t, program, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	expect(t, v.syscall(unix.SYS_SETPGID, 0, 0), 0, 0)
	const slow = 30 * time.Millisecond
	held := make(chan *Held, 1)
	s := supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(c *Call) Action {
			switch c.Arg(0) {
			case 0:
				return Continue()
			case 1:
				return Errno(unix.EPERM)
			case 2:
				return Return(5)
			case 3:
				return InjectBytes([]byte("x"))
			case 4:
				return Kill(unix.SIGURG, c.PID())
			case 5:
				return InjectFDSend(-1, 0)
			default:
				return Defer(func() Action { time.Sleep(slow); return Return(1) }) // the latency that is looked for below
			}
		}),
		callC: HandlerFunc(func(*Call) Action { return Hold(func(h *Held) { held <- h }) }),
	})
	for i := range 7 {
		v.syscall(callA, uint64(i))
	}
	expect(t, v.syscall(callB), 0, unix.EPERM) // has no handler
	v.Send(order{NR: callC})
	h := <-held
	v.End()
	s.Wait()
	if err := h.Answer(Return(1)); err != nil {
		t.Error(err)
	}
	of := map[string]Stats{}
	for _, one := range s.Stats() {
		of[one.Syscall] = one
	}
	a := of["getppid"]
	if l := a.Latency; l.Count != 7 || l.Max < slow || l.P99 < slow || l.P50 >= slow || l.P50 <= 0 || l.Mean < slow/7 {
		t.Errorf("latency %+v", l)
	}
	a.Latency = Latency{}
	if want := (Stats{Syscall: "getppid", Continued: 1, Failed: 2, Returned: 2, Injected: 1, Killed: 1, Deferred: 1}); a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
	if other := of[""]; other.Failed != 1 || other.Latency.Count != 1 {
		t.Errorf("without a handler: %+v", other)
	}
	if gone := of["setpriority"]; gone.Stale != 1 || gone.Returned != 0 {
		t.Errorf("of a task that was killed: %+v", gone)
	}
	if len(of) != 3 {
		t.Errorf("%+v", of)
	}
}
