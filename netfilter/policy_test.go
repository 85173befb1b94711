package netfilter

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// rules parses rules separated by blanks.
func rules(t testing.TB, text string) []Rule {
	t.Helper()
	list, err := ParseRules(strings.Fields(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// policy makes a policy of rules separated by blanks; allow "-" says nothing of what is allowed.
func policy(t testing.TB, allow, deny string) Policy {
	t.Helper()
	if allow == "-" {
		return NewPolicy(nil, rules(t, deny))
	}
	return NewPolicy(rules(t, allow), rules(t, deny))
}

func TestAllows(t *testing.T) {
	for _, row := range []struct {
		name, allow, deny string
		yes, no           string // destinations, protocol://address:port
	}{
		{"no rules", "-", "", "tcp://1.2.3.4:1 udp://[::1]:0 icmp://1.2.3.4:0", ""},
		{"deny all", "", "", "", "tcp://1.2.3.4:80 tcp://[::1]:80 udp://1.2.3.4:53 icmp://1.2.3.4:0 tcp://0.0.0.0:0"},
		{"allow only", "10.0.0.1:80", "", "tcp://10.0.0.1:80 udp://10.0.0.1:80", "tcp://10.0.0.1:81 tcp://10.0.0.2:80 icmp://10.0.0.1:0 tcp://10.0.0.1:0"},
		{"deny only", "-", "10.0.0.1:80", "tcp://10.0.0.1:81 tcp://10.0.0.2:80 udp://10.0.0.2:53 tcp://[::1]:80", "tcp://10.0.0.1:80 udp://10.0.0.1:80 icmp://10.0.0.1:0 icmp://10.0.0.2:0"},
		{"both", "10.0.0.0/24", "10.0.0.7:22", "tcp://10.0.0.7:23 tcp://10.0.0.8:22", "tcp://10.0.0.7:22 tcp://10.0.1.1:22"},
		{"deny wins over the same rule", "10.0.0.1:80", "10.0.0.1:80", "", "tcp://10.0.0.1:80"},
		{"tcp", "tcp://10.0.0.1:80", "", "tcp://10.0.0.1:80", "udp://10.0.0.1:80 icmp://10.0.0.1:0"},
		{"udp", "udp://10.0.0.1:53", "", "udp://10.0.0.1:53", "tcp://10.0.0.1:53"},
		{"icmp", "icmp://10.0.0.0/8", "", "icmp://10.0.0.1:0 icmp://10.0.0.1:99", "icmp://11.0.0.1:0 tcp://10.0.0.1:0"},
		{"icmp is never implied", "*", "", "tcp://1.1.1.1:1 udp://[::1]:1", "icmp://1.1.1.1:0 icmp://[::1]:0"},
		{"icmp denied", "icmp://*", "icmp://10.0.0.0/8", "icmp://11.0.0.1:0 icmp://[::1]:0", "icmp://10.0.0.1:0"},
		{"edges of an IPv4 prefix", "10.1.0.0/16", "", "tcp://10.1.0.0:1 tcp://10.1.255.255:1", "tcp://10.0.255.255:1 tcp://10.2.0.0:1"},
		{"edges of an odd prefix", "10.0.0.8/29", "", "tcp://10.0.0.8:1 tcp://10.0.0.15:1", "tcp://10.0.0.7:1 tcp://10.0.0.16:1"},
		{"edges of an IPv6 prefix", "[fd00:0:0:1::/64]:1", "", "tcp://[fd00:0:0:1::]:1 tcp://[fd00:0:0:1:ffff:ffff:ffff:ffff]:1", "tcp://[fd00::ffff:ffff:ffff:ffff]:1 tcp://[fd00:0:0:2::]:1"},
		{"IPv6 prefix beyond 64 bits", "fd00::8/125", "", "tcp://[fd00::8]:1 tcp://[fd00::f]:1", "tcp://[fd00::7]:1 tcp://[fd00::10]:1"},
		{"ends of the address space", "0.0.0.0/1 255.255.255.255 ::/128 8000::/1", "", "tcp://0.0.0.0:1 tcp://127.255.255.255:1 tcp://255.255.255.255:1 tcp://[::]:1 tcp://[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1", "tcp://128.0.0.0:1 tcp://255.255.255.254:1 tcp://[::1]:1 tcp://[7fff::]:1"},
		{"mapped IPv6 is the IPv4", "10.0.0.1", "", "tcp://[::ffff:10.0.0.1]:1", "tcp://[::ffff:10.0.0.2]:1"},
		{"mapped IPv6 denied", "-", "10.0.0.1", "tcp://[::ffff:10.0.0.2]:1", "tcp://[::ffff:10.0.0.1]:1"},
		{"mapped IPv6 is not in ::/0", "::/0", "", "tcp://[::1]:1", "tcp://[::ffff:10.0.0.1]:1 tcp://10.0.0.1:1"},
		{"rule for a mapped address", "::ffff:10.0.0.1", "", "tcp://10.0.0.1:1 tcp://[::ffff:10.0.0.1]:1", "tcp://10.0.0.2:1"},
		{"NAT64 denied", "-", "10.0.0.0/8:80 tcp://10.9.9.9", "tcp://[64:ff9b::11.0.0.1]:80 tcp://[64:ff9b::10.0.0.1]:81 udp://[64:ff9b::10.9.9.9]:1 tcp://[64:ff9b:1::10.0.0.1]:80 tcp://[2002:a00:1::]:80", "tcp://[64:ff9b::10.0.0.1]:80 udp://[64:ff9b::10.255.0.1]:80 tcp://[64:ff9b::10.9.9.9]:1"},
		{"NAT64 is not allowed for IPv4", "10.0.0.1", "", "tcp://10.0.0.1:1", "tcp://[64:ff9b::10.0.0.1]:1"},
		{"NAT64 denied against IPv6", "64:ff9b::/96", "10.0.0.1", "tcp://[64:ff9b::10.0.0.2]:1", "tcp://[64:ff9b::10.0.0.1]:1"},
		{"ping through NAT64", "icmp://*", "icmp://10.0.0.1", "icmp://[64:ff9b::10.0.0.2]:0", "icmp://[64:ff9b::10.0.0.1]:0"},
		{"IPv4 any is not IPv6", "0.0.0.0/0", "", "tcp://1.2.3.4:1", "tcp://[::1]:1"},
		{"any is both", "*:80", "", "tcp://1.2.3.4:80 tcp://[::1]:80 tcp://[::ffff:1.2.3.4]:80", "tcp://1.2.3.4:81 tcp://1.2.3.4:0"},
		{"port 0 is no port of a rule", "*:1", "", "", "tcp://1.2.3.4:0"},
		{"port 0 under any port", "10.0.0.1", "", "tcp://10.0.0.1:0", ""},
		{"zone is disregarded", "fe80::1", "", "tcp://[fe80::1%3]:1", "tcp://[fe80::2%3]:1"},
		{"nested prefixes add up", "10.0.0.0/8:1 10.1.0.0/16:2 10.1.1.0/24:3", "", "tcp://10.1.1.1:1 tcp://10.1.1.1:2 tcp://10.1.1.1:3 tcp://10.1.2.1:1 tcp://10.1.2.1:2 tcp://10.2.0.0:1 tcp://10.1.2.0:2", "tcp://10.1.2.1:3 tcp://10.2.0.0:2 tcp://10.1.1.1:4"},
		{"inner prefix does not hide the outer", "10.0.0.0/8 10.1.0.0/16:2", "", "tcp://10.1.0.1:9 tcp://10.2.0.1:9", "tcp://11.0.0.0:9"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := policy(t, row.allow, row.deny)
			for text, want := range map[string]bool{row.yes: true, row.no: false} {
				for _, to := range strings.Fields(text) {
					protocol, addr := destination(t, to)
					if got := p.Allows(protocol, addr.Addr(), addr.Port()); got != want {
						t.Errorf("Allows(%s) is %v", to, got)
					}
				}
			}
		})
	}
}

func destination(t *testing.T, text string) (Protocol, netip.AddrPort) {
	t.Helper()
	scheme, rest, _ := strings.Cut(text, "://")
	addr, err := netip.ParseAddrPort(rest)
	if err != nil {
		t.Fatal(err)
	}
	for p := range protocolCount {
		if p.String() == scheme {
			return p, addr
		}
	}
	t.Fatalf("no protocol %q", scheme)
	return 0, addr
}

func TestAllowsNonsense(t *testing.T) {
	everything := policy(t, "* icmp://*", "")
	for _, p := range []Policy{everything, denyAll(), policy(t, "-", "10.0.0.1")} {
		if p.Allows(TCP, netip.Addr{}, 80) || p.Allows(protocolCount, netip.IPv6Loopback(), 80) {
			t.Errorf("%s allows an invalid destination", p)
		}
	}
}

func TestJudgeNamesTheRule(t *testing.T) {
	p := policy(t, "10.0.0.0/8", "1.1.1.1 10.0.0.0/24:22,23 10.0.0.1:80")
	verdict := p.Judge(TCP, netip.MustParseAddr("10.0.0.9"), 23)
	if verdict.Allowed || verdict.Reason() != "denied by rule 10.0.0.0/24:22,23" {
		t.Errorf("%+v: %s", verdict, verdict.Reason())
	}
	if verdict = p.Judge(TCP, netip.MustParseAddr("10.0.0.1"), 80); verdict.Reason() != "denied by rule 10.0.0.1:80" {
		t.Error(verdict.Reason())
	}
	if verdict = p.Judge(TCP, netip.MustParseAddr("11.0.0.1"), 80); verdict.Allowed || verdict.Reason() != "no rule allows it" {
		t.Error(verdict.Reason())
	}
}

// TestIndexAgainstRules compares the index with the rules looked at one by one.
func TestIndexAgainstRules(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(random.IntN(2)), byte(random.IntN(3)), byte(random.IntN(8))})
		}
		a := [16]byte{0xfd, 7: byte(random.IntN(2)), 8: byte(random.IntN(2)), 15: byte(random.IntN(8))}
		return netip.AddrFrom16(a)
	}
	for range 300 {
		list := make([]Rule, random.IntN(12))
		for i := range list {
			list[i].Protocols = []Protocols{unnamed, ProtocolSet(TCP), ProtocolSet(UDP), ProtocolSet(ICMP)}[random.IntN(4)]
			if random.IntN(10) > 0 {
				a := addr()
				list[i].Prefix = netip.PrefixFrom(a, random.IntN(a.BitLen()+1)).Masked()
			}
			if !list[i].Protocols.Has(ICMP) {
				for port := range uint16(random.IntN(3)) {
					list[i].Ports = append(list[i].Ports, port+1+uint16(random.IntN(2)))
				}
			}
		}
		ix := newIndex(list, nil)
		for range 200 {
			to, port, protocol := addr(), uint16(random.IntN(4)), Protocol(random.IntN(3))
			want := slices.ContainsFunc(list, func(r Rule) bool { return r.Matches(protocol, to, port) })
			got := ix.match(protocol, to, port)
			if (got != noRule) != want || got != noRule && !list[got].Matches(protocol, to, port) {
				t.Fatalf("%v %v:%d in %v: rule %d, want %v", protocol, to, port, list, got, want)
			}
		}
	}
}

