package plan

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The default over the whole root gives way to the sharing of processes, and comes back with any rule that the processes next door may be free of.
func TestDefaultRulesetOfSharedProcesses(t *testing.T) {
	shared := func(s *specs.Spec) {
		for i, ns := range s.Linux.Namespaces {
			if ns.Type == specs.PIDNamespace {
				s.Linux.Namespaces[i].Path = "/proc/41/ns/pid"
			}
		}
	}
	own := func(*specs.Spec) {}
	onNode := func(s *specs.Spec) { shared(s); without(specs.NetworkNamespace)(s) }
	for name, row := range map[string]struct {
		annotations map[string]string
		change      func(*specs.Spec)
		want        bool
	}{
		"processes of its own":          {nil, own, true},
		"shared processes":              {nil, shared, false},
		"limits":                        {map[string]string{"limits.memory": "64M"}, shared, false},
		"the node's network":            {nil, onNode, true}, // whose abstract sockets Landlock keeps away
		"network.allow, supervised":     {map[string]string{"network.allow": "tcp://10.0.0.1:80"}, shared, true},
		"network.allow, ports":          {map[string]string{"network.allow": "tcp://*:80"}, shared, true},
		"network.deny":                  {map[string]string{"network.deny": "10.0.0.1"}, shared, true},
		"network.allow_bind":            {map[string]string{"network.allow_bind": "80"}, shared, true},
		"network.deny_bind, supervised": {map[string]string{"network.deny_bind": "80"}, shared, true},
		"network.port_remap":            {map[string]string{"network.port_remap": "true"}, shared, true},
		"filesystem.deny":               {map[string]string{"filesystem.deny": "/etc/shadow"}, shared, true},
		"filesystem.read":               {map[string]string{"filesystem.read": "/usr"}, shared, true},
		"syscalls.deny":                 {map[string]string{"syscalls.deny": "chroot"}, shared, true},
		"policy.socket":                 {map[string]string{"policy.socket": "/run/agent.sock"}, shared, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(t, request(t, "docker.json", row.annotations, row.change))
			if got := p.Landlock != nil; got != row.want {
				t.Errorf("there is a ruleset: %v, want %v", got, row.want)
			}
		})
	}
}
