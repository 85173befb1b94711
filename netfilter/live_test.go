package netfilter

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// allows tells whether the whole guest may go to a destination, protocol://address:port.
func (e *Egress) allows(t testing.TB, destination string) bool {
	t.Helper()
	scheme, at, _ := strings.Cut(destination, "://")
	for p := range protocolCount {
		if p.String() == scheme {
			verdict, _ := e.live.judge(nil, p, netip.MustParseAddrPort(at))
			return verdict.Allowed
		}
	}
	t.Fatalf("%q: no such protocol", scheme)
	return false
}

func TestChanges(t *testing.T) {
	type change struct {
		op          string
		allow, deny string // "-" says nothing
	}
	for _, row := range []struct {
		name    string
		start   Policy
		changes []change
		yes, no string
	}{
		{"restricted", Policy{}, []change{{"restrict", "10.0.0.0/8", ""}}, "tcp://10.0.0.1:1 udp://10.0.0.1:1", "tcp://11.0.0.1:1 icmp://10.0.0.1:0"},
		{"restricted for good", Policy{}, []change{{"restrict", "10.0.0.0/8", ""}, {"grant", "-", ""}, {"grant", "*", ""}}, "tcp://10.0.0.1:1", "tcp://11.0.0.1:1"},
		{"restricted twice", Policy{}, []change{{"restrict", "10.0.0.0/8", ""}, {"restrict", ":80", "10.0.0.7"}}, "tcp://10.0.0.1:80", "tcp://10.0.0.1:81 tcp://10.0.0.7:80"},
		{"restricted to nothing", Policy{}, []change{{"restrict", "", ""}}, "", "tcp://10.0.0.1:1 udp://10.0.0.1:1 icmp://10.0.0.1:0"},
		{"denied only", Policy{}, []change{{"restrict", "-", "10.0.0.1"}}, "tcp://10.0.0.2:1 icmp://10.0.0.1:0", "tcp://10.0.0.1:1"},
		{"denied, where ping was", policy(t, "-", "10.9.0.0/16"), []change{{"restrict", "-", "10.0.0.1"}}, "tcp://10.0.0.2:1", "tcp://10.9.0.1:1 tcp://10.0.0.1:1 icmp://10.0.0.2:0"},
		{"no wider than before", policy(t, "10.0.0.0/8", ""), []change{{"restrict", "*", ""}, {"narrow", "*", ""}, {"grant", "*", ""}}, "tcp://10.0.0.1:1", "tcp://11.0.0.1:1"},
		{"narrowed", Policy{}, []change{{"narrow", "10.0.0.0/8", "10.0.0.7"}}, "tcp://10.0.0.1:1", "tcp://11.0.0.1:1 tcp://10.0.0.7:1 icmp://10.0.0.1:0"},
		{"narrowed by a denial", Policy{}, []change{{"narrow", "-", "10.0.0.7"}}, "tcp://10.0.0.1:1 icmp://10.0.0.1:0", "tcp://10.0.0.7:1"},
		{"granted back", Policy{}, []change{{"narrow", "", ""}, {"grant", "-", ""}}, "tcp://10.0.0.1:1 icmp://10.0.0.1:0", ""},
		{"granted in part", Policy{}, []change{{"narrow", "", ""}, {"grant", "10.0.0.1:80", ""}}, "tcp://10.0.0.1:80", "tcp://10.0.0.1:81 icmp://10.0.0.1:0"},
		{"granted and narrowed again", Policy{}, []change{{"narrow", "", ""}, {"grant", "10.0.0.0/8", ""}, {"narrow", "10.0.0.1", ""}}, "tcp://10.0.0.1:80", "tcp://10.0.0.2:80"},
		{"granted up to the start", policy(t, "10.0.0.0/8", "10.0.0.7"), []change{{"narrow", "", ""}, {"grant", "*", ""}}, "tcp://10.0.0.1:80", "tcp://11.0.0.1:80 tcp://10.0.0.7:80"},
		{"granted up to a restriction", Policy{}, []change{{"narrow", "", ""}, {"restrict", "10.0.0.0/8", ""}, {"grant", "-", ""}}, "tcp://10.0.0.1:80", "tcp://11.0.0.1:80"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &Egress{}
			e.live.begin(row.start)
			for _, c := range row.changes {
				change := Change{Deny: rules(t, c.deny)}
				if c.allow != "-" {
					change.Allow = append([]Rule{}, rules(t, c.allow)...)
				}
				var err error
				switch c.op {
				case "restrict":
					err = e.Restrict(ProcessKey{}, change)
				case "narrow":
					err = e.Narrow(ProcessKey{}, change)
				case "grant":
					err = e.Grant(ProcessKey{}, change)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, destination := range strings.Fields(row.yes) {
				if !e.allows(t, destination) {
					t.Errorf("%s is denied", destination)
				}
			}
			for _, destination := range strings.Fields(row.no) {
				if e.allows(t, destination) {
					t.Errorf("%s is allowed", destination)
				}
			}
		})
	}
}

func TestChangesAreBounded(t *testing.T) {
	e := &Egress{}
	e.live.begin(Policy{})
	for name, change := range map[string]func() error{
		"restrict": func() error { return e.Restrict(ProcessKey{}, Change{Allow: everything()}) },
		"narrow":   func() error { return e.Narrow(ProcessKey{}, Change{Allow: everything()}) },
	} {
		for i := range maxChanges {
			if err := change(); err != nil {
				t.Fatalf("%s %d: %v", name, i, err)
			}
		}
		if err := change(); err == nil {
			t.Errorf("%s: %d changes", name, maxChanges+1)
		}
	}
	if err := e.Grant(ProcessKey{}, Change{}); err != nil {
		t.Error(err)
	}
	if err := e.Narrow(ProcessKey{}, Change{Allow: []Rule{}}); err != nil || e.allows(t, "tcp://10.0.0.1:1") {
		t.Errorf("narrowed after a grant of everything: %v", err)
	}
}

// TestChangesOfARunningGuest changes the rules between two tries of one guest, and those of another process, which is none of its
// business.
func TestChangesOfARunningGuest(t *testing.T) {
	n := newNetwork(t)
	for _, row := range []struct {
		name    string
		key     func(*guest) ProcessKey
		errnoes [3]unix.Errno // before, after it was narrowed, after it was granted back
	}{
		{"the whole guest", func(*guest) ProcessKey { return ProcessKey{} }, [3]unix.Errno{0, deniedErrno, 0}},
		{"the process", func(g *guest) ProcessKey { return ProcessKey{g.cmd.Process.Pid, g.startTime(t)} }, [3]unix.Errno{0, deniedErrno, 0}},
		{"its pid's next owner", func(g *guest) ProcessKey { return ProcessKey{g.cmd.Process.Pid, g.startTime(t) + 1} }, [3]unix.Errno{}},
		{"another process", func(g *guest) ProcessKey { return ProcessKey{1, 1} }, [3]unix.Errno{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := n.listen(t, "udp", "10.1.0.1:0")
			g := n.start(t, policy(t, "10.1.0.1", ""), "stepwise", guestOptions{args: attempt{Call: "sendto", Type: unix.SOCK_DGRAM, To: server.addr.String()}})
			key := row.key(g)
			for i, change := range []func() error{
				func() error { return nil },
				func() error { return g.egress.Narrow(key, Change{Allow: []Rule{}}) },
				func() error { return g.egress.Grant(key, Change{}) },
			} {
				if err := change(); err != nil {
					t.Fatal(err)
				}
				g.say("go")
				var got outcome
				if g.hear(&got); got.Errno != row.errnoes[i] {
					t.Errorf("try %d: %+v", i, got)
				}
			}
		})
	}
}

func (g *guest) startTime(t testing.TB) uint64 {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// Field 22, counted from the state, which is the third and follows the name in parentheses.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	start, err := strconv.ParseUint(fields[22-3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return start
}

func init() {
	scenarios["stepwise"] = func(me *self) any {
		var a attempt
		me.arguments(&a)
		for {
			me.wait()
			me.tell(a.make())
		}
	}
}
