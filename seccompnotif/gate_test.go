package seccompnotif

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// The calls that these tests have judged are none that Go's runtime makes by itself: openat2 is held, mremap and listen are
// reported.
var eventful = Overlay{Notify: []string{"openat2", "mremap", "listen"}}

// notes is a subscriber that keeps what it is told and answers what the test wants.
type notes struct {
	judge func(context.Context, Event) (Verdict, error)

	mu       sync.Mutex
	judged   []Event
	reported []Event
	told     chan struct{} // a report has come
}

func newNotes(judge func(context.Context, Event) (Verdict, error)) *notes {
	return &notes{judge: judge, told: make(chan struct{}, 1<<16)}
}

func (n *notes) Judge(ctx context.Context, e Event) (Verdict, error) {
	n.mu.Lock()
	n.judged = append(n.judged, e)
	n.mu.Unlock()
	return n.judge(ctx, e)
}

func (n *notes) Report(e Event) {
	n.mu.Lock()
	n.reported = append(n.reported, e)
	n.mu.Unlock()
	n.told <- struct{}{}
}

func always(v Verdict) func(context.Context, Event) (Verdict, error) {
	return func(context.Context, Event) (Verdict, error) { return v, nil }
}

func allNames() (names []string) {
	for _, call := range EventCalls() {
		if !call.OnBehalf {
			names = append(names, call.Name)
		}
	}
	return names
}

// gated starts a victim whose calls s is asked about.
func gated(t testing.TB, s Subscriber, handlers map[int]Handler, options ...func(*Gate)) (*victim, *Gate) {
	t.Helper()
	g, err := NewGate(GateConfig{Subscriber: s, Syscalls: allNames(), Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		option(g)
	}
	b := NewTable().Gate(g)
	for nr, h := range handlers {
		b.Handle(nr, h)
	}
	table, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	supervisor, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	v := startVictim(t, eventful)
	attach(t, supervisor, v)
	t.Cleanup(func() {
		v.End()
		supervisor.Wait()
		g.Close()
		if err := supervisor.Close(); err != nil {
			t.Error(err)
		}
	})
	return v, g
}

// held is a call that the kernel answers with EINVAL, for want of a structure, once it is allowed.
func (v *victim) held() outcome { return v.syscall(unix.SYS_OPENAT2, 0, 0, 0, 0) }

const allowedErrno = unix.EINVAL

func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		verdict Verdict
		err     error
		want    unix.Errno
		record  bool
	}{
		"allow":                  {Verdict{Decision: Allow}, nil, allowedErrno, false},
		"audit":                  {Verdict{Decision: Audit}, nil, allowedErrno, true},
		"the zero value denies":  {Verdict{}, nil, unix.EPERM, true},
		"deny with an errno":     {Verdict{Errno: unix.ENOENT}, nil, unix.ENOENT, true},
		"deny with no errno":     {Verdict{Errno: 4000}, nil, unix.EPERM, true},
		"deny with a restart":    {Verdict{Errno: 512}, nil, unix.EPERM, true},
		"an error denies":        {Verdict{Decision: Allow}, errors.New("on purpose"), unix.EPERM, true},
		"an unknown one denies":  {Verdict{Decision: 77}, nil, unix.EPERM, true},
		"allow is not an errno":  {Verdict{Decision: Allow, Errno: unix.ENOENT}, nil, allowedErrno, false},
		"audit is not an errno":  {Verdict{Decision: Audit, Errno: unix.ENOENT}, nil, allowedErrno, true},
		"an error denies audits": {Verdict{Decision: Audit}, errors.New("on purpose"), unix.EPERM, true},
	} {
		t.Run(name, func(t *testing.T) {
			var records atomic.Int32
			s := newNotes(func(context.Context, Event) (Verdict, error) { return c.verdict, c.err })
			v, _ := gated(t, s, nil, func(g *Gate) {
				g.config.Record = func(_ *Call, _ Event, _ Verdict, err error) {
					records.Add(1)
					if (err != nil) != (c.err != nil) {
						t.Errorf("recorded with the error %v", err)
					}
				}
			})
			expect(t, v.held(), 0, c.want)
			if (records.Load() == 1) != c.record {
				t.Errorf("%d records", records.Load())
			}
		})
	}
}

