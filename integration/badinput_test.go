package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// What is wrong with a bundle is said in one line that names the field, by create, and nothing is left behind.
func TestBadBundles(t *testing.T) {
	cases := []struct {
		name   string
		change func(b *bundle)
		words  []string // of the message, in sandlock-runtime's
		own    bool     // runc accepts it
	}{
		{name: "no process", change: func(b *bundle) { b.spec.Process = nil }, words: []string{"config.json", "process"}},
		{name: "no args", change: func(b *bundle) { b.spec.Process.Args = nil }, words: []string{"process.args"}},
		{name: "relative cwd", change: func(b *bundle) { b.spec.Process.Cwd = "tmp" }, words: []string{"process.cwd", "tmp"}},
		{name: "empty cwd", change: func(b *bundle) { b.spec.Process.Cwd = "" }, words: []string{"process.cwd"}},
		{name: "no root", change: func(b *bundle) { b.spec.Root = nil }, words: []string{"root"}},
		{name: "missing rootfs", change: func(b *bundle) { b.spec.Root.Path = "/no/such/root" }, words: []string{"root.path", "/no/such/root"}},
		{name: "rootfs is a file", change: func(b *bundle) { b.spec.Root.Path = filepath.Join(b.root, "etc/passwd") }, words: []string{"root.path"}},
		{name: "unknown version", change: func(b *bundle) { b.spec.Version = "7.0.0" }, words: []string{"ociVersion", "7.0.0"}, own: true},
		{name: "no version", change: func(b *bundle) { b.spec.Version = "" }, words: []string{"ociVersion"}, own: true},
		{name: "malformed version", change: func(b *bundle) { b.spec.Version = "one" }, words: []string{"ociVersion", "one"}, own: true},
		{name: "unknown namespace", change: func(b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "nonsense"})
		}, words: []string{"linux.namespaces", "nonsense"}},
		{name: "namespace twice", change: func(b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
		}, words: []string{"linux.namespaces", "pid"}},
		{name: "missing namespace path", change: func(b *bundle) { b.spec.Linux.Namespaces[1].Path = "/no/such/netns" }, words: []string{"linux.namespaces", "/no/such/netns"}},
		{name: "namespace path of the wrong type", change: func(b *bundle) { b.spec.Linux.Namespaces[1].Path = "/proc/self/ns/uts" }, words: []string{"linux.namespaces", "/proc/self/ns/uts"}},
		{name: "unknown rlimit", change: func(b *bundle) {
			b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONSENSE", Soft: 1, Hard: 1}}
		}, words: []string{"process.rlimits", "RLIMIT_NONSENSE"}},
		{name: "missing mount source", change: func(b *bundle) { b.mount("/m", "bind", "/no/such/source", "rbind") }, words: []string{"mounts", "/no/such/source"}},
		{name: "unknown filesystem type", change: func(b *bundle) { b.mount("/m", "nonsensefs", "x") }, words: []string{"mounts", "nonsensefs"}},
		{name: "bad mount option", change: func(b *bundle) { b.mount("/m", "tmpfs", "tmpfs", "size=nonsense") }, words: []string{"mounts", "/m"}},
		{name: "hostname without its namespace", change: func(b *bundle) { b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[:2] }, words: []string{"hostname"}},
		{name: "sysctl of the host", change: func(b *bundle) { b.spec.Linux.Sysctl["kernel.panic"] = "1" }, words: []string{"linux.sysctl", "kernel.panic"}},
		{name: "user namespace without mappings", change: func(b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, words: []string{"linux.uidMappings"}},
		{name: "unknown seccomp action", change: func(b *bundle) { b.spec.Linux.Seccomp.DefaultAction = "SCMP_ACT_NONSENSE" }, words: []string{"linux.seccomp", "SCMP_ACT_NONSENSE"}},
		{name: "missing hook", change: func(b *bundle) {
			b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/no/such/hook"}}}
		}, words: []string{"createRuntime", "/no/such/hook"}},
		{name: "mount that fails after a hop into namespaces", own: true, change: func(b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			b.mount("/m", "nosuchfs", "x")
		}, words: []string{"mounts", "/m", "nosuchfs"}},
		{name: "missing binary", change: func(b *bundle) { b.spec.Process.Args = []string{"/no/such/binary"} }, words: []string{"/no/such/binary"}},
		{name: "missing binary on the PATH", change: func(b *bundle) { b.spec.Process.Args = []string{"nosuchbinary"} }, words: []string{"nosuchbinary"}},
		{name: "binary that may not be executed", change: func(b *bundle) { b.spec.Process.Args = []string{"/etc/passwd"} }, words: []string{"/etc/passwd"}},
		{name: "binary that is a directory", change: func(b *bundle) { b.spec.Process.Args = []string{"/etc"} }, words: []string{"/etc"}},
		{name: "NUL in an argument", change: func(b *bundle) { b.spec.Process.Args = []string{"/bin/echo", "a\x00b"} }, words: []string{"process.args"}, own: true},
		{name: "NUL in the environment", change: func(b *bundle) { b.spec.Process.Env = []string{"A=\x00"} }, words: []string{"process.env"}, own: true},
		{name: "unknown annotation of ours", own: true, change: func(b *bundle) { b.annotate("io.sandlock.network.alow", "*:80") },
			words: []string{"io.sandlock.network.alow", "io.sandlock.network.allow"}},
		{name: "bad rule", own: true, change: func(b *bundle) { b.annotate("io.sandlock.network.allow", "10.0.0.1:99999") },
			words: []string{"io.sandlock.network.allow", "99999"}},
		{name: "host key in an annotation", own: true, change: func(b *bundle) { b.annotate("io.sandlock.policy.socket", "/run/x.sock") },
			words: []string{"io.sandlock.policy.socket"}},
		{name: "path of the policy that does not exist", own: true, change: func(b *bundle) { b.annotate("io.sandlock.filesystem.read", "/bin;/no/such/path") },
			words: []string{"io.sandlock.filesystem.read", "/no/such/path"}},
		{name: "policy that does not let the workload start", own: true, change: func(b *bundle) { b.annotate("io.sandlock.filesystem.read", "/etc") },
			words: []string{"/bin/true"}},
	}
	for _, c := range cases {
		if c.own && !ours {
			t.Logf("%s: of sandlock-runtime alone, left out", c.name)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			r := newRuntime(t)
			b := newBundle(t, "/bin/true")
			c.change(b)
			r.runBundle(t, b).refused(t, c.words...)
			assertNothingLeft(t, r, b)
			if t.Failed() {
				return
			}
			// A binary that is missing may be told by create or by start; all else by create.
			if res := r.run(t, "create", "--bundle", b.dir, b.id); res.code == 0 {
				r.run(t, "start", b.id).refused(t, c.words...)
				r.must(t, "delete", "--force", b.id)
			}
			assertNothingLeft(t, r, b)
		})
	}
}