func TestTighten(t *testing.T) {
	operator := policy(t, "10.0.0.0/8 192.168.0.0/16:443", "10.9.0.0/16")
	container := policy(t, "10.1.0.0/16 192.168.0.1 172.16.0.1", "10.1.1.1")
	p := operator.Tighten(container)
	for to, want := range map[string]bool{
		"tcp://10.1.0.1:1":      true,
		"tcp://10.2.0.1:1":      false, // the container does not want it
		"tcp://172.16.0.1:1":    false, // the operator does not allow it
		"tcp://192.168.0.1:443": true,
		"tcp://192.168.0.1:80":  false,
		"tcp://192.168.0.2:443": false,
		"tcp://10.1.1.1:1":      false,
		"tcp://10.9.0.1:1":      false,
	} {
		protocol, addr := destination(t, to)
		if p.Allows(protocol, addr.Addr(), addr.Port()) != want {
			t.Errorf("%s: %v", to, !want)
		}
	}
	if got := len(p.AllowLayers()); got != 2 || len(p.DenyRules()) != 2 {
		t.Errorf("%d layers, %d deny rules", got, len(p.DenyRules()))
	}
	// A source that only denies leaves what the other one allows of ICMP.
	if p := policy(t, "icmp://*", "").Tighten(policy(t, "-", "10.0.0.1")); !p.Allows(ICMP, netip.MustParseAddr("10.0.0.2"), 0) {
		t.Error("a deny rule took ICMP away")
	}
	if same := (Policy{}).Tighten(Policy{}); !same.Unrestricted() {
		t.Error("nothing tightened by nothing is something")
	}
	if p := operator.Tighten(denyAll()); p.Allows(TCP, netip.MustParseAddr("10.0.0.1"), 1) {
		t.Error("deny all does not deny all")
	}
}

