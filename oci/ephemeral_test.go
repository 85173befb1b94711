package oci

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/policy"
)

func TestEphemeral(t *testing.T) {
	rules := policy.Policy{Network: policy.Network{AllowBind: [][]string{{"80"}}}}
	network := func(path string) []specs.LinuxNamespace {
		return []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace, Path: path}}
	}
	for name, row := range map[string]struct {
		linux  specs.Linux
		asked  policy.Policy
		want   string
		failed bool
	}{
		"nobody asks":     {linux: specs.Linux{Sysctl: map[string]string{rangeSysctl: "nonsense"}}, want: ""},
		"a new namespace": {linux: specs.Linux{Namespaces: network("")}, asked: rules, want: "32768-60999"},
		"set by the spec": {linux: specs.Linux{Namespaces: network("/nowhere"), Sysctl: map[string]string{rangeSysctl: "1024\t65535\n"}}, asked: rules, want: "1024-65535"},
		"set wrongly":     {linux: specs.Linux{Namespaces: network(""), Sysctl: map[string]string{rangeSysctl: "9 1"}}, asked: rules, failed: true},
		"no namespace":    {linux: specs.Linux{Namespaces: network("/nowhere")}, asked: rules, failed: true},
	} {
		got, err := ephemeral(&specs.Spec{Linux: &row.linux}, row.asked)
		if (err != nil) != row.failed || err == nil && got.String() != row.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// The caller's own takes no privilege.
	if got, err := ephemeral(&specs.Spec{Linux: &specs.Linux{}}, rules); err != nil || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("32768\t60999\n")
	f.Fuzz(func(t *testing.T, text string) {
		if ports, err := parseRange(text); err == nil && (len(ports) != 1 || ports[0].First == 0 || ports[0].First > ports[0].Last) {
			t.Errorf("%q became %v", text, ports)
		}
	})
}
