package seccompnotif

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRecycledPID has one pid used again and again, by processes that each have something else at the same descriptor. Nothing tells
// the index of their exits, so that what it holds is always of the one before.
func TestRecycledPID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: choosing a pid takes root")
	}
	const times = 50
	pids := map[int]bool{}
	var last *Process
	var s *Supervisor
	look := HandlerFunc(func(c *Call) Action {
		file, err := c.File(int(int32(c.Arg(0))))
		if err != nil {
			t.Error(err)
			return Errno(unix.EBADF)
		}
		defer unix.Close(file)
		var count [8]byte
		if _, err := unix.Read(file, count[:]); err != nil {
			t.Error(err)
		}
		p, err := c.Process()
		if err != nil {
			t.Error(err)
			return Errno(unix.EIO)
		}
		if p == last || p.Exited() || p.PID() != c.PID() {
			t.Errorf("process %d is taken for one before", c.PID())
		}
		last = p
		pids[p.PID()] = true
		s.watch.remove(&p.watch)
		return Return(int64(binary.NativeEndian.Uint64(count[:])))
	})
	table, err := NewTable().Handle(callA, look).Build()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = New(Config{Table: table, Log: t.Logf}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	g := startGuest(t, Overlay{Notify: []string{"getppid"}}, s, "recycle", fmt.Sprint(times))
	lines := g.run()
	s.Wait() // so that what the handler has noted may be read
	var pid, right int
	if _, err := fmt.Sscanf(lines[0], "pid %d right %d", &pid, &right); err != nil || right != times {
		t.Errorf("the guest says %q, %v", lines, err)
	}
	if len(pids) != 1 || !pids[pid] {
		t.Errorf("the pids were %v", pids)
	}
	if n := s.index.size(); n > 1 {
		t.Errorf("the index holds %d processes of one pid", n)
	}
}
