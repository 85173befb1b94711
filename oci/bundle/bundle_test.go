package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// minimal is a spec with every namespace and nothing else that is optional.
const minimal = `{
	"ociVersion": "1.2.0",
	"process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sh"], "cwd": "/"},
	"root": {"path": "rootfs"},
	"linux": {"namespaces": [
		{"type": "pid"}, {"type": "network"}, {"type": "mount"}, {"type": "ipc"},
		{"type": "uts"}, {"type": "cgroup"}
	]}
}`

// writeBundle makes a bundle directory with a rootfs and the config.
func writeBundle(t testing.TB, config []byte) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigName), config, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLoadMinimal(t *testing.T) {
	dir := writeBundle(t, []byte(minimal))
	bundle, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if bundle.Path != dir || bundle.RootFS != filepath.Join(dir, "rootfs") {
		t.Errorf("path %q, rootfs %q", bundle.Path, bundle.RootFS)
	}
	if len(bundle.Warnings) != 0 {
		t.Errorf("warnings %q", bundle.Warnings)
	}
	if bundle.Spec.Process.Args[0] != "/bin/sh" {
		t.Errorf("args %q", bundle.Spec.Process.Args)
	}
}

func TestLoadDefaultsToWorkingDirectory(t *testing.T) {
	dir := writeBundle(t, []byte(minimal))
	t.Chdir(dir)
	bundle, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if bundle.Path != dir {
		t.Errorf("path %q, want %q", bundle.Path, dir)
	}
}

func TestLoadResolvesBundlePath(t *testing.T) {
	dir := writeBundle(t, []byte(minimal))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	bundle, err := Load(link)
	if err != nil {
		t.Fatal(err)
	}
	if bundle.Path != dir || bundle.RootFS != filepath.Join(dir, "rootfs") {
		t.Errorf("path %q, rootfs %q", bundle.Path, bundle.RootFS)
	}
}

