package onbehalf

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// BenchmarkOpen is the whole way of an open (and an untrapped close), from the guest and back: by the kernel alone, let through by a supervisor, and
// made on the guest's behalf.
func BenchmarkOpen(b *testing.B) {
	for name, start := range map[string]func() *testGuest{
		"kernel": func() *testGuest { return startGuest(b, setting{}, nil) },
		"continue": func() *testGuest {
			g := startGuest(b, setting{}, openCalls)
			g.superviseWith(Opens(), seccompnotif.HandlerFunc(func(*seccompnotif.Call) seccompnotif.Action { return seccompnotif.Continue() }))
			return g
		},
		"let through where files may be shown otherwise": func() *testGuest {
			g := startGuest(b, setting{}, openCalls)
			g.superviseWith(Opens(), newEngine(b, Config{}).Presenting(newUptimePresenter(b)))
			return g
		},
		"behalf": func() *testGuest { return supervised(b, setting{}, Config{}, allow) },
		"behalf of a user": func() *testGuest {
			return supervised(b, setting{UID: 1000, GID: 1000, Groups: []int{4, 7}}, Config{}, allow)
		},
	} {
		for what, path := range map[string]string{"file": "/usr/share/common-licenses/Apache-2.0", "link": "/etc/os-release", "proc": "/proc/self/stat"} {
			b.Run(name+"/"+what, func(b *testing.B) {
				g := start()
				o := order{Action: "times", Dirfd: unix.AT_FDCWD, Path: path, Times: 200}
				g.Do(o)
				o.Times = b.N
				b.ReportAllocs()
				b.ResetTimer()
				if r := g.Do(o); r.Errno != 0 {
					b.Fatal(r.Errno)
				}
			})
		}
	}
}
