package cgroup

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
)

// v1Names are the keys under which the library knows the v1 hierarchies (its cgroups/fs package keeps the list private).
// The last, the empty string, is the v2 hierarchy of a hybrid host.
func v1Names() []string {
	return []string{
		"cpuset", "devices", "memory", "cpu", "cpuacct", "pids", "blkio", "hugetlb", "net_cls", "net_prio",
		"perf_event", "freezer", "rdma", "name=systemd", "misc", "",
	}
}

// defaultMounts is where the v1 hierarchies are mounted, each in a directory of its own.
const defaultMounts = "/sys/fs/cgroup"

// hybridMount is where a hybrid host keeps its v2 hierarchy.
const hybridMount = "/sys/fs/cgroup/unified"

// knownPaths computes the directory in each v1 hierarchy for a cgroup. The library arrives at the same directories, but looks at /proc/self/cgroup
// or at mount points once for every hierarchy; here mountinfo is read once, and the former where the cgroup lies relative to our own.
// Nil leaves it to the library: v2, systemd, and hierarchies in unusual places.
func knownPaths(cg *cgroups.Cgroup) (map[string]string, error) {
	if cg.Systemd || cgroups.IsCgroup2UnifiedMode() {
		return nil, nil
	}
	if filepath.IsAbs(cg.Path) {
		mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
		if err != nil {
			return nil, err
		}
		return absolutePaths(filepath.Clean(cg.Path), mounts, cgroups.IsCgroup2HybridMode()), nil
	}
	inner := relative(cg.Path)
	if inner == "" {
		inner = relative(filepath.Join(cg.Parent, cg.Name))
	}
	if inner == "" {
		return nil, nil
	}
	return below(inner)
}

// OwnPaths are the directories of the cgroup that this process is in, like those of [Manager.Paths]; none if they cannot be found out.
func OwnPaths() map[string]string {
	if !cgroups.IsCgroup2UnifiedMode() {
		paths, err := below("")
		if err != nil {
			return nil
		}
		return paths
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	return map[string]string{"": filepath.Join("/sys/fs/cgroup", own[""])}
}

// below is inner below our own cgroup in every v1 hierarchy.
func below(inner string) (map[string]string, error) {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return nil, err
	}
	return joinPaths(inner, own, mounts, cgroups.IsCgroup2HybridMode()), nil
}

// absolutePaths places inner below the root of every hierarchy that is mounted and known. It returns nil where one of them is mounted elsewhere only, or the
// devices hierarchy nowhere.
func absolutePaths(inner string, mounts []*mountinfo.Info, hybrid bool) map[string]string {
	at := make(map[string]string) // by controller or name
	for _, m := range mounts {
		for name := range strings.SplitSeq(m.VFSOptions, ",") {
			if _, known := at[name]; !known || filepath.Dir(m.Mountpoint) == defaultMounts {
				at[name] = m.Mountpoint
			}
		}
	}
	paths := make(map[string]string)
	if hybrid {
		paths[""] = filepath.Join(hybridMount, inner)
	}
	for _, name := range v1Names() {
		mount, mounted := at[name]
		if !mounted {
			continue
		}
		if filepath.Dir(mount) != defaultMounts {
			return nil
		}
		paths[name] = filepath.Join(mount, inner)
	}
	if _, ok := paths["devices"]; !ok {
		return nil
	}
	return paths
}

// joinPaths places inner below our own cgroup in every hierarchy that is mounted and known. It returns nil where the
// devices hierarchy is not among them, so that the library gets to refuse that.
func joinPaths(inner string, own map[string]string, mounts []*mountinfo.Info, hybrid bool) map[string]string {
	options := make([][]string, len(mounts))
	for i, m := range mounts {
		options[i] = strings.Split(m.VFSOptions, ",")
	}
	paths := make(map[string]string, len(mounts)+1)
	for _, name := range v1Names() {
		cgroup, member := own[name]
		if !member {
			continue
		}
		if name == "" {
			if hybrid {
				paths[name] = filepath.Join(hybridMount, inner)
			}
			continue
		}
		for i, m := range mounts {
			if !slices.Contains(options[i], name) {
				continue
			}
			// Inside a container /proc/self/cgroup names host paths, of which only those below the mount's root exist.
			if below, err := filepath.Rel(m.Root, cgroup); err == nil {
				paths[name] = filepath.Join(m.Mountpoint, below, inner)
			}
			break
		}
	}
	if _, ok := paths["devices"]; !ok {
		return nil
	}
	return paths
}

// relative makes path safe to append to a directory: no ".." is left in front of it.
func relative(path string) string {
	if path == "" {
		return ""
	}
	return strings.TrimPrefix(filepath.Clean("/"+path), "/")
}

// distinct lists the directories of paths, each once: hierarchies mounted together (cpu,cpuacct) share one.
func distinct(paths map[string]string) []string {
	dirs := slices.Sorted(maps.Values(paths))
	return slices.Compact(dirs)
}