func TestEventTellsWhoAndWhat(t *testing.T) {
	s := newNotes(always(Verdict{Decision: Allow}))
	v, _ := gated(t, s, nil)
	before := time.Now()
	expect(t, v.held(), 0, allowedErrno)
	expect(t, v.syscall(unix.SYS_LISTEN, ^uint64(0), 0), 0, unix.EBADF)
	<-s.told
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.judged) != 1 || len(s.reported) != 1 {
		t.Fatalf("judged %v, reported %v", s.judged, s.reported)
	}
	e := s.judged[0]
	start, err := startTime(v.Cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if e.Syscall != "openat2" || e.Category != File || !e.Held || e.Denied {
		t.Errorf("event %+v", e)
	}
	// Here the guest's pid namespace is ours.
	if pid := v.Cmd.Process.Pid; e.PID != pid || e.GuestPID != pid || e.StartTime != start || e.ParentPID != unix.Getpid() || e.GuestParentPID != unix.Getpid() {
		t.Errorf("event of %d, child of %d: %+v", pid, unix.Getpid(), e)
	}
	if e.Time.Before(before) || e.ID == 0 || s.reported[0].ID <= e.ID {
		t.Errorf("event %+v, then %+v", e, s.reported[0])
	}
	if r := s.reported[0]; r.Syscall != "listen" || r.Category != Network || r.Held {
		t.Errorf("report %+v", r)
	}
}

func TestReportsWaitForNobody(t *testing.T) {
	stuck := make(chan struct{})
	var reports atomic.Int32
	var last atomic.Uint64
	s := subscriberFuncs{
		judge: func(context.Context, Event) (Verdict, error) { return Verdict{Decision: Allow}, nil },
		report: func(e Event) {
			if reports.Add(1) == 1 {
				<-stuck
			}
			last.Add(e.Dropped)
		},
	}
	v, g := gated(t, s, nil)
	const calls = maxReports + 300
	expect(t, v.Do(order{NR: unix.SYS_MREMAP, Args: [6]uint64{1}, Times: calls}), 0, unix.EINVAL)
	// One is with the subscriber or on its way there; the queue is full.
	if n := g.dropped.Load(); n < calls-maxReports-1 || n > calls-maxReports {
		t.Errorf("%d dropped of %d", n, calls)
	}
	// Whoever is held does not wait for the stuck one either.
	expect(t, v.held(), 0, allowedErrno)
	dropped := g.dropped.Load()
	close(stuck)
	testguest.Await(t, "the report of what was dropped", func() bool { return last.Load() == dropped })
}

type subscriberFuncs struct {
	judge  func(context.Context, Event) (Verdict, error)
	report func(Event)
}

func (s subscriberFuncs) Judge(ctx context.Context, e Event) (Verdict, error) { return s.judge(ctx, e) }
func (s subscriberFuncs) Report(e Event)                                      { s.report(e) }

func TestSilentSubscriber(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	for name, judge := range map[string]func(context.Context, Event) (Verdict, error){
		"waits for the context":  func(ctx context.Context, _ Event) (Verdict, error) { <-ctx.Done(); return Verdict{}, ctx.Err() },
		"waits for nothing else": func(context.Context, Event) (Verdict, error) { <-stuck; return Verdict{Decision: Allow}, nil },
		"panics":                 func(context.Context, Event) (Verdict, error) { panic("on purpose") },
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := gated(t, newNotes(judge), nil, func(g *Gate) { g.timeout = 20 * time.Millisecond })
			expect(t, v.held(), 0, unix.EPERM)
		})
	}
}

func TestHeldCallsDoNotBlockTheirListener(t *testing.T) {
	const many = 200 // more than are deferred at a time
	all := make(chan struct{})
	var arrived atomic.Int32
	v, _ := gated(t, newNotes(func(context.Context, Event) (Verdict, error) {
		if arrived.Add(1) == many {
			close(all)
		}
		<-all
		return Verdict{Decision: Allow}, nil
	}), nil)
	for _, r := range v.Do(order{NR: unix.SYS_OPENAT2, Many: many}).Many {
		expect(t, r, 0, allowedErrno)
	}
}

