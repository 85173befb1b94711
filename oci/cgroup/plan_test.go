package cgroup

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func limits(r specs.LinuxResources) *specs.Spec {
	return &specs.Spec{Linux: &specs.Linux{Resources: &r}}
}

func ptr[T any](v T) *T { return &v }

func TestRequired(t *testing.T) {
	denyAll := []specs.LinuxDeviceCgroup{{Access: "rwm"}}
	for _, tt := range []struct {
		name string
		spec *specs.Spec
		o    Options
		want string
	}{
		{"nothing", &specs.Spec{}, Options{}, ""},
		{"empty sections", limits(specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, Pids: &specs.LinuxPids{}, BlockIO: &specs.LinuxBlockIO{}}), Options{}, ""},
		{"path", &specs.Spec{Linux: &specs.Linux{CgroupsPath: "/a"}}, Options{}, "linux.cgroupsPath"},
		{"path, rootless", &specs.Spec{Linux: &specs.Linux{CgroupsPath: "/a"}}, Options{Rootless: true}, "linux.cgroupsPath"},
		{"systemd", &specs.Spec{}, Options{Systemd: true}, "--systemd-cgroup"},
		{"devices", limits(specs.LinuxResources{Devices: denyAll}), Options{}, "linux.resources.devices"},
		{"devices, rootless", limits(specs.LinuxResources{Devices: denyAll}), Options{Rootless: true}, ""},
		{"memory", limits(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1))}}), Options{}, "linux.resources.memory"},
		{"memory, rootless", limits(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1))}}), Options{Rootless: true}, "linux.resources.memory"},
		{"cpu", limits(specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}}), Options{}, "linux.resources.cpu"},
		{"pids", limits(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(3))}}), Options{}, "linux.resources.pids"},
		{"blockIO", limits(specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10))}}), Options{}, "linux.resources.blockIO"},
		{"hugepages", limits(specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}}}), Options{}, "linux.resources.hugepageLimits"},
		{"network", limits(specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}}), Options{}, "linux.resources.network"},
		{"rdma", limits(specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a": {}}}), Options{}, "linux.resources.rdma"},
		{"unified", limits(specs.LinuxResources{Unified: map[string]string{"a": "b"}}), Options{}, "linux.resources.unified"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.ID = "c"
			got, err := Plan(tt.spec, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Required != tt.want {
				t.Errorf("Required = %q, want %q", got.Required, tt.want)
			}
		})
	}
}

func TestPlanPath(t *testing.T) {
	for _, tt := range []struct {
		path string
		o    Options
		want cgroups.Cgroup
	}{
		{"", Options{ID: "c"}, cgroups.Cgroup{Name: "c"}},
		{"/docker/c", Options{ID: "c"}, cgroups.Cgroup{Path: "/docker/c"}},
		{"/docker/../../c", Options{ID: "c"}, cgroups.Cgroup{Path: "/c"}},
		{"../../etc", Options{ID: "c"}, cgroups.Cgroup{Path: "etc"}},
		{"", Options{ID: "c", Systemd: true}, cgroups.Cgroup{Name: "c", ScopePrefix: "sandlock", Systemd: true}},
		{"a.slice:docker:c", Options{ID: "x", Systemd: true}, cgroups.Cgroup{Parent: "a.slice", ScopePrefix: "docker", Name: "c", Systemd: true}},
	} {
		got, err := Plan(&specs.Spec{Linux: &specs.Linux{CgroupsPath: tt.path}}, tt.o)
		if err != nil {
			t.Fatalf("%q: %v", tt.path, err)
		}
		got.Cgroup.Resources = nil
		if !reflect.DeepEqual(*got.Cgroup, tt.want) {
			t.Errorf("%q: got %+v, want %+v", tt.path, *got.Cgroup, tt.want)
		}
	}
	_, err := Plan(&specs.Spec{Linux: &specs.Linux{CgroupsPath: "/not/systemd"}}, Options{ID: "c", Systemd: true})
	const want = `linux: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/not/systemd" instead`
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func allows(rules []*devices.Rule, major, minor int64) bool {
	return slices.ContainsFunc(rules, func(r *devices.Rule) bool {
		return r.Allow && r.Type == devices.CharDevice && r.Major == major && r.Minor == minor
	})
}

func TestDefaultDevices(t *testing.T) {
	spec := limits(specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}})
	got, err := Plan(spec, Options{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	rules := got.Cgroup.Resources.Devices
	if first := rules[0]; first.Allow || first.Type != devices.WildcardDevice {
		t.Errorf("the spec's own rule is not first: %+v", first)
	}
	if !allows(rules, 1, 3) || !allows(rules, 5, 2) {
		t.Errorf("/dev/null or /dev/ptmx missing from the default devices")
	}

	// A spec that makes /dev/null something else takes the default rule away with it.
	spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 7, Minor: 7}}
	got, err = Plan(spec, Options{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if allows(got.Cgroup.Resources.Devices, 1, 3) {
		t.Error("the default /dev/null is still allowed although the spec replaces it")
	}
	if !allows(got.Cgroup.Resources.Devices, 1, 5) {
		t.Error("/dev/zero went with it")
	}
}

func TestOwner(t *testing.T) {
	base := func() *specs.Spec {
		return &specs.Spec{
			Process: &specs.Process{User: specs.User{UID: 5}},
			Mounts:  []specs.Mount{{Destination: "/sys/fs/cgroup/", Type: "cgroup"}},
			Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.CgroupNamespace}}},
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*specs.Spec)
		want   *int
	}{
		{"writable", func(*specs.Spec) {}, ptr(5)},
		{"read-only", func(s *specs.Spec) { s.Mounts[0].Options = []string{"ro"} }, nil},
		{"host's namespace", func(s *specs.Spec) { s.Linux.Namespaces = nil }, nil},
		{"mapped", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 4}, {ContainerID: 4, HostID: 9000, Size: 2}}
		}, ptr(9001)},
		{"not mapped", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, nil},
	} {
		s := base()
		tt.change(s)
		if got := owner(s); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: wrong owner", tt.name)
		}
	}
}

