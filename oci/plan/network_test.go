package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/resolve"
)

func TestNamesOfPolicies(t *testing.T) {
	p := policy.Policy{Network: policy.Network{
		Allow: [][]string{
			{"10.0.0.1:443", "tcp://API.example.com:443", "api.example.com", "[2001:db8::1]:80", "2001:db8::/32", "icmp://gateway", "*:80", ":443", "udp://*"},
			{"db:5432", "fe80", "nonsense/", "*.example.com", "dead:beef::1", "x.", "http://name", ""},
		},
		Deny: []string{"denied.example.com"},
	}}
	if got := fmt.Sprint(Names(p)); got != "[api.example.com db fe80 gateway]" {
		t.Error(got)
	}
	if got := Names(policy.Policy{}); got != nil {
		t.Error(got)
	}
}

func TestNamesThatFail(t *testing.T) {
	ok := resolve.Answer{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	many := make([]string, resolve.MaxNames+1)
	all := map[string]resolve.Answer{}
	for i := range many {
		many[i] = fmt.Sprintf("n%d", i)
		all[many[i]] = ok
	}
	for _, row := range []struct {
		allow   string
		answers map[string]resolve.Answer
		want    string
	}{
		{"10.0.0.1;nosuch.example.com:443", map[string]resolve.Answer{"nosuch.example.com": {Err: errors.New("no such host")}},
			`io.sandlock.network.allow: endpoint rule "nosuch.example.com:443": "nosuch.example.com": no such host`},
		{"a.example;b.example", map[string]resolve.Answer{"a.example": ok}, `io.sandlock.network.allow: endpoint rule "b.example": "b.example": was not looked up`},
		{strings.Join(many, ";"), all, "io.sandlock.network.allow: 257 host names; at most 256 are looked up"},
		{"a.example:0", nil, `io.sandlock.network.allow: endpoint rule "a.example:0": "0" is not a port; ports are decimal numbers, 1 to 65535`},
	} {
		r := request(t, "docker.json", map[string]string{"network.allow": row.allow}, nil)
		r.Names = row.answers
		if _, err := New(r); err == nil || err.Error() != row.want {
			t.Errorf("%.40s: %v, want %s", row.allow, err, row.want)
		}
	}
	r := request(t, "docker.json", map[string]string{"network.allow": strings.Join(many[1:], ";")}, nil)
	r.Names = all
	if p := newPlan(t, r); len(p.Network.Pinned()) != resolve.MaxNames {
		t.Errorf("%d names", len(p.Network.Pinned()))
	}
}

func TestHostsSource(t *testing.T) {
	mounts := []specs.Mount{{Destination: "/etc/hostname", Source: "/x"}, {Destination: "/etc/hosts", Source: "/first"}, {Destination: "etc//hosts/", Source: "relative"}}
	b := &bundle.Bundle{Path: "/bundle", Spec: &specs.Spec{Mounts: mounts}}
	var none policy.Policy
	if got := HostsSource(b, none); got != "/bundle/relative" {
		t.Error(got)
	}
	extra := policy.Policy{Filesystem: policy.Filesystem{Mounts: []policy.Mount{{Container: "/etc/hosts", Host: "/operators"}}}}
	if got := HostsSource(b, extra); got != "/operators" {
		t.Error(got)
	}
	b.Spec.Mounts = mounts[:1]
	if got := HostsSource(b, none); got != "" {
		t.Error(got)
	}
}

func TestHostsText(t *testing.T) {
	const head = "# Loopback, and the host names of network.allow as they were resolved when the container was created.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	addr := netip.MustParseAddr
	names := netfilter.Names{"b.example": {addr("2001:db8::1"), addr("192.0.2.1")}, "a.example": {addr("192.0.2.2")}, "localhost": {addr("127.0.0.1")}}
	pinned := head + "192.0.2.2\ta.example\n2001:db8::1\tb.example\n192.0.2.1\tb.example\n"
	for _, row := range []struct{ name, own, want string }{
		{"none of its own", "", pinned},
		{"Docker's", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n172.17.0.2\tc0ffee\n", pinned + "# The container's own:\nfe00::0\tip6-localnet\n172.17.0.2\tc0ffee\n"},
		{"nothing new", "127.0.0.1 localhost\n\n  \n", pinned},
		{"other addresses of pinned names", "10.0.0.1 a.example\n10.0.0.2 kept B.EXAMPLE also # b.example\n10.0.0.3 b.example.org", pinned + "# The container's own:\n10.0.0.2\tkept also\n10.0.0.3 b.example.org\n"},
		{"what is no entry", "# comment\n10.0.0.1\r\n\x00\xff", pinned + "# The container's own:\n# comment\n10.0.0.1\n\x00\xff\n"},
	} {
		if got := hostsText(names, row.own); got != row.want {
			t.Errorf("%s:\n%q, want\n%q", row.name, got, row.want)
		}
	}
}

// Whatever the container's file says, a pinned name has the pinned addresses and no other.
func FuzzHostsText(f *testing.F) {
	f.Add("10.0.0.1 api.example.com x\n")
	f.Add("10.0.0.1\tAPI.example.com#\n\rapi.example.com api.example.com")
	f.Fuzz(func(t *testing.T, own string) {
		text := hostsText(netfilter.Names{"api.example.com": {netip.MustParseAddr("192.0.2.1")}}, own)
		if !strings.HasSuffix(text, "\n") {
			t.Error("the last line has no end")
		}
		for line := range strings.Lines(text) {
			entry, _, _ := strings.Cut(line, "#")
			fields := strings.Fields(strings.ToLower(entry))
			if len(fields) > 1 && slices.Contains(fields[1:], "api.example.com") && fields[0] != "192.0.2.1" {
				t.Errorf("%q became %q", own, text)
			}
		}
	})
}
