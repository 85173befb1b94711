package chroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (b *box) cgroups(c Cgroups, options ...string) {
	b.request.Cgroups = c
	b.request.Spec.Mounts = append(b.request.Spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: options})
}

// hostHierarchies are the legacy ones that are mounted here.
func hostHierarchies(t *testing.T) []Hierarchy {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var list []Hierarchy
	for line := range strings.Lines(string(table)) {
		mount, super, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(super, "cgroup ") {
			continue
		}
		at := strings.Fields(mount)[4]
		options := strings.Split(strings.Fields(super)[2], ",")
		var names []string
		for _, o := range options {
			switch o {
			case "rw", "ro", "xattr", "clone_children", "noprefix":
			default:
				if !strings.HasPrefix(o, "release_agent=") {
					names = append(names, o)
				}
			}
		}
		list = append(list, Hierarchy{Names: names, MountPoint: at, Path: at})
	}
	if len(list) == 0 {
		t.Skip("NOT TESTED: this host has no legacy cgroup hierarchy")
	}
	return list
}

func TestLegacyCgroups(t *testing.T) {
	b := newBox(t)
	list := hostHierarchies(t)
	for i := range list {
		own := filepath.Join(list[i].MountPoint, "chroot-test")
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(own) })
		list[i].Path = own
	}
	first := list[0]
	name := filepath.Base(first.MountPoint)
	b.cgroups(Cgroups{Version: 1, Hierarchies: list}, "ro", "nosuid", "noexec", "nodev", "relatime")
	b.want("ls -1 /sys/fs/cgroup/"+name+" | grep -c tasks; cat /sys/fs/cgroup/"+name+"/tasks; "+try("mkdir /sys/fs/cgroup/"+name+"/x", "mkdir /sys/fs/cgroup/x", "test -e /sys/fs/cgroup/"+name+"/chroot-test"), "1\nno\nno\nno")
	// With a namespace the hierarchies are mounted anew, and begin at the namespace's root.
	b = newBox(t)
	b.cgroups(Cgroups{Version: 1, Namespace: true, Hierarchies: list}, "ro", "nosuid", "noexec", "nodev", "relatime")
	out, _, err := b.run(mountsOf)
	if err != nil || strings.Count(out, " cgroup cgroup ") != len(list) || !strings.Contains(out, "/sys/fs/cgroup ro,nosuid,nodev,noexec,relatime tmpfs tmpfs rw,mode=755\n") {
		t.Errorf("%v\n%s", err, out)
	}
	b.want(try("mkdir /sys/fs/cgroup/"+name+"/x", "test -e /sys/fs/cgroup/"+name+"/tasks"), "no\nyes")
}

func TestJoinedControllersHaveLinks(t *testing.T) {
	b := newBox(t)
	dir := b.host("cpu,cpuacct")
	b.cgroups(Cgroups{Version: 1, Hierarchies: []Hierarchy{{Names: []string{"cpu", "cpuacct"}, MountPoint: dir, Path: dir}}}, "ro")
	b.want("cat /sys/fs/cgroup/cpu/file; readlink /sys/fs/cgroup/cpuacct; "+try("touch /sys/fs/cgroup/x"), "host\ncpu,cpuacct\nno")
}

func unifiedMountPoint(t *testing.T) string {
	t.Helper()
	for _, at := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(at + "/cgroup.procs"); err == nil {
			return at
		}
	}
	t.Skip("NOT TESTED: this host has no unified cgroup hierarchy")
	return ""
}

func TestUnifiedCgroups(t *testing.T) {
	b := newBox(t)
	at := unifiedMountPoint(t)
	own := at + "/chroot-test"
	b.must(os.Mkdir(own, 0o755))
	t.Cleanup(func() { _ = os.Remove(own) })
	h := []Hierarchy{{MountPoint: at, Path: own}}
	for _, namespace := range []bool{true, false} {
		for _, userNamespace := range []bool{false, true} {
			b := newBox(t)
			if userNamespace {
				b.inUserNamespace()
			}
			b.cgroups(Cgroups{Version: 2, Namespace: namespace, Hierarchies: h}, "ro", "nosuid")
			b.want(try("test -e /sys/fs/cgroup/cgroup.procs", "mkdir /sys/fs/cgroup/x")+"grep -c cgroup2 /proc/self/mountinfo", "yes\nno\n1")
		}
	}
}

func TestWithoutCgroups(t *testing.T) {
	b := newBox(t)
	b.cgroups(Cgroups{}, "ro")
	b.want("ls -A /sys/fs/cgroup; "+try("touch /sys/fs/cgroup/x", "test -d /sys/fs/cgroup"), "no\nyes")
}
