package netfilter

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// judge is a subscriber that allows what is in allow, by protocol and address, and keeps what it is told.
type judge struct {
	allow func(seccompnotif.Event) bool
	errno unix.Errno // of what is not

	mu       sync.Mutex
	judged   []seccompnotif.Event
	reported chan seccompnotif.Event
}

func newJudge(errno unix.Errno, allow func(seccompnotif.Event) bool) *judge {
	return &judge{allow: allow, errno: errno, reported: make(chan seccompnotif.Event, 1000)}
}

func (j *judge) Judge(_ context.Context, e seccompnotif.Event) (seccompnotif.Verdict, error) {
	j.mu.Lock()
	j.judged = append(j.judged, e)
	j.mu.Unlock()
	if j.allow(e) {
		return seccompnotif.Verdict{Decision: seccompnotif.Allow}, nil
	}
	return seccompnotif.Verdict{Errno: j.errno}, nil
}

func (j *judge) Report(e seccompnotif.Event) { j.reported <- e }

func (j *judge) events() []seccompnotif.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]seccompnotif.Event(nil), j.judged...)
}

// to allows what goes to an address.
func to(addr netip.AddrPort) func(seccompnotif.Event) bool {
	return func(e seccompnotif.Event) bool { return e.Addr == addr }
}

// TestAsked has the rules allow two servers, and whoever is asked only one of them.
func TestAsked(t *testing.T) {
	n := newNetwork(t)
	for _, row := range []struct {
		name, kind string
		attempt
	}{
		{"connect", "tcp", attempt{Call: "connect", Type: unix.SOCK_STREAM}},
		{"connect nonblocking", "tcp", attempt{Call: "connect", Type: unix.SOCK_STREAM | unix.SOCK_NONBLOCK}},
		{"connect UDP", "udp", attempt{Call: "connect", Type: unix.SOCK_DGRAM}},
		{"sendto", "udp", attempt{Call: "sendto", Type: unix.SOCK_DGRAM}},
		{"sendto fast open", "tcp", attempt{Call: "sendto", Type: unix.SOCK_STREAM, Flags: unix.MSG_FASTOPEN}},
		{"sendmsg", "udp", attempt{Call: "sendmsg", Type: unix.SOCK_DGRAM}},
		{"sendmmsg", "udp", attempt{Call: "sendmmsg", Type: unix.SOCK_DGRAM}},
	} {
		for policyName, p := range map[string]Policy{"no rules": Policy{}.Watched(), "rules": policy(t, "10.1.0.0/16", "")} {
			t.Run(row.name+", "+policyName, func(t *testing.T) {
				allowed, denied := n.listen(t, row.kind, "10.1.0.1:0"), n.listen(t, row.kind, "10.1.0.2:0")
				good, bad := row.attempt, row.attempt
				good.To, bad.To = allowed.addr.String(), denied.addr.String()
				good.Data, bad.Data = "welcome", "contraband"
				j := newJudge(unix.ENETUNREACH, to(allowed.addr))
				results, _ := run[[]outcome](t, n, p, "attempts", guestOptions{args: []attempt{bad, good}, asked: j})
				if results[0].Errno != unix.ENETUNREACH || results[1].Errno != 0 {
					t.Errorf("denied, allowed: %+v", results)
				}
				if got := allowed.next(); got != "welcome" {
					t.Errorf("the allowed server got %q", got)
				}
				denied.untouched()
				events := j.events()
				if len(events) != 2 || events[0].Addr != denied.addr || events[1].Addr != allowed.addr || events[0].Protocol != row.kind ||
					events[0].Syscall != row.Call || !events[0].Held || events[0].Denied {
					t.Errorf("events %+v", events)
				}
			})
		}
	}
}

// TestAskedAfterTheRules: whoever is asked cannot allow what the rules deny; it is told.
func TestAskedAfterTheRules(t *testing.T) {
	n := newNetwork(t)
	denied := n.listen(t, "tcp", "10.1.0.2:0")
	j := newJudge(0, func(seccompnotif.Event) bool { return true })
	results, g := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "attempts", guestOptions{
		args: []attempt{{Call: "connect", Type: unix.SOCK_STREAM, To: denied.addr.String()}}, asked: j,
	})
	if results[0].Errno != deniedErrno || len(g.denied()) != 1 {
		t.Errorf("%+v, %v", results, g.denied())
	}
	denied.untouched()
	if e := <-j.reported; !e.Denied || e.Held || e.Addr != denied.addr || e.Protocol != "tcp" || len(j.events()) != 0 {
		t.Errorf("reported %+v, asked about %v", e, j.events())
	}
}

