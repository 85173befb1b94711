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

// hybridMount is where a hybrid host keeps its v2 hierarchy.
const hybridMount = "/sys/fs/cgroup/unified"

// knownPaths computes the directory in each v1 hierarchy for a cgroup that lies relative to our own. The library arrives
// at the same directories, but reads /proc/self/cgroup once for every hierarchy; here it and mountinfo are read once.
// Nil leaves it to the library: v2, systemd, and absolute paths, for which it reads neither.
func knownPaths(cg *cgroups.Cgroup) (map[string]string, error) {
	if cg.Systemd || filepath.IsAbs(cg.Path) || cgroups.IsCgroup2UnifiedMode() {
		return nil, nil
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
