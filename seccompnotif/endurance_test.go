package seccompnotif

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var endurance = flag.Int("notifications", 100_000, "how many notifications TestNothingGrows answers")

// footprint is what a supervisor must not have more of the longer it runs.
type footprint struct {
	resident, heap  int // bytes
	files, routines int
}

func (f footprint) String() string {
	return fmt.Sprintf("resident %.1f MiB, heap %.2f MiB, %d descriptors, %d goroutines", float64(f.resident)/(1<<20), float64(f.heap)/(1<<20), f.files, f.routines)
}

func measureFootprint(t *testing.T) footprint {
	t.Helper()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Fscan(bytes.NewReader(statm), &size, &resident); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return footprint{resident * os.Getpagesize(), int(m.HeapAlloc), len(files), runtime.NumGoroutine()}
}

// TestNothingGrows answers many notifications in every way and from many tasks. An hour's worth, ten million, takes half a minute:
//
//	go test -run TestNothingGrows -v -args -notifications 10000000
func TestNothingGrows(t *testing.T) {
	v := startVictim(t, notified)
	var all, others atomic.Int64
	s := supervise(t, v, map[int]Handler{
		callA: HandlerFunc(func(c *Call) Action {
			all.Add(1)
			var b [16]byte
			if err := c.ReadMemory(c.Arg(1), b[:]); err != nil {
				return Errno(unix.EFAULT)
			}
			return Errno(unix.EACCES)
		}),
		callB: HandlerFunc(func(*Call) Action { all.Add(1); return Continue() }),
		callC: HandlerFunc(func(c *Call) Action {
			all.Add(1)
			switch others.Add(1) % 4 {
			case 0:
				if _, err := c.Process(); err != nil {
					return Errno(unix.EIO)
				}
				return Return(1)
			case 1:
				file, err := c.File(0)
				if err != nil {
					return Errno(unix.EBADF)
				}
				unix.Close(file)
				return Return(1)
			case 2:
				return Defer(func() Action { return Return(1) })
			default:
				text, err := c.ReadString(c.Arg(1), 100)
				if err != nil || text != "" {
					return Errno(unix.EFAULT)
				}
				return Return(1)
			}
		}),
	})
	buffer := v.alloc(smallestPage)
	// round has the guest make n calls: most of those that are answered at once, some of the rest, from its leader and a new thread.
	round := func(n int) {
		t.Helper()
		for _, o := range []order{
			{NR: callA, Times: n * 45 / 100}, {NR: callB, Args: [6]uint64{0, buffer}, Times: n * 45 / 100},
			{NR: callC, Args: [6]uint64{0, buffer}, Times: n * 5 / 100}, {NR: callC, Args: [6]uint64{0, buffer}, Times: n * 5 / 100, Thread: true},
		} {
			o.Args[1] = buffer
			if r := v.Do(o); r.Differ != 0 {
				t.Errorf("%d of %d answers to %s differ from the first, %d, %v", r.Differ, o.Times, syscallLabel(int(o.NR)), r.R, r.Errno)
			}
		}
	}
	measure := func() footprint {
		awaitFree(t, s)
		f := measureFootprint(t)
		t.Logf("after %8d: %v", all.Load(), f)
		return f
	}
	const rounds = 10
	round(*endurance / rounds) // which fills every pool
	before := measure()
	after := before
	for range rounds - 1 {
		round(*endurance / rounds)
		after = measure()
	}
	// Threads of the Go runtime's own come and go, and the race detector keeps books.
	const moreResident, moreHeap = 16 << 20, 1 << 18
	if after.resident > before.resident+moreResident || after.heap > before.heap+moreHeap || after.files > before.files || after.routines > before.routines {
		t.Errorf("before: %v; after: %v", before, after)
	}
}
