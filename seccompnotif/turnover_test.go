package seccompnotif

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// TestListenersComeAndGo has many listeners at a time, again and again, as a container has whose programs are executed by an orchestrator. Nothing stays of
// those that are done: no thread, which Go would keep for later, no descriptor, no goroutine, no record.
func TestListenersComeAndGo(t *testing.T) {
	var mu sync.Mutex
	threads := map[int]bool{} // that have served listeners
	table, err := NewTable().Handle(callA, HandlerFunc(func(c *Call) Action {
		mu.Lock()
		threads[unix.Gettid()] = true
		mu.Unlock()
		if _, err := c.Process(); err != nil {
			return Errno(unix.EIO)
		}
		return Return(1)
	})).Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	const atATime, rounds = 8, 3
	round := func() {
		victims := make([]*victim, atATime)
		for i := range victims {
			victims[i] = startVictim(t, notified)
			attach(t, s, victims[i])
			expect(t, victims[i].syscall(callA), 1, 0)
		}
		if n := s.index.size(); n < atATime {
			t.Errorf("%d processes are in the index", n)
		}
		for _, v := range victims {
			v.End()
		}
		s.Wait()
	}
	left := func() string {
		s.watch.mu.Lock()
		watched := len(s.watch.targets)
		s.watch.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		alive := 0
		for tid := range threads {
			if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid)); err == nil && tid != os.Getpid() { // the main thread cannot be ended
				alive++
			}
		}
		if records := s.index.size(); alive+watched+records > 0 {
			return fmt.Sprintf("%d threads of listeners, %d watched descriptors, %d records of processes and threads", alive, watched, records)
		}
		return ""
	}
	round()
	descriptors, goroutines := openDescriptors(t), runtime.NumGoroutine()
	for range rounds {
		round()
	}
	if len(threads) < atATime {
		t.Errorf("%d threads have served %d listeners at a time", len(threads), atATime)
	}
	// A thread ends a moment after its loop, and a process leaves the index when the watcher has been told.
	what := ""
	testguest.Await(t, "nothing is left", func() bool { what = left(); return what == "" })
	if what != "" {
		t.Errorf("left: %s", what)
	}
	if d, g := openDescriptors(t), runtime.NumGoroutine(); d > descriptors || g > goroutines {
		t.Errorf("%d descriptors and %d goroutines have become %d and %d", descriptors, goroutines, d, g)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
