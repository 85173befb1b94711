package policy

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// sources writes a configuration and profiles into a fresh directory. DIR in
// the texts stands for it.
type sources struct {
	config      string
	profiles    map[string]string
	profile     string
	annotations map[string]string
	others      map[string]string // annotations by their whole names
}

func (s sources) load(t testing.TB) (Policy, string, error) {
	t.Helper()
	dir := t.TempDir()
	config := `profiles.directory = "` + dir + "\"\n" + s.config
	write(t, filepath.Join(dir, "config"), config)
	for name, content := range s.profiles {
		write(t, filepath.Join(dir, name+profileSuffix), content)
	}
	annotations := map[string]string{"org.example.note": "not ours"}
	maps.Copy(annotations, s.others)
	for key, value := range s.annotations {
		annotations[AnnotationPrefix+key] = value
	}
	policy, err := Load(Options{
		ConfigPath: filepath.Join(dir, "config"), Profile: s.profile, Annotations: annotations,
	})
	return policy, dir, err
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

type annotations = map[string]string

func TestNothingConfigured(t *testing.T) {
	if _, err := os.Stat(DefaultConfig); err == nil {
		t.Skipf("this host has %s", DefaultConfig)
	}
	policy, err := Load(Options{Annotations: annotations{"org.example.note": "x", "io.sandlock": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(policy, Policy{}) {
		t.Errorf("policy %+v", policy)
	}
	if text, _ := json.Marshal(policy); string(text) != "{}" {
		t.Errorf("as JSON %s", text)
	}
}

// TestEveryKey gives each key this version enforces, from every source.
func TestEveryKey(t *testing.T) {
	policy, dir, err := sources{
		config: `
isolation = "auto"
degradable = ["net_tcp", "fs_refer"]
[annotations]
grant = ["filesystem.mount"]
[protection]
fs_refer = "strict"
[limits]
memory = "1G"
open_files = 1024
`,
		profiles: map[string]string{"web": `
isolation = "namespaces"
[filesystem]
read = ["/", "/usr"]
write = ["/tmp", "/var/lib/app/"]
deny = ["/var/lib/app/secret", "/root"]
mount = ["/data:/srv/data:ro"]
[network]
allow = ["10.0.0.0/8:443"]
deny = ["10.0.0.1"]
[limits]
memory = 536870912
processes = 100
cpu = 150
cpu_cores = "0-3,6"
[syscalls]
deny = ["ptrace"]
allow = ["@keyring"]
[protection]
signal_scope = "off"
`},
		profile: "web",
		annotations: annotations{
			"isolation":               "auto",
			"filesystem.read":         "/usr ; /etc",
			"filesystem.write":        "/tmp/x",
			"filesystem.deny":         "/root/sub;/opt",
			"filesystem.mount":        "/more:/srv/more",
			"network.allow":           "tcp://10.1.0.0/16:443;[::1]:80",
			"network.deny":            "10.0.0.1;10.0.0.2",
			"limits.memory":           "600m",
			"limits.processes":        "50",
			"limits.cpu_cores":        "2-6",
			"syscalls.deny":           "mount",
			"protection.signal_scope": "degrade",
		},
	}.load(t)
	if err != nil {
		t.Fatal(err)
	}
	provenance := policy.Provenance
	policy.Provenance = nil
	if from := policy.Network.DenyFrom; len(from) != 2 || !strings.HasSuffix(from[0], "web.toml:10") || from[1] != FromAnnotation {
		t.Errorf("the deny rules come from %q", from)
	}
	policy.Network.DenyFrom = nil
	want := Policy{
		Profiles:  []string{"web"},
		Isolation: Namespaces,
		Filesystem: Filesystem{
			Restricted: true,
			Read:       []string{"/etc", "/usr"},
			Write:      []string{"/tmp/x"},
			Deny:       []string{"/opt", "/root", "/var/lib/app/secret"},
			Mounts:     []Mount{{"/data", "/srv/data", true}, {"/more", "/srv/more", false}},
		},
		Network: Network{
			Allow: [][]string{{"10.0.0.0/8:443"}, {"tcp://10.1.0.0/16:443", "[::1]:80"}},
			Deny:  []string{"10.0.0.1", "10.0.0.2"},
		},
		Limits:      Limits{Memory: 512 << 20, Processes: 50, OpenFiles: 1024, CPU: 150, CPUCores: CPUSet{2, 3, 6}},
		Syscalls:    Syscalls{Deny: []string{"ptrace", "mount"}, Allow: []string{"@keyring"}},
		Protections: map[string]Level{"net_tcp": Degrade, "fs_refer": Strict, "signal_scope": Degrade},
	}
	if !reflect.DeepEqual(policy, want) {
		t.Errorf("got\n %+v\nwant\n %+v", policy, want)
	}
	if got, want := provenance["limits.memory"], []string{dir + "/config:10", dir + "/web.toml:12", "annotation"}; !reflect.DeepEqual(got, want) {
		t.Errorf("provenance %q, want %q", got, want)
	}
}

func TestMerge(t *testing.T) {
	for _, test := range []struct {
		name string
		from sources
		want Policy
	}{
		{"read alone lets nothing be written",
			sources{annotations: annotations{"filesystem.read": "/usr"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/usr"}}}},
		{"write implies read",
			sources{annotations: annotations{"filesystem.write": "/usr"}},
			Policy{Filesystem: Filesystem{Restricted: true, Write: []string{"/usr"}}}},
		{"a source is taken whole",
			sources{config: `filesystem.read = ["/"]`, annotations: annotations{"filesystem.write": "/tmp"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/tmp"}}}},
		{"write cannot be widened through read",
			sources{config: `filesystem.write = ["/data"]`, annotations: annotations{"filesystem.read": "/"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/data"}}}},
		{"the deeper path remains",
			sources{config: `filesystem = {read = ["/usr/lib", "/etc"]}`, annotations: annotations{"filesystem.read": "/usr;/etc/ssl;/etcetera"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/etc/ssl", "/usr/lib"}}}},
		{"nothing in common",
			sources{config: `filesystem.read = ["/usr"]`, annotations: annotations{"filesystem.read": "/us"}},
			Policy{Filesystem: Filesystem{Restricted: true}}},
		{"an empty list is given",
			sources{config: "filesystem.read = []\nnetwork.allow = []"},
			Policy{Filesystem: Filesystem{Restricted: true}, Network: Network{Allow: [][]string{{}}}}},
		{"a granted list replaces",
			sources{config: "filesystem.read = [\"/usr\"]\nnetwork.allow = [\"10.0.0.1\"]\nannotations.grant = [\"filesystem.read\", \"network.*\"]",
				annotations: annotations{"filesystem.read": "/etc", "network.allow": "*"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/etc"}}, Network: Network{Allow: [][]string{{"*"}}}}},
		{"a granted read does not widen write",
			sources{config: "filesystem.read = [\"/usr\"]\nfilesystem.write = [\"/tmp\"]\nannotations.grant = [\"filesystem.read\"]",
				annotations: annotations{"filesystem.read": "/etc", "filesystem.write": "/tmp;/var"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/etc"}, Write: []string{"/tmp"}}}},
		{"a granted write is readable",
			sources{config: "filesystem.read = [\"/usr\"]\nannotations.grant = [\"filesystem.write\"]",
				annotations: annotations{"filesystem.read": "/usr", "filesystem.write": "/var"}},
			Policy{Filesystem: Filesystem{Restricted: true, Read: []string{"/usr"}, Write: []string{"/var"}}}},
		{"bind lists: a layer for each source, denied ports add up",
			sources{config: "network.allow_bind = [\"80\", \"8000-8010\"]\nnetwork.deny_bind = [\"22\"]", annotations: annotations{"network.allow_bind": "80;443", "network.deny_bind": "22;23"}},
			Policy{Network: Network{AllowBind: [][]string{{"80", "8000-8010"}, {"80", "443"}}, DenyBind: []string{"22", "23"}}}},
		{"bind lists, granted",
			sources{config: "network.allow_bind = [\"80\"]\nannotations.grant = [\"network.allow_bind\"]", annotations: annotations{"network.allow_bind": "*"}},
			Policy{Network: Network{AllowBind: [][]string{{"*"}}}}},
		{"a granted denial and limit are replaced",
			sources{config: "network.deny = [\"a\"]\nlimits.processes = 5\nannotations.grant = [\"network.deny\", \"limits.processes\"]",
				annotations: annotations{"network.deny": "b", "limits.processes": "9"}},
			Policy{Network: Network{Deny: []string{"b"}}, Limits: Limits{Processes: 9}}},
		{"a port space stays",
			sources{config: "network.port_remap = true", annotations: annotations{"network.port_remap": "no"}},
			Policy{Network: Network{PortRemap: true}}},
		{"a port space is granted away",
			sources{config: "network.port_remap = true\nannotations.grant = [\"network.port_remap\"]", annotations: annotations{"network.port_remap": "no"}},
			Policy{}},
		{"a port space is asked for",
			sources{annotations: annotations{"network.port_remap": "on"}},
			Policy{Network: Network{PortRemap: true}}},
		{"a limit cannot be raised",
			sources{config: "limits.processes = 5", annotations: annotations{"limits.processes": "9"}},
			Policy{Limits: Limits{Processes: 5}}},
		{"a granted syscall",
			sources{config: `annotations.grant = ["syscalls.allow"]`, annotations: annotations{"syscalls.allow": "bpf"}},
			Policy{Syscalls: Syscalls{Allow: []string{"bpf"}}}},
		{"fewer syscalls",
			sources{config: `syscalls.allow = ["bpf", "swapon"]`, annotations: annotations{"syscalls.allow": "bpf"}},
			Policy{Syscalls: Syscalls{Allow: []string{"bpf"}}}},
		{"a granted protection",
			sources{config: `annotations.grant = ["protection.*"]`, annotations: annotations{"protection.net_tcp": "off"}},
			Policy{Protections: map[string]Level{"net_tcp": Off}}},
		{"a tightened protection",
			sources{config: `degradable = ["net_tcp"]`, annotations: annotations{"protection.net_tcp": "strict"}},
			Policy{Protections: map[string]Level{"net_tcp": Strict}}},
		{"a granted mount changes one",
			sources{config: "filesystem.mount = [\"/a:/x\", \"/b:/y\"]\nannotations.grant = [\"filesystem.*\"]",
				annotations: annotations{"filesystem.mount": "/a:/z:ro"}},
			Policy{Filesystem: Filesystem{Mounts: []Mount{{"/a", "/z", true}, {"/b", "/y", false}}}}},
		{"an allowed mount adds",
			sources{config: "filesystem.mount = [\"/a:/x\"]\nannotations.allow = [\"filesystem.mount\"]",
				annotations: annotations{"filesystem.mount": "/b:/y;/a:/x"}},
			Policy{Filesystem: Filesystem{Mounts: []Mount{{"/a", "/x", false}, {"/b", "/y", false}}}}},
		{"one agent, twice",
			sources{config: "policy.socket = \"/run//x\"\nannotations.allow = [\"policy.socket\"]", annotations: annotations{"policy.socket": "/run/x"}},
			Policy{Socket: "/run/x"}},
		{"another agent, granted",
			sources{config: "policy.socket = \"/x\"\nannotations.grant = [\"policy.socket\"]", annotations: annotations{"policy.socket": "/y"}},
			Policy{Socket: "/y"}},
		{"isolation stays",
			sources{config: `isolation = "namespaces"`, annotations: annotations{"isolation": "auto"}},
			Policy{Isolation: Namespaces}},
		{"the default profile",
			sources{config: `profiles.default = "a"`, profiles: map[string]string{"a": "limits.cpu = 50"}},
			Policy{Profiles: []string{"a"}, Limits: Limits{CPU: 50}}},
		{"the option before the default",
			sources{config: `profiles.default = "a"`, profile: "b", profiles: map[string]string{"a": "limits.cpu = 50", "b": "limits.cpu = 70"}},
			Policy{Profiles: []string{"b"}, Limits: Limits{CPU: 70}}},
		{"the annotation's profile comes on top",
			sources{profile: "a", annotations: annotations{"profile": "b"},
				profiles: map[string]string{"a": "limits.cpu = 50", "b": "limits.cpu = 70\nlimits.memory = \"1K\""}},
			Policy{Profiles: []string{"a", "b"}, Limits: Limits{CPU: 50, Memory: 1024}}},
		{"the annotation's profile is the same",
			sources{profile: "a", annotations: annotations{"profile": "a"}, profiles: map[string]string{"a": "limits.cpu = 50"}},
			Policy{Profiles: []string{"a"}, Limits: Limits{CPU: 50}}},
		{"the annotation's profile is granted",
			sources{config: `annotations.grant = ["profile"]`, profile: "a", annotations: annotations{"profile": "b"},
				profiles: map[string]string{"a": "limits.cpu = 50", "b": "limits.cpu = 70"}},
			Policy{Profiles: []string{"b"}, Limits: Limits{CPU: 70}}},
		{"only listed annotations, and one is",
			sources{config: `annotations.allow = ["limits.*"]`, annotations: annotations{"limits.cpu": "5"}},
			Policy{Limits: Limits{CPU: 5}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := test.from.load(t)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Network.DenyFrom) != len(got.Network.Deny) {
				t.Errorf("%d deny rules come from %q", len(got.Network.Deny), got.Network.DenyFrom)
			}
			got.Provenance, got.Network.DenyFrom = nil, nil
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got\n %+v\nwant\n %+v", got, test.want)
			}
		})
	}
}

// TestEveryKeyIsMerged proves that a key that is accepted leaves its mark.
func TestEveryKeyIsMerged(t *testing.T) {
	examples := map[Kind]string{
		Count: "7", Size: "7", CPUs: "0", Paths: "/a", Mounts: "/a:/b", Endpoints: "a", PortLists: "80", Names: "a", HostPath: "/a", Bool: "yes",
	}
	for _, key := range Keys() {
		if key.Later || key.Only != "" {
			continue
		}
		value := examples[key.Kind]
		if key.Kind == Word {
			value = key.Words[len(key.Words)-1]
		}
		policy, _, err := sources{
			config:      `annotations.grant = ["` + key.Name + `"]`,
			annotations: annotations{key.Name: value},
		}.load(t)
		if err != nil {
			t.Errorf("%s: %v", key.Name, err)
			continue
		}
		if !reflect.DeepEqual(policy.Provenance[key.Name], []string{"annotation"}) {
			t.Errorf("%s: provenance %q", key.Name, policy.Provenance)
		}
		policy.Provenance = nil
		if reflect.DeepEqual(policy, Policy{}) {
			t.Errorf("%s=%s changes nothing", key.Name, value)
		}
	}
}

func TestPolicyJSON(t *testing.T) {
	policy, _, err := sources{
		config: "network.allow = []\nfilesystem.read = []\nlimits.cpu_cores = \"0-2,5\"\nfilesystem.mount = [\"/a:/b:ro\"]\nprotection.net_tcp = \"off\"",
	}.load(t)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	var back Policy
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, policy) {
		t.Errorf("%s\nback %+v\nwas  %+v", text, back, policy)
	}
	policy.Provenance = nil
	text, _ = json.Marshal(policy)
	const want = `{"filesystem":{"restricted":true,"mounts":[{"container":"/a","host":"/b","readOnly":true}]},` +
		`"network":{"allow":[[]]},"limits":{"cpuCores":"0-2,5"},"protections":{"net_tcp":"off"}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// TestProfilesDirectoryIsAbsolute cannot use sources, which give their own.
func TestProfilesDirectoryIsAbsolute(t *testing.T) {
	_, err := parseOperator("config", []byte(`profiles.directory = "profiles"`))
	const want = `config:1: profiles.directory: "profiles": expected an absolute path`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func BenchmarkLoadNothing(b *testing.B) {
	annotations := annotations{"org.example.note": "x"}
	for b.Loop() {
		if _, err := Load(Options{Annotations: annotations}); err != nil {
			b.Fatal(err)
		}
	}
}
