package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// manyRules are n rules for addresses and prefixes of both families, with and without ports.
func manyRules(n int) string {
	rules := make([]string, n)
	for i := range rules {
		a, b := i>>8&0xff, i&0xff
		switch i % 4 {
		case 0:
			rules[i] = fmt.Sprintf("10.%d.%d.0/24:443", a, b)
		case 1:
			rules[i] = fmt.Sprintf("tcp://172.16.%d.%d:80,8080", a, b)
		case 2:
			rules[i] = fmt.Sprintf("192.168.%d.%d", a, b)
		default:
			rules[i] = fmt.Sprintf("udp://[2001:db8:%x::/48]:53", i)
		}
	}
	return strings.Join(rules, ";")
}

func TestManyRules(t *testing.T) {
	p := newPlan(t, request(t, "docker.json", map[string]string{"network.allow": manyRules(10000), "network.deny": manyRules(2000)}, nil))
	for to, want := range map[string]bool{"10.39.12.7:443": true, "10.39.12.7:80": false, "10.0.4.1:443": false, "[2001:db8:2703::1]:53": false, "192.168.39.14:9": true} {
		addr := netip.MustParseAddrPort(to)
		if got := p.Network.Allows(netfilter.TCP, addr.Addr(), addr.Port()); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
	// What the plan says of so many rules can still be read.
	if len(p.Enforcement) > 10+2*maxRows {
		t.Errorf("%d lines of enforcement", len(p.Enforcement))
	}
}

// BenchmarkManyRules is everything that the rules of a policy go through from its annotations to the plan in the state directory.
func BenchmarkManyRules(b *testing.B) {
	annotations := map[string]string{policy.AnnotationPrefix + "network.allow": manyRules(10000)}
	config := filepath.Join(b.TempDir(), "config.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	load := func() policy.Policy {
		p, err := policy.Load(policy.Options{ConfigPath: config, Annotations: annotations})
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	r := request(b, "docker.json", nil, nil)
	r.Policy = load()
	made, err := New(r)
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"load":  func() error { load(); return nil },
		"names": func() error { Names(r.Policy); return nil },
		"plan":  func() error { _, err := New(r); return err },
		"write": func() error { _, err := json.Marshal(made); return err },
		"read":  func() error { return json.Unmarshal(text, new(Plan)) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
