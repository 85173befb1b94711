package chroot

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestOptions(t *testing.T) {
	tests := []struct {
		list string
		want options
	}{
		{"rbind rprivate", options{bind: true, recursive: true, propagation: []Propagation{{unix.MS_PRIVATE, true}}}},
		{"bind ro nosuid", options{bind: true, set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}},
		{"ro rw", options{clear: unix.MOUNT_ATTR_RDONLY}},
		{"rw ro", options{set: unix.MOUNT_ATTR_RDONLY}},
		{"rro rnodev rdev", options{rSet: unix.MOUNT_ATTR_RDONLY, rClear: unix.MOUNT_ATTR_NODEV}},
		{"noatime", options{set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME}},
		{"noatime strictatime", options{set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME}},
		{"noatime relatime", options{clear: unix.MOUNT_ATTR__ATIME}},
		{"noatime atime", options{clear: unix.MOUNT_ATTR__ATIME}},
		{"norelatime", options{}},
		{"nodiratime", options{set: unix.MOUNT_ATTR_NODIRATIME}},
		{"rrelatime", options{rClear: unix.MOUNT_ATTR__ATIME}},
		{"sync dirsync async", options{super: []string{"dirsync"}}},
		{"defaults silent mode=755 size=64k,nr_inodes=9", options{data: []string{"mode=755", "size=64k", "nr_inodes=9"}}},
		{`lowerdir=a\,b`, options{data: []string{`lowerdir=a\,b`}}},
		{"tmpcopyup remount", options{copyUp: true, remount: true}},
		{"unbindable rshared", options{propagation: []Propagation{{unix.MS_UNBINDABLE, false}, {unix.MS_SHARED, true}}}},
		{"nosymfollow symfollow", options{clear: unix.MOUNT_ATTR_NOSYMFOLLOW}},
	}
	for _, test := range tests {
		got, err := parseOptions(strings.Fields(test.list))
		if err != nil {
			t.Errorf("%s: %v", test.list, err)
		}
		if len(got.super) == 0 {
			got.super = nil
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.list, got, test.want)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("ro,rbind")
	f.Add(`a\,b`)
	f.Fuzz(func(t *testing.T, option string) {
		o, err := parseOptions([]string{option})
		if err != nil {
			return
		}
		if o.set&o.clear&^unix.MOUNT_ATTR__ATIME != 0 {
			t.Errorf("%q both set and cleared", option)
		}
		for _, d := range o.data {
			if d == "" {
				t.Errorf("%q gave an empty option", option)
			}
		}
	})
}

func mapOf(mounts ...specs.Mount) (Map, error) {
	return NewMap(MapRequest{Spec: &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Mounts: mounts, Linux: &specs.Linux{}}, RootFS: "/b/rootfs", Bundle: "/b"})
}

func TestRefusedMounts(t *testing.T) {
	tests := []struct {
		mount specs.Mount
		want  string
	}{
		{specs.Mount{Destination: "", Type: "tmpfs"}, "mounts[0] : no destination"},
		{specs.Mount{Destination: "/x/..", Type: "tmpfs"}, "mounts[0] /x/..: a mount cannot take the place of the root"},
		{specs.Mount{Destination: "/x"}, "mounts[0] /x: no type"},
		{specs.Mount{Destination: "/x", Type: "bind"}, "mounts[0] /x: no source"},
		{specs.Mount{Destination: "/x\x00y", Type: "tmpfs"}, "mounts[0] /x\x00y: null byte in destination, source or type"},
		{specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{""}}, `mounts[0] /x: malformed option ""`},
		{specs.Mount{Destination: "/x", Source: "/s", Options: []string{"rbind", "idmap"}}, "mounts[0] /x: id-mapped without mappings: "},
		{specs.Mount{Destination: "/x", Source: "/s", Options: []string{"rbind"}, UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}, "mounts[0] /x: uidMappings without gidMappings: "},
		{specs.Mount{Destination: "/x", Source: "/s", Options: []string{"rbind"}, GIDMappings: []specs.LinuxIDMapping{{Size: 1}}}, "mounts[0] /x: gidMappings without uidMappings: "},
		{specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"ridmap"}}, "mounts[0] /x: only a bind mount can be id-mapped"},
		{specs.Mount{Destination: "/x", Source: "/s", Options: []string{"bind", "size=1k"}}, `mounts[0] /x: a bind mount cannot have the filesystem's option "size=1k"`},
		{specs.Mount{Destination: "/x", Source: "/s", Options: []string{"bind", "tmpcopyup"}}, "mounts[0] /x: tmpcopyup is for tmpfs"},
		{specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"remount"}}, "mounts[0] /x: remount, but no mount before it has that destination"},
		{specs.Mount{Destination: "/proc", Type: "tmpfs"}, "mounts[0] /proc: only a proc filesystem can be mounted there"},
		{specs.Mount{Destination: "/proc/self/attr", Type: "tmpfs"}, "mounts[0] /proc/self/attr: it is inside /proc, where only "},
		{specs.Mount{Destination: "x/../proc//sys", Source: "/s", Options: []string{"bind"}}, "mounts[0] x/../proc//sys: it is inside /proc, where only "},
		{specs.Mount{Destination: "/proc/cpuinfo/x", Source: "/s", Options: []string{"bind"}}, "mounts[0] /proc/cpuinfo/x: it is inside /proc, where only "},
	}
	for _, test := range tests {
		_, err := mapOf(test.mount)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.mount, err, test.want)
		}
	}
}