func TestPolicyText(t *testing.T) {
	for _, p := range []Policy{{}, denyAll(), policy(t, "-", "1.1.1.1"), policy(t, "tcp://*:80 10.0.0.0/8", ""), policy(t, "*", "10.0.0.1:1,2").Tighten(policy(t, "icmp://*", "::1"))} {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again Policy
		if err := json.Unmarshal(text, &again); err != nil || again.String() != p.String() || again.Unrestricted() != p.Unrestricted() {
			t.Errorf("%s became %s, which became %s (%v)", p, text, again, err)
		}
	}
	p := policy(t, "tcp://*:80", "10.0.0.1").Tighten(denyAll())
	if text, _ := json.Marshal(p); string(text) != `{"allow":[["tcp://*:80"],[]],"deny":["10.0.0.1"]}` {
		t.Errorf("%s", text)
	}
	if got := p.String(); got != "allow tcp://*:80, and of that only nothing, deny 10.0.0.1" {
		t.Error(got)
	}
	if err := json.Unmarshal([]byte(`{"allow":[["nonsense:x"]]}`), &p); err == nil {
		t.Error("a malformed rule is accepted")
	}
}

func TestGate(t *testing.T) {
	for _, row := range []struct {
		name, allow, deny string
		supervisor        bool
		ports             string // TCPPortsOnly; "-" for not ok
	}{
		{"no rules", "-", "", false, "-"},
		{"deny all", "", "", false, "[]"},
		{"tcp ports", "tcp://*:443 tcp://*:80,443", "", false, "[80 443]"},
		{"tcp ports and subsumed address", "tcp://*:443 tcp://10.0.0.1:443", "", false, "[443]"},
		{"tcp ports and address", "tcp://*:443 tcp://10.0.0.1:80", "", true, "-"},
		{"ports of both protocols", "*:443", "", true, "-"},
		{"tcp ports, udp anywhere", "tcp://*:443 udp://*", "", false, "[443]"},
		{"tcp ports, udp ports", "tcp://*:443 udp://*:53", "", true, "-"},
		{"tcp ports, icmp anywhere", "tcp://*:443 icmp://*", "", false, "[443]"},
		{"tcp ports, icmp somewhere", "tcp://*:443 icmp://10.0.0.1", "", true, "-"},
		{"tcp anywhere", "tcp://*", "", false, "-"},
		{"all", "*", "", false, "-"},
		{"one family", "tcp://0.0.0.0/0", "", true, "-"},
		{"address", "tcp://10.0.0.1", "", true, "-"},
		{"deny only", "-", "tcp://10.0.0.1", true, "-"},
		{"deny only a port", "-", "tcp://*:25", true, "-"},
		{"deny all of udp", "-", "udp://*", false, "-"},
		{"deny all of all", "-", "* icmp://*", false, "[]"},
		{"ports less ports", "tcp://*:80,443", "tcp://*:443", false, "[80]"},
		{"ports less all ports", "tcp://*:80", "tcp://*:80", false, "[]"},
		{"ports less address", "tcp://*:80", "tcp://10.0.0.1", true, "-"},
		{"denied what is not allowed", "tcp://*:80", "udp://10.0.0.1", false, "[80]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := policy(t, row.allow, row.deny)
			ports, ok := p.TCPPortsOnly()
			got := "-"
			if ok {
				got = fmt.Sprint(ports)
			}
			if p.NeedsSupervisor() != row.supervisor || got != row.ports {
				t.Errorf("supervisor %v, ports %s", p.NeedsSupervisor(), got)
			}
			if want := map[bool]string{false: "[]", true: "[connect sendto sendmsg sendmmsg]"}[row.supervisor]; fmt.Sprint(p.Notified()) != want {
				t.Errorf("notified: %v", p.Notified())
			}
			if (len(p.Denials()) == 0) != p.Unrestricted() {
				t.Errorf("denials: %v", p.Denials())
			}
		})
	}
	both := policy(t, "*", "").Tighten(policy(t, "tcp://*:80,443", "")).Tighten(policy(t, "tcp://*:443,8080", ""))
	if ports, ok := both.TCPPortsOnly(); !ok || !reflect.DeepEqual(ports, []uint16{443}) {
		t.Errorf("three layers: %v, %v", ports, ok)
	}
}

