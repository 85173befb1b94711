package netfilter

import (
	"fmt"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	for _, row := range []struct {
		name, allow, deny string
		want              []string // "rule: enforcer: some of the reason"
	}{
		{"nothing", "-", "", nil},
		{"TCP ports", "tcp://*:443 tcp://*:80", "", []string{"tcp://*:443: Landlock: nothing is trapped", "tcp://*:80: Landlock: nothing is trapped"}},
		{"TCP ports and all of UDP", "tcp://*:443 udp://*", "", []string{"tcp://*:443: Landlock: nothing", "udp://*: overlay filter: UDP sockets may be made"}},
		{"address", "10.0.0.1 tcp://*:443", "", []string{"10.0.0.1: supervisor: addresses are judged", "tcp://*:443: supervisor: since rule 10.0.0.1 takes the supervisor"}},
		{"name", "tcp://*:80 api.example.com", "", []string{"tcp://*:80: supervisor: since rule api.example.com takes", "api.example.com: supervisor: the addresses of the name"}},
		{"ports of UDP", "tcp://*:443 udp://*:53", "", []string{"tcp://*:443: supervisor: since rule udp://*:53 takes", "udp://*:53: supervisor: Landlock has no ports of UDP"}},
		{"ports of both", "*:443", "", []string{"*:443: supervisor: Landlock has no ports of UDP"}},
		{"ping beside addresses", "10.0.0.1 icmp://*", "", []string{"10.0.0.1: supervisor: addresses", "icmp://*: overlay filter: ICMP sockets may be made"}},
		{"deny all", "-", "*", []string{"*: Landlock, overlay filter: no TCP port is left; UDP sockets are refused when"}},
		{"deny UDP", "-", "udp://*", []string{"udp://*: overlay filter: refused when they are made"}},
		{"deny an address", "-", "10.0.0.1", []string{"10.0.0.1: supervisor: addresses"}},
		{"deny a TCP port", "-", "tcp://*:25", []string{"tcp://*:25: supervisor: Landlock can only be told"}},
		{"ports less ports", "tcp://*:80,443", "tcp://*:443", []string{"tcp://*:80,443: Landlock: nothing", "tcp://*:443: Landlock: nothing"}},
	} {
		allow, deny := policy(t, row.allow, row.deny).Explain()
		var got []Explanation
		for _, layer := range allow {
			got = append(got, layer...)
		}
		got = append(got, deny...)
		if len(got) != len(row.want) {
			t.Errorf("%s: %v", row.name, got)
			continue
		}
		for i, want := range row.want {
			rest, reason, _ := cutLast(want, ": ")
			if line := fmt.Sprintf("%s: %s", got[i].Rule, got[i].By); line != rest || !strings.Contains(got[i].Why, reason) {
				t.Errorf("%s: %s: %s; want %s", row.name, line, got[i].Why, want)
			}
		}
	}
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}