func TestAcceptedMounts(t *testing.T) {
	tests := []struct {
		mount specs.Mount
		want  Entry
	}{
		{specs.Mount{Destination: "data//x/", Source: "s", Options: []string{"rbind", "ro"}},
			Entry{Destination: "/data/x", Kind: Bind, Source: "/b/s", Recursive: true, Set: unix.MOUNT_ATTR_RDONLY, Exact: true}},
		{specs.Mount{Destination: "/x", Type: "bind", Source: "/s"}, Entry{Destination: "/x", Kind: Bind, Source: "/s"}},
		{specs.Mount{Destination: "/proc/cpuinfo", Source: "/s", Options: []string{"bind"}}, Entry{Destination: "/proc/cpuinfo", Kind: Bind, Source: "/s"}},
		{specs.Mount{Destination: "/processes", Type: "tmpfs"}, Entry{Destination: "/processes", Kind: Temporary, Type: "tmpfs"}},
		{specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"hidepid=2", "ro"}},
			Entry{Destination: "/proc", Kind: Filesystem, Type: "proc", Source: "proc", Set: unix.MOUNT_ATTR_RDONLY, Data: []string{"hidepid=2"}}},
		{specs.Mount{Destination: "/t", Type: "tmpfs", Options: []string{"ro", "lazytime", "uid=4"}},
			Entry{Destination: "/t", Kind: Temporary, Type: "tmpfs", Set: unix.MOUNT_ATTR_RDONLY, Late: true, Data: []string{"lazytime", "uid=4"}}},
	}
	for _, test := range tests {
		m, err := mapOf(test.mount)
		if err != nil {
			t.Errorf("%+v: %v", test.mount, err)
			continue
		}
		test.want.Origin = "mounts[0]"
		if !reflect.DeepEqual(m.Entries[0], test.want) {
			t.Errorf("%+v:\n%+v, want\n%+v", test.mount, m.Entries[0], test.want)
		}
	}
}

func TestRemount(t *testing.T) {
	m, err := mapOf(
		specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"noexec", "size=1k"}},
		specs.Mount{Destination: "/t/in", Type: "tmpfs"},
		specs.Mount{Destination: "t/", Options: []string{"remount", "ro", "exec"}},
		specs.Mount{Destination: "/t", Type: "tmpfs", Source: "other", Options: []string{"remount", "nosuid", "size=2k"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Origin: "mounts[0]", Destination: "/t", Kind: Temporary, Type: "tmpfs", Source: "tmpfs", Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID,
			Clear: unix.MOUNT_ATTR_NOEXEC, Data: []string{"size=1k", "size=2k"}, Late: true},
		{Origin: "mounts[1]", Destination: "/t/in", Kind: Temporary, Type: "tmpfs"},
	}
	if !reflect.DeepEqual(m.Entries, want) {
		t.Errorf("%+v, want\n%+v", m.Entries, want)
	}
}

func TestRootPropagation(t *testing.T) {
	tests := []struct{ name, inherited, own string }{
		{"", "rslave", ""}, {"slave", "rslave", ""}, {"rslave", "rslave", ""}, {"private", "rprivate", ""}, {"rprivate", "rprivate", ""},
		{"shared", "rprivate", "shared"}, {"rshared", "rprivate", "rshared"}, {"unbindable", "rprivate", "unbindable"},
	}
	for _, test := range tests {
		m, err := NewMap(MapRequest{Spec: &specs.Spec{Linux: &specs.Linux{RootfsPropagation: test.name}}, RootFS: "/r"})
		if err != nil || m.Root.Inherited.String() != test.inherited || m.Root.Propagation.String() != test.own {
			t.Errorf("%q: %v %v %v", test.name, m.Root.Inherited, m.Root.Propagation, err)
		}
	}
	_, err := NewMap(MapRequest{Spec: &specs.Spec{Linux: &specs.Linux{RootfsPropagation: "sharde"}}, RootFS: "/r"})
	if err == nil || err.Error() != `linux.rootfsPropagation "sharde": unknown propagation` {
		t.Error(err)
	}
}