func TestBadJSON(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"empty":      {"", []string{"config.json"}},
		"not JSON":   {"{ociVersion", []string{"config.json"}},
		"cut short":  {`{"ociVersion": "1.0.2", "process": {`, []string{"config.json"}},
		"wrong type": {`{"ociVersion": "1.0.2", "process": {"args": "a string"}}`, []string{"config.json", "process.args"}},
		"an array":   {`[]`, []string{"config.json"}},
		"null":       {`null`, []string{"config.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := newBundle(t, "/bin/true")
			writeFile(t, b.dir, "config.json", c.text, 0o644)
			r.run(t, "create", "--bundle", b.dir, b.id).refused(t, c.words...)
			assertNothingLeft(t, r, b)
		})
	}
}

func TestMissingBundle(t *testing.T) {
	r := newRuntime(t)
	r.run(t, "create", "--bundle", "/no/such/bundle", "x").refused(t, "/no/such/bundle")
	empty := shortTempDir(t)
	r.run(t, "create", "--bundle", empty, "x").refused(t, "config.json")
	if ids := r.ids(t); len(ids) > 0 {
		t.Errorf("left: %q", ids)
	}
}

// The monitor of a create that fails at once may have ended before the process that was called gets to run again.
func TestCreatesThatFailAtOnceEnd(t *testing.T) {
	r := newRuntime(t)
	missing := filepath.Join(t.TempDir(), "missing")
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 16 {
				ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
				cmd := r.command(ctx, "create", "--bundle", missing, "quick")
				_ = cmd.Run() // the exit code says it
				if code := exitCode(cmd.ProcessState); code != 1 || ctx.Err() != nil {
					t.Errorf("create of a missing bundle: exit code %d, %v", code, ctx.Err())
				}
				cancel()
			}
		})
	}
	group.Wait()
}

