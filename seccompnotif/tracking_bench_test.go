package seccompnotif

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkProcess is a short process: posix_spawn of a program that ends at once, and the wait for it. With peers, so many
// other tasks sleep meanwhile, each of which is stopped for the execve. Beside the time that passes, much of which goes into waking
// tasks, it says how much of a processor the supervisor takes.
func BenchmarkProcess(b *testing.B) {
	judged := HandlerFunc(func(*Call) Action { return JudgeExec(func(Argv) Action { return Continue() }) })
	none := Overlay{Notify: []string{"getppid"}}
	continued := Overlay{Notify: []string{"execve"}, NotifyWhen: CreationNotifications(), Deny: CreationDenials()}
	table := func(b *testing.B, t *TableBuilder) *Table {
		built, err := t.Build()
		if err != nil {
			b.Fatal(err)
		}
		return built
	}
	plain := func() *TableBuilder {
		t := NewTable()
		for _, nr := range append(creationCalls[:], unix.SYS_EXECVE) {
			t.Handle(nr, HandlerFunc(allow))
		}
		return t
	}
	tracked := func(h HandlerFunc) *TableBuilder {
		return NewTable().Under(trackedOverlay()).TrackCreation().Handle(unix.SYS_EXECVE, h).Handle(unix.SYS_EXECVEAT, h)
	}
	for _, bench := range []struct {
		name           string
		overlay        Overlay
		table          *TableBuilder
		peers, threads int
	}{
		{"unsupervised", none, NewTable(), 0, 0},
		{"continued", continued, plain(), 0, 0},
		{"tracked", trackedOverlay(), tracked(allow), 0, 0},
		{"judged", trackedOverlay(), tracked(judged), 0, 0},
		{"judged/10 peers", trackedOverlay(), tracked(judged), 10, 1},
		{"judged/100 peers", trackedOverlay(), tracked(judged), 100, 1},
		{"judged/1 peer of 100 threads", trackedOverlay(), tracked(judged), 1, 100},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s, err := New(Config{Table: table(b, bench.table), Log: b.Logf})
			if err != nil {
				b.Fatal(err)
			}
			g := startGuest(b, bench.overlay, s, "peers", fmt.Sprint(bench.peers), fmt.Sprint(bench.threads), fmt.Sprint(b.N))
			g.start()
			if got := g.line(); got != "ready" {
				b.Fatal(got)
			}
			before := ownCPU(b)
			b.ResetTimer()
			got := g.line()
			b.StopTimer()
			b.ReportMetric(float64(ownCPU(b)-before)/float64(time.Microsecond)/float64(b.N), "supervisor-µs/op")
			if !strings.HasPrefix(got, "spawned") {
				b.Fatal(got)
			}
			g.kill()
			finish(b, s)
		})
	}
}

// ownCPU is the time that this process, the supervisor, has had a processor.
func ownCPU(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