func TestEffectivePropagation(t *testing.T) {
	parse := func(s string) (list []Propagation) {
		for _, f := range strings.Fields(s) {
			p, ok := parsePropagation(f)
			if !ok {
				t.Fatal(f)
			}
			list = append(list, p)
		}
		return list
	}
	tests := []struct {
		list      string
		keepPeers bool
		want      string
	}{
		{"rprivate", false, "rprivate"}, {"rslave", false, ""}, {"rslave", true, "rslave"}, {"slave rshared", false, "rshared"},
		{"rshared rprivate shared", true, "rprivate shared"}, {"private", false, "private"}, {"", true, ""},
	}
	for _, test := range tests {
		var got []string
		for _, p := range effective(parse(test.list), test.keepPeers) {
			got = append(got, p.String())
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%q: %q, want %q", test.list, s, test.want)
		}
	}
}

func TestDevices(t *testing.T) {
	mode, owner := os.FileMode(0o600|unix.S_IFBLK), uint32(7)
	spec := &specs.Spec{Linux: &specs.Linux{Devices: []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, UID: &owner},
		{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
		{Path: "/dev/disk", Type: "b", Major: 8, Minor: 1, FileMode: &mode, GID: &owner},
		{Path: "/dev/pipe", Type: "p"},
	}}}
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 8}}, []specs.LinuxIDMapping{{HostID: 2000, Size: 8}}
	m, err := NewMap(MapRequest{Spec: spec, RootFS: "/r", UserNamespace: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666, UID: 7, Asked: true, Bind: true, HostUID: 1007, HostGID: 2000},
		{Path: "/dev/disk", Type: "b", Major: 8, Minor: 1, Mode: 0o600, GID: 7, Asked: true, Bind: true, HostUID: 1000, HostGID: 2007},
		{Path: "/dev/pipe", Type: "p", Mode: 0o666, Asked: true},
	}
	if len(m.Devices) != 8 || !reflect.DeepEqual(m.Devices[5:], want) {
		t.Errorf("%+v", m.Devices)
	}
	spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "q"}}
	if _, err = NewMap(MapRequest{Spec: spec, RootFS: "/r"}); err == nil || err.Error() != `linux.devices[0] /dev/x: type "q" is none of c, b, u, p` {
		t.Error(err)
	}
	spec.Linux.Devices[0] = specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: -1}
	if _, err = NewMap(MapRequest{Spec: spec, RootFS: "/r"}); err == nil || err.Error() != "linux.devices[0] /dev/x: no device number: -1:0" {
		t.Error(err)
	}
	// With a /dev of the host nothing is made there.
	m, err = mapOf(specs.Mount{Destination: "/dev/", Source: "/dev", Options: []string{"rbind"}})
	if err != nil || len(m.Devices)+len(m.Links) != 0 {
		t.Errorf("%v, %v, %v", m.Devices, m.Links, err)
	}
}

func TestDeniedPaths(t *testing.T) {
	m, err := NewMap(MapRequest{Spec: &specs.Spec{}, RootFS: "/r", Denied: []string{"/b/c", "/b!", "/a", "/b", "/a/", "/b/c/d"}})
	if err != nil || !reflect.DeepEqual(m.Denied, []string{"/a", "/b", "/b!"}) {
		t.Errorf("%q, %v", m.Denied, err)
	}
	for denied, want := range map[string]string{
		"etc": `filesystem.deny "etc": not an absolute path`,
		"/.":  `filesystem.deny "/": a container without any file cannot run`,
	} {
		if _, err := NewMap(MapRequest{Spec: &specs.Spec{}, RootFS: "/r", Denied: []string{denied}}); err == nil || err.Error() != want {
			t.Errorf("%q: %v", denied, err)
		}
	}
}

func TestHostID(t *testing.T) {
	mappings := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 10, HostID: 5, Size: 1}}
	for id, want := range map[string]uint32{"0": 100000, "9": 100009, "10": 5} {
		if got, err := hostID(mappings, id); got != want || err != nil {
			t.Errorf("%s: %d, %v", id, got, err)
		}
	}
	for _, id := range []string{"11", "-1", "x", "4294967296"} {
		if got, err := hostID(mappings, id); err == nil {
			t.Errorf("%s: %d", id, got)
		}
	}
}