// dockerConfig is what Docker 20.10 wrote for "docker run", but for ids and paths.
func dockerConfig(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDockerConfigIsAccepted(t *testing.T) {
	spec, err := Parse(dockerConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := Validate(spec)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 0 {
		t.Errorf("warnings %q", warnings)
	}
}

func TestLoadErrors(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(minimal, old) {
			t.Fatalf("%q is not in the minimal config", old)
		}
		return strings.Replace(minimal, old, new, 1)
	}
	for _, test := range []struct {
		name   string
		config string
		damage func(t *testing.T, dir string)
		want   string // DIR stands for the bundle
	}{
		{"no config", minimal, func(t *testing.T, dir string) { remove(t, dir, ConfigName) },
			"DIR/config.json: no such file or directory"},
		{"config is a directory", minimal, func(t *testing.T, dir string) {
			remove(t, dir, ConfigName)
			mkdir(t, dir, ConfigName)
		}, "DIR/config.json: is a directory"},
		{"empty", "", nil, "DIR/config.json: line 1, column 1: unexpected end of JSON input"},
		{"truncated", minimal[:60], nil, "DIR/config.json: line 3, column 34: unexpected end of JSON input"},
		{"trailing comma", "{\n\t\"ociVersion\": \"1.0.0\",\n}", nil,
			"DIR/config.json: line 3, column 1: invalid character '}' looking for beginning of object key string"},
		{"two documents", minimal + "{}", nil, "DIR/config.json: line 9, column 2: invalid character '{' after top-level value"},
		{"null", "null", nil, "DIR/config.json: expected object, found null"},
		{"array", "[]", nil, "DIR/config.json: expected object, found array"},
		{"wrong type", replace(`["/bin/sh"]`, `"/bin/sh"`), nil, "DIR/config.json: process.args: expected array, found string"},
		{"wrong element", replace(`["/bin/sh"]`, `["/bin/sh", 1]`), nil, "DIR/config.json: process.args[1]: expected string, found number"},
		{"wrong in array of objects", replace(`{"type": "ipc"}`, `{"type": 4}`), nil,
			"DIR/config.json: linux.namespaces[3].type: expected string, found number"},
		{"negative uid", replace(`"uid": 0`, `"uid": -1`), nil,
			"DIR/config.json: process.user.uid: expected integer from 0 to 4294967295, found number -1"},
		{"wrong in map", replace(`"linux": {`, `"linux": {"sysctl": {"net.ipv4.x": 5}, `), nil,
			`DIR/config.json: linux.sysctl["net.ipv4.x"]: expected string, found number`},
		{"NUL", replace(`["/bin/sh"]`, `["/bin/sh", "a\u0000b"]`), nil, "DIR/config.json: process.args[1]: contains a NUL byte"},
		{"NUL in map", replace(`"linux": {`, `"annotations": {"a.b": "\u0000"}, "linux": {`), nil,
			`DIR/config.json: annotations["a.b"]: contains a NUL byte`},
		{"no root", replace(`"root": {"path": "rootfs"},`, ``), nil, "DIR/config.json: root: missing"},
		{"no root path", replace(`{"path": "rootfs"}`, `{}`), nil, "DIR/config.json: root.path: missing"},
		{"no rootfs", minimal, func(t *testing.T, dir string) { remove(t, dir, "rootfs") },
			"DIR/config.json: root.path: DIR/rootfs: no such file or directory"},
		{"rootfs is a file", minimal, func(t *testing.T, dir string) {
			remove(t, dir, "rootfs")
			if err := os.WriteFile(filepath.Join(dir, "rootfs"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "DIR/config.json: root.path: DIR/rootfs is not a directory"},
		{"rootfs is a link", minimal, func(t *testing.T, dir string) {
			remove(t, dir, "rootfs")
			mkdir(t, dir, "other")
			if err := os.Symlink("other", filepath.Join(dir, "rootfs")); err != nil {
				t.Fatal(err)
			}
		}, "DIR/config.json: root.path: DIR/rootfs is or lies behind a symbolic link, to DIR/other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := writeBundle(t, []byte(test.config))
			if test.damage != nil {
				test.damage(t, dir)
			}
			bundle, err := Load(dir)
			wantError(t, err, strings.ReplaceAll(test.want, "DIR", dir))
			if bundle != nil {
				t.Error("a bundle was returned beside the error")
			}
		})
	}
}

func TestLoadRefusesLargeConfig(t *testing.T) {
	dir := writeBundle(t, nil)
	file := filepath.Join(dir, ConfigName)
	if err := os.Truncate(file, maxDocument+1); err != nil {
		t.Fatal(err)
	}
	_, err := Load(dir)
	wantError(t, err, file+": larger than 16 MiB")
}

func TestLoadNoBundle(t *testing.T) {
	_, err := Load("/nonexistent/bundle")
	wantError(t, err, "bundle /nonexistent/bundle: no such file or directory")
}

// dockerOfSize is the Docker config with an environment that makes it as large.
func dockerOfSize(t testing.TB, size int) []byte {
	t.Helper()
	spec, err := Parse(dockerConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	spec.Root.Path = "rootfs"
	for {
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) >= size {
			return data
		}
		for range 1 + (size-len(data))/64 {
			spec.Process.Env = append(spec.Process.Env, "SERVICE_ADDRESS=tcp://service.default.svc.cluster.local:443")
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, size := range []int{0, 60_000} {
		data := dockerOfSize(b, size)
		b.Run(fmt.Sprintf("%dKB", len(data)/1000), func(b *testing.B) {
			dir := writeBundle(b, data)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := Load(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add(dockerConfig(f))
	f.Add([]byte(`{"process":{"args":["a\u0000"]}}`))
	f.Add([]byte(`{"mounts":[{},{"destination":[[]]}]}`))
	f.Add([]byte(`{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":"s"}]}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := Parse(data)
		if err == nil {
			_, err = Validate(spec)
		}
		if err == nil && (spec.Process == nil || spec.Root == nil || len(spec.Process.Args) == 0) {
			t.Error("accepted without process, root or args")
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\x00") || err.Error() == "") {
			t.Errorf("not one line: %q", err)
		}
		if err == nil && bytes.IndexByte([]byte(spec.Process.Cwd+spec.Root.Path), 0) >= 0 {
			t.Error("accepted a NUL byte")
		}
	})
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if err.Error() != want {
		t.Errorf("error\n %q\nwant\n %q", err, want)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}
