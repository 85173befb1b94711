package seccompnotif

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLoopDoesNotAllocate covers what every notification passes through; the answer goes to a listener that does not know the
// id, which costs the same.
func TestLoopDoesNotAllocate(t *testing.T) {
	v := startVictim(t, notified)
	s := supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(*Call) Action { return Continue() }),
		callB: HandlerFunc(func(*Call) Action { return Errno(unix.EPERM) }),
		callC: HandlerFunc(func(c *Call) Action { return Return(int64(c.Arg(0))) }),
	})
	s.mu.Lock()
	var l *listener
	for l = range s.listeners {
	}
	s.mu.Unlock()
	for _, nr := range []int32{callA, callB, callC} {
		c := s.newCall(l)
		c.n = rawNotification{id: ^uint64(0), pid: 1, data: seccompData{nr: nr, arch: nativeAuditArch}}
		if n := testing.AllocsPerRun(100, func() { s.answer(c) }); n != 0 {
			t.Errorf("answering %s allocates %v times", syscallLabel(int(nr)), n)
		}
	}
	// And the whole loop, receive included, by what the process allocates meanwhile: far less than once a call.
	const calls = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if r := v.Do(order{NR: callB, Times: calls}); r.Differ != 0 || r.Errno != unix.EPERM {
		t.Errorf("%+v", r)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > calls/4 {
		t.Errorf("%d allocations for %d notifications", n, calls)
	}
}

// BenchmarkNotification is the whole way of a notified call, from the guest and back.
func BenchmarkNotification(b *testing.B) {
	for name, h := range map[string]HandlerFunc{
		"errno":    func(*Call) Action { return Errno(unix.EACCES) },
		"continue": func(*Call) Action { return Continue() },
		"sockaddr": func(c *Call) Action {
			var address [16]byte
			if err := c.ReadMemory(c.Arg(0), address[:]); err != nil {
				return Errno(unix.EFAULT)
			}
			return Errno(unix.EACCES)
		},
		"file": func(c *Call) Action {
			fd, err := c.File(0)
			if err != nil {
				return Errno(unix.EBADF)
			}
			unix.Close(fd)
			return Errno(unix.EACCES)
		},
		"defer": func(*Call) Action { return Defer(func() Action { return Errno(unix.EACCES) }) },
	} {
		b.Run(name, func(b *testing.B) {
			v := startVictim(b, notified)
			supervise(b, v, handle(callA, h))
			buffer := v.alloc(smallestPage)
			v.Do(order{NR: callA, Args: [6]uint64{buffer}, Times: 500})
			b.ReportAllocs()
			b.ResetTimer()
			v.Do(order{NR: callA, Args: [6]uint64{buffer}, Times: b.N})
			b.StopTimer()
		})
	}
}
