package policy

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestErrors has the golden messages.
func TestErrors(t *testing.T) {
	config := func(text, want string) (string, sources, string) {
		return text, sources{config: text}, "DIR/config:" + want
	}
	annotation := func(key, value, want string) (string, sources, string) {
		return key + " " + value[:min(len(value), 30)], sources{annotations: annotations{key: value}}, "io.sandlock." + want
	}
	type test struct {
		name string
		from sources
		want string
	}
	row := func(name string, from sources, want string) test { return test{name, from, want} }
	for _, test := range []test{
		// Keys. The line that names the profiles comes first.
		row(config("[network]\nalow = []", "3: network.alow: unknown key, nearest is network.allow")),
		row(config("[netwrk]\nallow = []", "2: netwrk: unknown table, nearest is network")),
		row(config("network = 5", "2: network: expected a table")),
		row(config("[[network]]\nallow = []", "2: network: expected one table, found an array of them")),
		row(config("[isolation]\nx = 1", "2: isolation: expected a string, found a table")),
		row(config("network = {allow = [], dney = []}", "2: network.dney: unknown key, nearest is network.deny")),
		row(config(`"network.allow" = []`, "2: network.allow: write section and key without quotes")),
		row(config("profile = \"x\"", "2: profile: belongs in annotations")),
		row(config("[http]\nallow = [\"GET x/*\"]", "3: http.allow: not supported by this version yet")),
		row(config("\"a\\nb\" = 1", `2: "a\nb": unknown key, nearest is isolation`)),
		row(config("isolation =", "2: expected value, not end of input")),
		row(config("isolation = \"auto\"\nisolation = \"auto\"", "3: key isolation is already defined")),
		// Types.
		row(config("network.allow = \"x\"", "2: network.allow: expected an array of strings, found a string")),
		row(config("network.allow = [\"x\", 1]", "2: network.allow: expected an array of strings, found an integer in it")),
		row(config("isolation = true", "2: isolation: expected a string, found a boolean")),
		row(config("limits.cpu = 1.5", "2: limits.cpu: expected an integer, found a float")),
		row(config("limits.memory = [1]", "2: limits.memory: expected a string or an integer, found an array")),
		row(config("limits.memory = 2020-01-01", "2: limits.memory: expected a string or an integer, found a date or time")),
		row(config("network.allow = [\"\"]", "2: network.allow: empty element in the list")),
		// The operator's own keys.
		row(config(`annotations.allow = ["network.alow"]`, `2: annotations.allow: "network.alow": unknown key, nearest is network.allow`)),
		row(config(`annotations.grant = ["net.*"]`, `2: annotations.grant: "net.*": unknown section, nearest is network.*`)),
		row(config(`annotations.grant = ["profiles.default"]`, `2: annotations.grant: "profiles.default": unknown key, nearest is profile`)),
		row(config(`degradable = ["net_udp"]`, `2: degradable: "net_udp": unknown protection, nearest is net_tcp`)),
		row(config(`profiles.default = "../x"`, `2: profiles.default: "../x": expected a name of letters, digits, '.', '_' and '-'`)),
		row(config(`profiles.default = ".."`, `2: profiles.default: "..": a name cannot begin with '.'`)),
		row(annotation("limits.ram", "5", "limits.ram: unknown key, nearest is io.sandlock.limits.cpu")),
		{"absent profile", sources{profile: "nope", profiles: map[string]string{"nape": ""}},
			`--profile: "nope": no such profile in DIR, nearest is nape`},
		{"absent default", sources{config: `profiles.default = "nope"`}, `DIR/config: profiles.default: "nope": no such profile in DIR`},

		// Annotations.
		row(annotation("network.alow", "x", "network.alow: unknown key, nearest is io.sandlock.network.allow")),
		row(annotation("", "x", ": unknown key, nearest is io.sandlock.profile")),
		row(annotation("network", "x", "network: unknown key, nearest is io.sandlock.network.allow")),
		row(annotation("profiles.directory", "/x", "profiles.directory: unknown key, nearest is io.sandlock.profile")),
		row(annotation("annotations.grant", "x", "annotations.grant: unknown key, nearest is io.sandlock.isolation")),
		row(annotation("http.allow", "GET x/*", "http.allow: not supported by this version yet")),
		row(annotation("policy.socket", "/x", "policy.socket: reaches the host, so the operator's annotations.grant must list policy.socket")),
		row(config(`policy.socket = "run/x"`, `2: policy.socket: "run/x": expected an absolute path`)),
		row(config(`policy.socket = ["/x"]`, `2: policy.socket: expected a string, found an array`)),
		row(config(`policy.socket = ""`, `2: policy.socket: empty`)),
		{"two agents", sources{config: "policy.socket = \"/x\"\nannotations.allow = [\"policy.socket\"]", annotations: annotations{"policy.socket": "/y"}},
			`io.sandlock.policy.socket: "/y": an earlier source has the agent at /x`},
		row(annotation("filesystem.mount", "/a:/b", "filesystem.mount: reaches the host, so the operator's annotations.grant must list filesystem.mount")),
		row(annotation("isolation", "process", `isolation: "process": not supported by this version yet`)),
		row(annotation("isolation", "full", `isolation: "full": expected one of process, auto, namespaces`)),
		row(annotation("isolation", "", `isolation: empty`)),
		row(annotation("network.allow", "a;;b", "network.allow: empty element in the list")),
		row(annotation("network.allow", "", "network.allow: empty element in the list")),
		row(annotation("network.allow", "a;", "network.allow: empty element in the list")),
		row(annotation("network.allow", "a\nb", `network.allow: "a\nb": contains a NUL byte or a line break`)),
		row(annotation("network.allow", strings.Repeat("a;", maxRules)+"a", "network.allow: more than 16384 elements")),
		row(annotation("filesystem.read", strings.Repeat("/a;", maxElements)+"/a", "filesystem.read: more than 1024 elements")),
		row(annotation("network.allow", strings.Repeat("a", maxElement+1), `network.allow: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...": longer than 4096 bytes`)),
		row(annotation("filesystem.read", "usr", `filesystem.read: "usr": expected an absolute path`)),
		row(annotation("filesystem.read", "/a/../b", `filesystem.read: "/a/../b": ".." is not allowed in a path`)),
		row(annotation("limits.memory", "5X", `limits.memory: "5X": expected bytes from 1, with K, M, G or T after them for powers of 1024`)),
		row(annotation("limits.memory", "-5", `limits.memory: "-5": expected bytes from 1, with K, M, G or T after them for powers of 1024`)),
		row(annotation("limits.memory", "9999999T", `limits.memory: "9999999T": too large`)),
		row(annotation("limits.processes", "0", `limits.processes: "0": expected a whole number from 1`)),
		row(annotation("limits.cpu", "9999999", `limits.cpu: "9999999": more than 819200 percent`)),
		row(annotation("limits.cpu_cores", "3-1", `limits.cpu_cores: "3-1": expected CPU numbers and ranges, as 0-3,5`)),
		row(annotation("limits.cpu_cores", "0-9999", `limits.cpu_cores: "0-9999": a CPU number above 8191`)),
		row(annotation("syscalls.deny", "Mount", `syscalls.deny: "Mount": expected the name of a syscall or of a group, in lower case`)),
		row(annotation("protection.net_tcp", "weak", `protection.net_tcp: "weak": expected one of off, degrade, strict`)),
		row(annotation("protection.net_tcp", "off", `protection.net_tcp: "off": would loosen it from strict, so the operator's annotations.grant must list protection.net_tcp`)),
		row(annotation("syscalls.allow", "bpf", `syscalls.allow: "bpf": would lift a denial, so the operator's annotations.grant must list syscalls.allow`)),
		row(annotation("profile", "a/b", `profile: "a/b": expected a name of letters, digits, '.', '_' and '-'`)),
		row(annotation("profile", strings.Repeat("a", 200), `profile: longer than 128 bytes`)),
		row(annotation("profile", "x", `profile: "x": no such profile in DIR`)),

		// Sources against each other.
		{"annotation not allowed", sources{config: `annotations.allow = ["limits.*"]`, annotations: annotations{"network.deny": "a"}},
			"io.sandlock.network.deny: not in the operator's annotations.allow"},
		{"a wildcard does not allow host keys", sources{config: `annotations.allow = ["filesystem.*"]`, annotations: annotations{"filesystem.mount": "/a:/b"}},
			"io.sandlock.filesystem.mount: reaches the host, so the operator's annotations.grant must list filesystem.mount"},
		{"mount conflict", sources{config: "filesystem.mount = [\"/a:/x\"]\nannotations.allow = [\"filesystem.mount\"]", annotations: annotations{"filesystem.mount": "/a:/y"}},
			`io.sandlock.filesystem.mount: "/a": an earlier source mounts /x there`},
		{"mount twice", sources{config: `filesystem.mount = ["/a:/x", "/a:/y"]`},
			`DIR/config:2: filesystem.mount: "/a:/y": /a is given twice`},
		{"mount on root", sources{config: `filesystem.mount = ["//:/x"]`},
			`DIR/config:2: filesystem.mount: "//:/x": the root itself cannot be mounted over`},
		{"mount option", sources{config: `filesystem.mount = ["/a:/x:rw"]`},
			`DIR/config:2: filesystem.mount: "/a:/x:rw": expected CONTAINER:HOST or CONTAINER:HOST:ro`},
		{"no core in common", sources{config: `limits.cpu_cores = "0-1"`, annotations: annotations{"limits.cpu_cores": "2"}},
			`io.sandlock.limits.cpu_cores: "2": no CPU in common with the earlier 0-1`},
		{"a profile against the operator", sources{config: `protection.net_tcp = "strict"`, profile: "a", profiles: map[string]string{"a": `protection.net_tcp = "off"`}},
			`DIR/a.toml:1: protection.net_tcp: "off": would loosen it from strict, so the operator's annotations.grant must list protection.net_tcp`},
		{"a second profile against the default", sources{profile: "a", annotations: annotations{"profile": "b"},
			profiles: map[string]string{"a": "", "b": `protection.net_tcp = "off"`}},
			`DIR/b.toml:1: protection.net_tcp: "off": would loosen it from strict, so the operator's annotations.grant must list protection.net_tcp`},
		{"a second profile's syscalls", sources{profile: "a", annotations: annotations{"profile": "b"},
			profiles: map[string]string{"a": "", "b": `syscalls.allow = ["bpf"]`}},
			`DIR/b.toml:1: syscalls.allow: "bpf": would lift a denial, so the operator's annotations.grant must list syscalls.allow`},
		{"operator's key in a profile", sources{profile: "a", profiles: map[string]string{"a": `annotations.grant = []`}},
			`DIR/a.toml:1: annotations.grant: belongs in the operator's configuration`},
		{"bad option", sources{profile: "../etc"}, `--profile: "../etc": expected a name of letters, digits, '.', '_' and '-'`},
	} {
		t.Run(test.name, func(t *testing.T) {
			policy, dir, err := test.from.load(t)
			want := strings.ReplaceAll(test.want, "DIR", dir)
			if err == nil {
				t.Fatalf("no error, want %q", want)
			}
			if err.Error() != want {
				t.Errorf("error\n %q\nwant\n %q", err, want)
			}
			if !reflect.DeepEqual(policy, Policy{}) {
				t.Errorf("policy beside the error: %+v", policy)
			}
		})
	}
}