func TestBadIDs(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/true")
	b.write(t)
	for _, id := range []string{"", ".", "..", "../escape", "a/b", "/abs", "two words", "new\nline", "semi;colon", "ümlaut", strings.Repeat("x", 2000)} {
		r.run(t, "create", "--bundle", b.dir, id).refused(t)
		for _, verb := range []string{"state", "start", "delete", "pause"} {
			if res := r.run(t, verb, id); res.code == 0 {
				t.Errorf("%s %q: %v", verb, id, res)
			}
		}
	}
	if ids := r.ids(t); len(ids) > 0 {
		t.Errorf("left: %q", ids)
	}
	if res := r.run(t, "create", "--bundle", b.dir); res.code == 0 {
		t.Error("create without an id was accepted")
	}
	for _, id := range []string{"a", "A-b_c.d+e", strings.Repeat("y", 64)} {
		if res := r.run(t, "run", "--bundle", b.dir, id); res.code != 0 {
			t.Errorf("the id %q: %v", id, res)
		}
	}
}

func TestIDAlreadyInUse(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	c := r.start(t, b)
	r.run(t, "create", "--bundle", b.dir, b.id).refused(t, b.id)
	if state := r.state(t, b.id); state.Status != specs.StateRunning || state.Pid != c.pid {
		t.Errorf("the second create changed the first container: %+v", state)
	}
}

func TestUnknownFlagsAndVerbs(t *testing.T) {
	r := newRuntime(t)
	if res := r.run(t, "list", "--nonsense"); res.code == 0 {
		t.Error(res)
	}
	if res := r.run(t, "nonsense"); res.code == 0 {
		t.Error(res)
	}
}

func TestReadOnlyStateRoot(t *testing.T) {
	dir := shortTempDir(t)
	mountTmpfs(t, dir, unix.MS_RDONLY, "")
	r := newRuntimeAt(t, dir)
	b := newBundle(t, "/bin/true")
	r.runBundle(t, b).refused(t, dir)
	assertNothingLeft(t, r, b)
}

func TestFullStateRoot(t *testing.T) {
	dir := shortTempDir(t)
	mountTmpfs(t, dir, 0, "size=4k")
	r := newRuntimeAt(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "/bin/true")
	r.runBundle(t, b).refused(t, "no space left on device")
	assertNothingLeft(t, r, b)
}

// mountTmpfs mounts a tmpfs on dir until the test is over.
func mountTmpfs(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// A tampered or half-written state is an error for every verb, and delete --force clears it.
func TestBrokenState(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	c := r.start(t, b)
	path := filepath.Join(r.root, b.id, "state.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(whole, &state); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", string(whole[:len(whole)/2]), fmt.Sprintf("%q", "a string")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.run(t, "state", b.id).refused(t, b.id)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if state := r.state(t, b.id); state.Pid != c.pid {
		t.Errorf("%+v", state)
	}
}