func TestGateHasALimit(t *testing.T) {
	v, g := gated(t, newNotes(always(Verdict{Decision: Allow})), nil)
	g.waiting.Store(MaxHeld)
	expect(t, v.held(), 0, unix.EAGAIN)
	g.waiting.Store(0)
	g.judging.Store(MaxHeld)
	expect(t, v.held(), 0, unix.EPERM)
	g.judging.Store(0)
	expect(t, v.held(), 0, allowedErrno)
}

// TestBuiltInDenialsComeFirst: what another handler refuses, no subscriber can allow; it is told.
func TestBuiltInDenialsComeFirst(t *testing.T) {
	s := newNotes(always(Verdict{Decision: Allow}))
	v, _ := gated(t, s, map[int]Handler{
		unix.SYS_OPENAT2: HandlerFunc(func(c *Call) Action {
			if c.Arg(0) == 1 {
				return Errno(unix.EXDEV)
			}
			return Continue()
		}),
	})
	expect(t, v.syscall(unix.SYS_OPENAT2, 1, 0, 0, 0), 0, unix.EXDEV)
	<-s.told
	expect(t, v.held(), 0, allowedErrno)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.judged) != 1 || len(s.reported) != 1 || !s.reported[0].Denied || s.reported[0].Held {
		t.Errorf("judged %+v, reported %+v", s.judged, s.reported)
	}
}

func TestGuestKilledWhileHeld(t *testing.T) {
	asked := make(chan struct{})
	v, g := gated(t, newNotes(func(ctx context.Context, _ Event) (Verdict, error) {
		close(asked)
		<-ctx.Done()
		return Verdict{Decision: Allow}, nil
	}), nil, func(g *Gate) { g.timeout = 50 * time.Millisecond })
	v.Send(order{NR: unix.SYS_OPENAT2})
	<-asked
	v.End()
	testguest.Await(t, "nobody waits", func() bool { return g.waiting.Load() == 0 })
}

func TestGateRefusesWhatItCannotDo(t *testing.T) {
	if _, err := NewGate(GateConfig{Syscalls: []string{"getppid"}, Subscriber: SubscriberFunc(func(Event) Verdict { return Verdict{} })}); err == nil {
		t.Error("a gate for getppid")
	}
	if _, err := NewGate(GateConfig{}); err == nil {
		t.Error("a gate without a subscriber")
	}
	g, err := NewGate(GateConfig{Syscalls: []string{"connect"}, Subscriber: SubscriberFunc(func(Event) Verdict { return Verdict{} })})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTable().Gate(g).Build(); err == nil {
		t.Error("nobody makes connect on the guest's behalf, and yet it is to be asked about")
	}
	var none *Gate
	if none.Wants(unix.SYS_CONNECT) || !g.Wants(unix.SYS_CONNECT) {
		t.Error("wants are wrong")
	}
}

func TestEventCallsAreKnown(t *testing.T) {
	for _, call := range EventCalls() {
		if _, _, known := SyscallNumber(call.Name); !known {
			t.Errorf("%s is no system call", call.Name)
		}
		if err := checkMatches(call.When); err != nil {
			t.Errorf("%s: %v", call.Name, err)
		}
	}
}