// TestAskedAboutTheAddressThatIsUsed has the guest change the address all the time.
func TestAskedAboutTheAddressThatIsUsed(t *testing.T) {
	n := newNetwork(t)
	allowed := n.listen(t, "udp", "10.1.0.1:0")
	denied := n.listen(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), allowed.addr.Port()).String())
	j := newJudge(0, to(allowed.addr))
	args := map[string]any{"Allowed": allowed.addr.String(), "Denied": denied.addr.String(), "Rounds": 1000}
	got, _ := run[[]int](t, n, Policy{}.Watched(), "race", guestOptions{args: args, asked: j})
	if got[0] == 0 || got[0] == 1000 || got[1] == 0 {
		t.Errorf("%d calls were allowed of 1000, with %d swaps: there was no race", got[0], got[1])
	}
	denied.untouched()
}

// TestAskedPerDestination: a sendmmsg is asked about as often as its destination changes, and ends where it is denied.
func TestAskedPerDestination(t *testing.T) {
	n := newNetwork(t)
	allowed, denied := n.listen(t, "udp", "10.1.0.1:0"), n.listen(t, "udp", "10.1.0.2:0")
	j := newJudge(0, to(allowed.addr))
	got, _ := run[[]outcome](t, n, Policy{}.Watched(), "partial sendmmsg",
		guestOptions{args: map[string]any{"Allowed": allowed.addr.String(), "Denied": denied.addr.String()}, asked: j})
	for i, want := range []outcome{{3*1000 + 1, 0, ""}, {-1, unix.EPERM, "sendmmsg"}, {(3+5)*1000 + 2, 0, ""}} {
		if got[i] != want {
			t.Errorf("call %d: %+v, want %+v", i, got[i], want)
		}
	}
	for _, want := range []string{"one", "six", "seven"} {
		if got := allowed.next(); got != want {
			t.Errorf("the server got %q, not %q", got, want)
		}
	}
	allowed.untouched()
	denied.untouched()
	if events := j.events(); len(events) != 4 {
		t.Errorf("events %+v", events)
	}
}

// TestAskedAboutUnixSockets, whose paths are not told.
func TestAskedAboutUnixSockets(t *testing.T) {
	n := newNetwork(t)
	dir := t.TempDir()
	stream, packet := listenUnix(t, nil, "unix", filepath.Join(dir, "s")), listenUnix(t, nil, "unixgram", filepath.Join(dir, "d"))
	for _, allow := range []bool{false, true} {
		j := newJudge(0, func(seccompnotif.Event) bool { return allow })
		g := n.start(t, Policy{}.Watched(), "unix", guestOptions{asked: j, args: []unixAttempt{
			{Path: filepath.Join(dir, "s"), Type: unix.SOCK_STREAM}, {Path: filepath.Join(dir, "d"), Type: unix.SOCK_DGRAM, Send: true},
		}})
		if allow {
			if got, _ := stream.next(); got == "" {
				t.Error("nothing came over the stream")
			}
			if got, _ := packet.next(); got == "" {
				t.Error("nothing came in a packet")
			}
		}
		var results []outcome
		g.hear(&results)
		for i, r := range results {
			if (r.Errno == 0) != allow || !allow && r.Errno != unix.EPERM {
				t.Errorf("allowed %v: attempt %d: %+v", allow, i, r)
			}
		}
		if events := j.events(); len(events) == 0 || events[0].Protocol != "unix" || events[0].Addr.IsValid() {
			t.Errorf("events %+v", events)
		}
		g.end()
	}
}

// TestAskedWhileOthersAre: hundreds of calls can wait for their verdicts.
func TestAskedManyAtOnce(t *testing.T) {
	n := newNetwork(t)
	server := n.listen(t, "udp", "10.1.0.1:0")
	const many = 100
	var waiting sync.WaitGroup
	waiting.Add(many)
	all := make(chan struct{})
	go func() {
		waiting.Wait()
		close(all)
	}()
	j := newJudge(0, func(seccompnotif.Event) bool {
		waiting.Done()
		select {
		case <-all:
			return true
		case <-time.After(4 * time.Second): // so that a failing test ends
			return false
		}
	})
	got, _ := run[int](t, n, Policy{}.Watched(), "many sends", guestOptions{args: map[string]any{"To": server.addr.String(), "Many": many}, asked: j})
	if got != many {
		t.Errorf("%d of %d were allowed", got, many)
	}
}

func init() {
	scenarios["many sends"] = func(me *self) any {
		var args struct {
			To   string
			Many int
		}
		me.arguments(&args)
		results := make(chan bool)
		for range args.Many {
			go func() {
				results <- attempt{Call: "sendto", Type: unix.SOCK_DGRAM, To: args.To, Data: "x"}.make().Errno == 0
			}()
		}
		sent := 0
		for range args.Many {
			if <-results {
				sent++
			}
		}
		return sent
	}
}