// TestEveryLaterKeyIsRefused proves that no key of the contract is ignored.
func TestEveryLaterKeyIsRefused(t *testing.T) {
	refused := 0
	for _, key := range Keys() {
		if !key.Later {
			continue
		}
		refused++
		_, _, err := sources{annotations: annotations{key.Name: "1"}}.load(t)
		if want := AnnotationPrefix + key.Name + ": not supported by this version yet"; err == nil || err.Error() != want {
			t.Errorf("%s: %v", key.Name, err)
		}
	}
	if refused == 0 {
		t.Error("no key is marked")
	}
}

func TestFileChecks(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	expect := func(want string) {
		t.Helper()
		if _, err := Load(Options{ConfigPath: file}); err == nil || err.Error() != file+": "+want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	expect("no such file or directory")
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	expect("not a regular file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write(t, file, "isolation = \"auto\"\n")
	if policy, err := Load(Options{ConfigPath: file}); err != nil || policy.Isolation != Auto {
		t.Errorf("a good file: %+v, %v", policy, err)
	}
	if err := os.Chmod(file, 0o646); err != nil {
		t.Fatal(err)
	}
	expect("writable by everybody")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12345, 0); err != nil {
			t.Fatal(err)
		}
		expect("owned by user 12345, expected root or the caller")
		if err := os.Chown(file, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(file, maxFile+1); err != nil {
		t.Fatal(err)
	}
	expect("larger than 1048576 bytes")
}