func TestConfigSurvivesJSON(t *testing.T) {
	c, err := Plan(limits(specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(1 << 30))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(12))},
	}), Options{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, back) {
		t.Errorf("got %s back changed", text)
	}
}

func TestJoinPaths(t *testing.T) {
	mounts := []*mountinfo.Info{
		{Mountpoint: "/sys/fs/cgroup/cpu,cpuacct", Root: "/", VFSOptions: "rw,cpu,cpuacct"},
		{Mountpoint: "/sys/fs/cgroup/devices", Root: "/pod/box", VFSOptions: "rw,devices"},
		{Mountpoint: "/sys/fs/cgroup/systemd", Root: "/", VFSOptions: "rw,xattr,name=systemd"},
		{Mountpoint: "/sys/fs/cgroup/odd", Root: "/", VFSOptions: "rw,name=odd"},
	}
	own := map[string]string{"cpu": "/u", "cpuacct": "/u", "devices": "/pod/box/v", "name=systemd": "/", "name=odd": "/", "memory": "/m", "": "/x"}
	got := joinPaths("c", own, mounts, true)
	want := map[string]string{
		"cpu":          "/sys/fs/cgroup/cpu,cpuacct/u/c",
		"cpuacct":      "/sys/fs/cgroup/cpu,cpuacct/u/c",
		"devices":      "/sys/fs/cgroup/devices/v/c",
		"name=systemd": "/sys/fs/cgroup/systemd/c",
		"":             "/sys/fs/cgroup/unified/c",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := distinct(got); len(got) != 4 {
		t.Errorf("distinct directories: %v", got)
	}
	delete(own, "devices")
	if got := joinPaths("c", own, mounts, true); got != nil {
		t.Errorf("without a devices hierarchy: %v, want the library to decide", got)
	}
}

func TestAbsolutePaths(t *testing.T) {
	mounts := []*mountinfo.Info{
		{Mountpoint: "/mnt/devices", Root: "/", VFSOptions: "rw,devices"},
		{Mountpoint: "/sys/fs/cgroup/cpu,cpuacct", Root: "/", VFSOptions: "rw,cpu,cpuacct"},
		{Mountpoint: "/sys/fs/cgroup/devices", Root: "/pod/box", VFSOptions: "rw,devices"},
		{Mountpoint: "/sys/fs/cgroup/systemd", Root: "/", VFSOptions: "rw,xattr,name=systemd"},
		{Mountpoint: "/sys/fs/cgroup/odd", Root: "/", VFSOptions: "rw,name=odd"},
		{Mountpoint: "/mnt/systemd", Root: "/", VFSOptions: "rw,xattr,name=systemd"},
	}
	want := map[string]string{
		"cpu":          "/sys/fs/cgroup/cpu,cpuacct/c",
		"cpuacct":      "/sys/fs/cgroup/cpu,cpuacct/c",
		"devices":      "/sys/fs/cgroup/devices/c",
		"name=systemd": "/sys/fs/cgroup/systemd/c",
		"":             "/sys/fs/cgroup/unified/c",
	}
	if got := absolutePaths("/c", mounts, true); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	delete(want, "")
	if got := absolutePaths("/c", mounts, false); !reflect.DeepEqual(got, want) {
		t.Errorf("no v2 hierarchy:\ngot  %v\nwant %v", got, want)
	}
	elsewhere := append(mounts, &mountinfo.Info{Mountpoint: "/mnt/memory", Root: "/", VFSOptions: "rw,memory"})
	if got := absolutePaths("/c", elsewhere, true); got != nil {
		t.Errorf("a hierarchy elsewhere: %v, want the library to decide", got)
	}
	if got := absolutePaths("/c", mounts[1:2], true); got != nil {
		t.Errorf("without a devices hierarchy: %v, want the library to decide", got)
	}
}

func TestRelative(t *testing.T) {
	for in, want := range map[string]string{"": "", "a/b": "a/b", "../../a": "a", "a/../../b": "b", ".": "", "/a": "a"} {
		if got := relative(in); got != want {
			t.Errorf("relative(%q) = %q, want %q", in, got, want)
		}
	}
}