// A name stands for the addresses that it was pinned to, and for nothing before.
func TestNames(t *testing.T) {
	addrs := func(list ...string) (parsed []netip.Addr) {
		for _, a := range list {
			parsed = append(parsed, netip.MustParseAddr(a))
		}
		return parsed
	}
	names := Names{"api.example.com": addrs("10.0.0.1", "2001:db8::1"), "db": addrs("::ffff:10.0.0.2"), "other": addrs("10.0.0.3")}
	judge := func(p Policy, to string) bool {
		protocol, addr := destination(t, to)
		return p.Allows(protocol, addr.Addr(), addr.Port())
	}
	written := policy(t, "api.example.com:443 tcp://db:5432 10.9.0.0/16", "10.0.0.9")
	if got := fmt.Sprint(written.Names()); got != "[api.example.com db]" {
		t.Error(got)
	}
	if !written.NeedsSupervisor() || written.Pinned() != nil || judge(written, "tcp://10.0.0.1:443") || judge(written, "tcp://0.0.0.0:443") || !judge(written, "tcp://10.9.0.1:1") {
		t.Error("a name that is not pinned stands for something")
	}
	p := written.Pin(names)
	for to, want := range map[string]bool{
		"tcp://10.0.0.1:443": true, "udp://10.0.0.1:443": true, "tcp://[2001:db8::1]:443": true, "tcp://[::ffff:10.0.0.1]:443": true,
		"tcp://10.0.0.1:80": false, "tcp://[2001:db8::2]:443": false, "icmp://10.0.0.1:0": false,
		"tcp://10.0.0.2:5432": true, "udp://10.0.0.2:5432": false, "tcp://10.0.0.3:443": false, "tcp://10.9.1.1:1": true,
	} {
		if judge(p, to) != want {
			t.Errorf("%s: %v", to, !want)
		}
	}
	if len(p.Pinned()) != 2 {
		t.Errorf("pinned: %v", p.Pinned())
	}
	// Two sources: what one calls by name the other may call by address, and the other way round.
	both := p.Tighten(policy(t, "10.0.0.0/24 other:1", ""))
	if !judge(both, "tcp://10.0.0.1:443") || judge(both, "tcp://[2001:db8::1]:443") || judge(both, "tcp://10.9.1.1:1") {
		t.Error("a name of one source and a prefix of another do not intersect")
	}
	later := written.Tighten(policy(t, "api.example.com other:1 10.0.0.2", "")).Pin(names)
	if !judge(later, "tcp://10.0.0.1:443") || judge(later, "tcp://10.0.0.1:444") || judge(later, "tcp://10.0.0.3:1") || !judge(later, "tcp://10.0.0.2:5432") {
		t.Error("names of two sources do not intersect")
	}
	text, err := json.Marshal(p)
	if err != nil || string(text) != `{"allow":[["api.example.com:443","tcp://db:5432","10.9.0.0/16"]],"deny":["10.0.0.9"],"names":{"api.example.com":["10.0.0.1","2001:db8::1"],"db":["::ffff:10.0.0.2"]}}` {
		t.Errorf("%s, %v", text, err)
	}
	var again Policy
	if err := json.Unmarshal(text, &again); err != nil || !judge(again, "tcp://[2001:db8::1]:443") || !reflect.DeepEqual(again.Pinned(), p.Pinned()) {
		t.Errorf("%v, %v", again, err)
	}
	names["db"][0] = netip.MustParseAddr("10.0.0.4")
	p.Pinned()["db"][0] = netip.MustParseAddr("10.0.0.4")
	if p.Pinned()["db"][0] != netip.MustParseAddr("::ffff:10.0.0.2") {
		t.Error("what a name stands for was changed from outside")
	}
}

