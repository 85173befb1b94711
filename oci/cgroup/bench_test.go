package cgroup

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// BenchmarkLife measures each step of a trivial container's cgroup, with Docker-like device rules and a process limit.
// The two ways in are measured for a single process each, after a pause, as in a container start: the kernel keeps the
// costly lock of cgroup.procs half taken for a while (kernel/rcu/sync.c), which would flatter it in a tight loop.
func BenchmarkLife(b *testing.B) {
	needRoot(b)
	var plan, prepare, enter, walkIn, apply, destroy time.Duration
	lap := func(sum *time.Duration, f func()) {
		start := time.Now()
		f()
		*sum += time.Since(start)
	}
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	const pause = 50 * time.Millisecond
	for b.Loop() {
		time.Sleep(pause)
		var m *Manager
		lap(&plan, func() {
			c, err := Plan(limits(specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
				Pids:    &specs.LinuxPids{Limit: ptr(int64(100))},
			}), Options{ID: testID()})
			check(err)
			m, err = New(c)
			check(err)
			check(m.Check())
		})
		lap(&prepare, func() { check(m.Prepare()) })
		var e *Entrance
		lap(&enter, func() {
			var err error
			e, err = m.Enter()
			check(err)
		})
		up := parents(b, m)
		walkIn += walk(b, e, up)
		check(e.Close())
		check(up.Close())
		stranger := exec.Command("/bin/sleep", "1000")
		check(stranger.Start())
		lap(&apply, func() { check(m.AddPID(nil, stranger.Process.Pid)) })
		check(stranger.Process.Kill())
		_ = stranger.Wait()
		lap(&destroy, func() { check(m.Destroy()) })
	}
	for name, sum := range map[string]time.Duration{
		"plan": plan, "prepare": prepare, "enter-open": enter, "enter-write": walkIn, "addpid": apply, "destroy": destroy,
	} {
		b.ReportMetric(float64(sum.Microseconds())/float64(b.N), name+"-µs")
	}
	b.ReportMetric(0, "ns/op")
}

// walk does what a container's child does, a thread moves itself, and then takes it back to where it came from.
// It returns how long the way in took.
func walk(b *testing.B, in, out *Entrance) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	move := func(e *Entrance) {
		for _, fd := range e.Tasks {
			if _, err := unix.Write(fd, []byte(JoinText)); err != nil {
				b.Fatal(err)
			}
		}
	}
	start := time.Now()
	move(in)
	took := time.Since(start)
	move(out)
	return took
}

// parents opens the cgroups above those of m, where this process is.
func parents(b *testing.B, m *Manager) *Entrance {
	e := &Entrance{Into: -1}
	paths := m.Paths()
	delete(paths, "")
	for name, dir := range paths {
		paths[name] = filepath.Dir(dir)
	}
	if err := e.open(paths); err != nil {
		b.Fatal(err)
	}
	return e
}
