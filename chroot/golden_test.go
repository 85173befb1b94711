package chroot

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// dockerSpec is the root, mounts and paths that dockerd 20.10 wrote for `docker run busybox`.
func dockerSpec(t testing.TB) *specs.Spec {
	t.Helper()
	raw, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(raw, spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update writes it anew", file)
	}
}

// legacyCgroups is a hybrid host such as older Debian and Ubuntu systems.
var legacyCgroups = Cgroups{Version: 1, Hierarchies: []Hierarchy{
	{Names: []string{"cpu", "cpuacct"}, MountPoint: "/sys/fs/cgroup/cpu,cpuacct", Path: "/sys/fs/cgroup/cpu,cpuacct/docker/c0ffee"},
	{Names: []string{"memory"}, MountPoint: "/sys/fs/cgroup/memory", Path: "/sys/fs/cgroup/memory/docker/c0ffee"},
	{Names: []string{"name=systemd"}, MountPoint: "/sys/fs/cgroup/systemd", Path: "/sys/fs/cgroup/systemd/docker/c0ffee"},
}}

var unifiedCgroups = Cgroups{Version: 2, Namespace: true, Hierarchies: []Hierarchy{{MountPoint: "/sys/fs/cgroup", Path: "/sys/fs/cgroup/docker/c0ffee"}}}

func goldenRequests(t *testing.T) map[string]MapRequest {
	request := func(c Cgroups) MapRequest {
		return MapRequest{Spec: dockerSpec(t), RootFS: "/var/lib/docker/overlay2/abc/merged", Bundle: "/run/bundle", Cgroups: c, KernelCore: true}
	}
	legacy, unified := request(legacyCgroups), request(unifiedCgroups)
	legacyNamespace := request(legacyCgroups)
	legacyNamespace.Cgroups.Namespace = true
	mapped := request(unifiedCgroups)
	mapped.UserNamespace = true
	mapped.Denied = []string{"/etc/shadow", "/srv", "/srv/data", "/srv!"}
	mapped.Spec.Root.Readonly = true
	mapped.Extra = []specs.Mount{{Destination: "/cache", Type: "bind", Source: "/srv/cache", Options: []string{"rbind", "ro"}}}
	return map[string]MapRequest{"docker-v1": legacy, "docker-v1-namespace": legacyNamespace, "docker-v2": unified, "user-namespace": mapped}
}

func TestGoldenMap(t *testing.T) {
	for name, r := range goldenRequests(t) {
		t.Run(name, func(t *testing.T) {
			m, err := NewMap(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.MarshalIndent(m, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".map.json", string(text)+"\n")
		})
	}
}

func TestGoldenProgram(t *testing.T) {
	for name, r := range goldenRequests(t) {
		t.Run(name, func(t *testing.T) {
			m, err := NewMap(r)
			if err != nil {
				t.Fatal(err)
			}
			s := pretend(m)
			p := launch.New()
			root := s.Steps(p)
			p.Sync("hooks")
			s.Pivot(p, root)
			s.Finish(p, root)
			p.Execve("/bin/true", launch.Strings([]string{"true"}, ""), launch.Strings(nil, "environment"))
			golden(t, name+".program", p.String())
		})
	}
}

// pretend is Open without looking at the machine: every descriptor is a number counted up from 10.
func pretend(m Map) *Sources {
	next := 9
	number := func() int { next++; return next }
	s := &Sources{m: m, root: number(), null: -1, empty: -1}
	for _, e := range m.Entries {
		o := source{mount: -1, isDirectory: true}
		if e.Kind == Bind || e.Fallback != "" {
			o.mount, o.isDirectory = number(), e.Kind == Bind && e.Destination[:5] != "/etc/"
		}
		s.entries = append(s.entries, o)
	}
	for range m.Devices {
		s.devices = append(s.devices, number())
	}
	s.null, s.empty, s.denied = number(), number(), deniedObjects{number(), number(), -1}
	return s
}