// manyRules is a blocklist of n prefixes of many lengths.
func manyRules(n int) []Rule {
	random := rand.New(rand.NewPCG(3, 4))
	list := make([]Rule, n)
	for i := range list {
		a := netip.AddrFrom4([4]byte{byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())})
		list[i] = Rule{Protocols: unnamed, Prefix: netip.PrefixFrom(a, 16+random.IntN(17)).Masked(), Ports: []uint16{uint16(i%1000 + 1)}}
	}
	return list
}

func TestAllowsDoesNotAllocate(t *testing.T) {
	p := NewPolicy(manyRules(1000), manyRules(100))
	to := netip.MustParseAddr("::ffff:10.0.0.1")
	if n := testing.AllocsPerRun(100, func() { p.Allows(TCP, to, 80) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllows(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := manyRules(n)
			p := NewPolicy(nil, list)
			addrs := make([]netip.Addr, 4096)
			for i := range addrs {
				addrs[i] = list[i*7%n].Prefix.Addr()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Allows(TCP, addrs[i%len(addrs)], 80)
			}
		})
	}
}

func BenchmarkNewPolicy(b *testing.B) {
	list := manyRules(10000)
	for b.Loop() {
		NewPolicy(nil, list)
	}
}

// denyAll is the policy that allows nothing.
func denyAll() Policy { return NewPolicy([]Rule{}, nil) }
