package netfilter

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
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
					err = e.Restrict(nil, change)
				case "narrow":
					err = e.Narrow(nil, change)
				case "grant":
					err = e.Grant(nil, change)
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
		"restrict": func() error { return e.Restrict(nil, Change{Allow: everything()}) },
		"narrow":   func() error { return e.Narrow(nil, Change{Allow: everything()}) },
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
	if err := e.Grant(nil, Change{}); err != nil {
		t.Error(err)
	}
	if err := e.Narrow(nil, Change{Allow: []Rule{}}); err != nil || e.allows(t, "tcp://10.0.0.1:1") {
		t.Errorf("narrowed after a grant of everything: %v", err)
	}
}

// TestChangesOfARunningGuest changes the rules between two tries of one guest, and those of another process, which is none of its
// business.
func TestChangesOfARunningGuest(t *testing.T) {
	n := newNetwork(t)
	for name, of := range map[string]func(g *guest) *seccompnotif.Process{
		"the whole guest": func(*guest) *seccompnotif.Process { return nil },
		"the process": func(g *guest) *seccompnotif.Process {
			p, err := g.supervisor.Enroll(g.cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		"another process": func(g *guest) *seccompnotif.Process {
			p, err := g.supervisor.Enroll(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := n.listen(t, "udp", "10.1.0.1:0")
			g := n.start(t, policy(t, "10.1.0.1", ""), "stepwise", guestOptions{args: attempt{Call: "sendto", Type: unix.SOCK_DGRAM, To: server.addr.String()}})
			for _, step := range []struct {
				change func(*seccompnotif.Process) error
				errno  unix.Errno
			}{
				{func(*seccompnotif.Process) error { return nil }, 0},
				{func(p *seccompnotif.Process) error { return g.egress.Narrow(p, Change{Allow: []Rule{}}) }, deniedErrno},
				{func(p *seccompnotif.Process) error { return g.egress.Grant(p, Change{}) }, 0},
				{func(p *seccompnotif.Process) error { return g.egress.Restrict(p, Change{Deny: everything()}) }, deniedErrno},
				{func(p *seccompnotif.Process) error { return g.egress.Grant(p, Change{}) }, deniedErrno},
			} {
				if err := step.change(of(g)); err != nil {
					t.Fatal(err)
				}
				want := step.errno
				if name == "another process" {
					want = 0
				}
				g.say("go")
				var got outcome
				if g.hear(&got); got.Errno != want {
					t.Errorf("%+v, want %v", got, want)
				}
			}
		})
	}
}

func TestScopesAreBounded(t *testing.T) {
	e := &Egress{}
	e.live.begin(Policy{})
	has := make(scopes, maxScopes)
	for i := range has {
		has[i] = &ownScope{}
	}
	p := &seccompnotif.Process{}
	p.SetMark(has)
	if err := e.Narrow(p, Change{Allow: []Rule{}}); err == nil {
		t.Error("too many scopes")
	}
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
