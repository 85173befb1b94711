package netfilter

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// seriesLog is a DenialLog that counts whatever goes where a denial went before, by the same call on the same descriptor.
type seriesLog struct {
	mu              sync.Mutex
	added, repeated []Denial
}

func (l *seriesLog) Repeats(d Denial) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.added, func(a Denial) bool {
		return a.PID == d.PID && a.FD == d.FD && a.Syscall == d.Syscall && a.Addr == d.Addr && a.Port == d.Port
	}) {
		return false
	}
	l.repeated = append(l.repeated, d)
	return true
}

func (l *seriesLog) Add(d Denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.added = append(l.added, d)
}

// protocols returns the protocol of each denial.
func protocols(list []Denial) []string {
	var names []string
	for _, d := range list {
		names = append(names, d.Protocol)
	}
	return names
}

// TestDeniedAgain has a guest try again where it was denied: every attempt is denied and told of, and where no protocol may go,
// without a look at the socket.
func TestDeniedAgain(t *testing.T) {
	n := newNetwork(t)
	servers := map[string]*server{}
	for _, kind := range []string{"tcp", "udp"} {
		servers["allowed "+kind], servers["denied "+kind] = n.listen(t, kind, "10.1.0.1:0"), n.listen(t, kind, "10.1.0.2:0")
	}
	to := func(call, kind, server string) attempt {
		types := map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}
		return attempt{Call: call, Type: types[kind], To: servers[server].addr.String(), Data: kind}
	}
	mapped := to("connect", "tcp", "denied tcp")
	mapped.Family = unix.AF_INET6
	mapped.To = netip.AddrPortFrom(netip.AddrFrom16(servers["denied tcp"].addr.Addr().As16()), servers["denied tcp"].addr.Port()).String()
	closed := to("connect", "tcp", "denied tcp")
	closed.FD = 1000
	for _, row := range []struct {
		name            string
		allow, deny     string
		attempts        []attempt
		denied          []unix.Errno // what the attempts fail with; 0 where they do not
		added, repeated []string     // the protocols that the log is told of
		reached         []string
	}{
		{
			"whatever the protocol", "10.1.0.0/16", "10.1.0.2",
			[]attempt{
				to("connect", "tcp", "denied tcp"), to("connect", "tcp", "denied tcp"), to("connect", "udp", "denied tcp"),
				to("connect", "tcp", "allowed tcp"), to("connect", "tcp", "denied tcp"),
			},
			[]unix.Errno{deniedErrno, deniedErrno, deniedErrno, 0, deniedErrno},
			[]string{"tcp"}, []string{"", "", ""}, []string{"allowed tcp"},
		},
		{
			"by one protocol", "10.1.0.1 udp://10.1.0.2", "",
			[]attempt{
				to("connect", "tcp", "denied tcp"), to("connect", "tcp", "denied tcp"), to("connect", "udp", "denied udp"),
				to("connect", "tcp", "denied tcp"), to("connect", "tcp", "allowed tcp"),
			},
			[]unix.Errno{deniedErrno, deniedErrno, 0, deniedErrno, 0},
			[]string{"tcp"}, []string{"tcp", "tcp"}, []string{"denied udp", "allowed tcp"},
		},
		{
			"by sending", "10.1.0.0/16", "10.1.0.2",
			[]attempt{to("sendto", "udp", "denied udp"), to("sendto", "udp", "denied udp"), to("sendto", "udp", "allowed udp")},
			[]unix.Errno{deniedErrno, deniedErrno, 0}, []string{"udp"}, []string{"udp"}, []string{"allowed udp"},
		},
		{
			"by an IPv4-mapped address", "10.1.0.0/16", "10.1.0.2",
			[]attempt{mapped, mapped, to("connect", "tcp", "allowed tcp")},
			[]unix.Errno{deniedErrno, deniedErrno, 0}, []string{"tcp"}, []string{""}, []string{"allowed tcp"},
		},
		{
			"on no descriptor at all", "10.1.0.0/16", "10.1.0.2",
			[]attempt{closed, to("connect", "tcp", "denied tcp"), closed},
			[]unix.Errno{unix.EBADF, deniedErrno, unix.EBADF}, []string{"tcp"}, nil, nil,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := &seriesLog{}
			results, g := run[[]outcome](t, n, policy(t, row.allow, row.deny), "attempts", guestOptions{args: row.attempts, denials: log})
			for i, r := range results {
				if r.Errno != row.denied[i] {
					t.Errorf("attempt %d ends with %+v, want %v", i, r, row.denied[i])
				}
			}
			for _, name := range row.reached {
				if got := servers[name].next(); got != name[len(name)-3:] {
					t.Errorf("the server got %q", got)
				}
			}
			for _, s := range servers {
				s.untouched()
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if got := protocols(log.added); !slices.Equal(got, row.added) {
				t.Errorf("added: %q, want %q", got, row.added)
			}
			if got := protocols(log.repeated); !slices.Equal(got, row.repeated) {
				t.Errorf("repeated: %q, want %q", got, row.repeated)
			}
			for _, d := range log.added {
				if d.PID != g.cmd.Process.Pid || d.Comm != "exe" || d.Reason() == "" {
					t.Errorf("%+v", d)
				}
			}
			for _, d := range log.repeated {
				if d.PID != g.cmd.Process.Pid || d.Comm != "" || d.Addr.Unmap() != servers["denied tcp"].addr.Addr() {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

// TestUnspecifiedIsLookedAt checks that the address alone does not decide where it means what the socket says.
func TestUnspecifiedIsLookedAt(t *testing.T) {
	n := newNetwork(t)
	server := n.listen(t, "tcp", "127.0.0.1:0")
	list := make([]attempt, 2)
	for i := range list {
		list[i] = attempt{Call: "connect", Type: unix.SOCK_STREAM, To: netip.AddrPortFrom(netip.IPv4Unspecified(), server.addr.Port()).String(), Data: "self"}
	}
	results, _ := run[[]outcome](t, n, policy(t, "127.0.0.1", "0.0.0.0"), "attempts", guestOptions{args: list, quiet: true})
	for i, r := range results {
		if r.Errno != 0 {
			t.Errorf("attempt %d: %+v", i, r)
			continue
		}
		server.next()
	}
	server.untouched()
}

func TestDeniesAll(t *testing.T) {
	for _, row := range []struct {
		allow, deny, to string
		want            bool
	}{
		{"10.1.0.1", "", "10.1.0.2", true},
		{"10.1.0.1", "", "10.1.0.1", false},
		{"tcp://10.1.0.1:80", "", "10.1.0.1", true}, // of port 443
		{"tcp://10.1.0.1:443", "", "10.1.0.1", false},
		{"udp://10.1.0.1", "", "10.1.0.1", false},
		{"icmp://10.1.0.1", "", "10.1.0.1", false},
		{"10.1.0.0/16 icmp://10.1.0.0/16", "10.1.0.2", "10.1.0.2", false},
		{"10.1.0.0/16 icmp://10.1.0.0/16", "10.1.0.2 icmp://10.1.0.2", "10.1.0.2", true},
		{"10.1.0.0/16", "tcp://10.1.0.2", "10.1.0.2", false},
		{"10.1.0.0/16", "10.1.0.2", "::ffff:10.1.0.2", true},
	} {
		p := policy(t, row.allow, row.deny)
		if got := p.deniesAll(netip.MustParseAddr(row.to), 443); got != row.want {
			t.Errorf("%v: everything to %s denied: %v", p, row.to, got)
		}
	}
	if (Policy{}).deniesAll(netip.MustParseAddr("10.1.0.1"), 443) {
		t.Error("a policy without rules denies")
	}
}

// TestRefusalDoesNotAllocate covers what a connect that is denied again passes through besides the loop.
func TestRefusalDoesNotAllocate(t *testing.T) {
	e := &Egress{policy: policy(t, "10.0.0.0/8", "10.1.0.2"), denials: everyRepetition{}}
	sa := sockaddr(netip.MustParseAddrPort("10.1.0.2:443"))
	c := new(seccompnotif.Call)
	if n := testing.AllocsPerRun(100, func() {
		if !e.refusedUnseen(c, sa) {
			t.Error("not refused")
		}
	}); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}

type everyRepetition struct{}

func (everyRepetition) Repeats(Denial) bool { return true }
func (everyRepetition) Add(Denial)          {}

// TestVerdictsDoNotAllocate judges a real guest's connects: one that no protocol may make and one whose socket has to be looked at,
// both denied again and again, and one that is allowed and made.
func TestVerdictsDoNotAllocate(t *testing.T) {
	n := newNetwork(t)
	p := policy(t, "10.1.0.1 udp://10.1.0.2", "")
	e, err := NewEgress(EgressConfig{Policy: p, Denials: everyRepetition{}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	allocated := make(chan float64, 3)
	handler := seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action {
		var last seccompnotif.Action
		allocated <- testing.AllocsPerRun(200, func() { last = e.connect(c) })
		return last
	})
	list := []attempt{
		{Call: "connect", Type: unix.SOCK_STREAM, To: "10.9.9.9:443"},
		{Call: "connect", Type: unix.SOCK_STREAM, To: "10.1.0.2:443"},
		{Call: "connect", Type: unix.SOCK_DGRAM, To: "10.1.0.2:443"},
	}
	results, _ := run[[]outcome](t, n, p, "attempts", guestOptions{args: list, handlers: map[int]seccompnotif.Handler{unix.SYS_CONNECT: handler}})
	for i, want := range []unix.Errno{unix.EACCES, unix.EACCES, 0} {
		if results[i].Errno != want {
			t.Errorf("attempt %d: %+v, want %v", i, results[i], want)
		}
		if got := <-allocated; got != 0 {
			t.Errorf("attempt %d: judging it allocates %v times", i, got)
		}
	}
}