func TestRegisters(t *testing.T) {
	call := func(args ...uint64) *Call {
		c := &Call{}
		copy(c.n.data.args[:], args)
		return c
	}
	none := netip.AddrPort{}
	for _, row := range []struct {
		name string
		c    *Call
		want Details
	}{
		{"open", call(0, unix.O_RDWR|1<<40), Details{Flags: unix.O_RDWR}},
		{"openat", call(0, 0, unix.O_CREAT), Details{Flags: unix.O_CREAT}},
		{"creat", call(), Details{Flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC}},
		{"openat2", call(1, 2, 3, 4), Details{}},
		{"clone", call(unix.CLONE_VFORK), Details{Flags: unix.CLONE_VFORK}},
		{"mmap", call(0, 4096), Details{Size: 4096}},
		{"mremap", call(0, 4096, 8192), Details{Size: 8192}},
		{"socket", call(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC), Details{Protocol: "tcp"}},
		{"socket", call(unix.AF_INET6, unix.SOCK_DGRAM), Details{Protocol: "udp"}},
		{"socket", call(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), Details{Protocol: "icmp"}},
		{"socket", call(unix.AF_INET, unix.SOCK_RAW, 1), Details{Protocol: "raw"}},
		{"socket", call(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), Details{Protocol: "other"}},
		{"socket", call(unix.AF_UNIX, unix.SOCK_STREAM), Details{Protocol: "unix"}},
		{"socket", call(unix.AF_NETLINK, unix.SOCK_RAW), Details{Protocol: "netlink"}},
		{"socket", call(unix.AF_PACKET, unix.SOCK_RAW), Details{Protocol: "other"}},
	} {
		if got := registers(row.name, row.c); got != row.want || got.Addr != none {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}

func TestParseNSTgid(t *testing.T) {
	for text, want := range map[string][]int{
		"Name:\tx\nNStgid:\t17\t3\nNSpid:\t17\t3\n": {17, 3},
		"NStgid:\t5\n": {5},
		"NStgid:\n":    nil,
		"NStgid:\tx\n": nil,
		"Name:\tx\n":   nil,
	} {
		got, err := parseNSTgid([]byte(text))
		if (err == nil) != (want != nil) || len(got) != len(want) {
			t.Errorf("%q: %v, %v", text, got, err)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}

// TestLaterActions: what was held may be deferred or held again afterwards.
func TestLaterActions(t *testing.T) {
	g, err := NewGate(GateConfig{Subscriber: newNotes(always(Verdict{}))})
	if err != nil {
		t.Fatal(err)
	}
	v := startVictim(t, notified)
	supervise(t, v, handle(callA, func(c *Call) Action {
		return g.Later(func() Action {
			switch c.Arg(0) {
			case 1:
				return Defer(func() Action { return Return(11) })
			case 2:
				return Hold(func(h *Held) { go func() { _ = h.Answer(Return(12)) }() })
			case 3:
				panic("on purpose")
			}
			return Return(10)
		})
	}))
	expect(t, v.syscall(callA, 0), 10, 0)
	expect(t, v.syscall(callA, 1), 11, 0)
	expect(t, v.syscall(callA, 2), 12, 0)
	expect(t, v.syscall(callA, 3), 0, unix.EIO)
}

// TestLastHandlers: what makes the call runs when everybody has agreed, and only then.
func TestLastHandlers(t *testing.T) {
	last := HandlerFunc(func(*Call) Action { return Return(99) })
	for name, c := range map[string]struct {
		gate    bool
		verdict Verdict
		builtin Action
		want    int64
		errno   unix.Errno
	}{
		"nobody is asked":   {false, Verdict{}, Continue(), 99, 0},
		"allowed":           {true, Verdict{Decision: Allow}, Continue(), 99, 0},
		"on record":         {true, Verdict{Decision: Audit}, Continue(), 99, 0},
		"denied":            {true, Verdict{}, Continue(), 0, unix.EPERM},
		"denied by handler": {true, Verdict{Decision: Allow}, Errno(unix.EXDEV), 0, unix.EXDEV},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewTable().HandleLast(unix.SYS_OPENAT2, last).HandleLast(unix.SYS_LISTEN, last).
				Handle(unix.SYS_OPENAT2, HandlerFunc(func(*Call) Action { return c.builtin }))
			if c.gate {
				g, err := NewGate(GateConfig{Subscriber: newNotes(always(c.verdict)), Syscalls: []string{"openat2", "listen"}, Log: t.Logf})
				if err != nil {
					t.Fatal(err)
				}
				defer g.Close()
				b.Gate(g)
			}
			table, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(Config{Table: table, Log: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			v := startVictim(t, eventful)
			attach(t, s, v)
			expect(t, v.held(), c.want, c.errno)
			expect(t, v.syscall(unix.SYS_LISTEN, 0, 0), 99, 0) // which nobody has to agree to
			v.End()
			s.Wait()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// BenchmarkHeld has a call wait for the verdict of a function; BenchmarkReported has one told.
func BenchmarkHeld(b *testing.B)     { benchmarkGate(b, unix.SYS_OPENAT2, allowedErrno) }
func BenchmarkReported(b *testing.B) { benchmarkGate(b, unix.SYS_MREMAP, unix.EINVAL) }

func benchmarkGate(b *testing.B, nr uintptr, want unix.Errno) {
	v, _ := gated(b, SubscriberFunc(func(Event) Verdict { return Verdict{Decision: Allow} }), nil)
	b.ResetTimer()
	expect(b, v.Do(order{NR: nr, Args: [6]uint64{1}, Times: b.N}), 0, want)
}
