package oci

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/host"
)

// cgroupMounts is where cgroup file systems are mounted, by convention of all who mount them.
const cgroupMounts = "/sys/fs/cgroup"

// hierarchies tells the mount map where the container is in the host's cgroups. paths are the cgroup manager's: controller to
// directory, "" for v2.
func hierarchies(layout host.CgroupLayout, paths map[string]string, namespace bool) chroot.Cgroups {
	out := chroot.Cgroups{Namespace: namespace}
	switch layout {
	case host.CgroupV2:
		out.Version = 2
		out.Hierarchies = []chroot.Hierarchy{{MountPoint: cgroupMounts, Path: paths[""]}}
		return out
	case host.CgroupNone:
		return out
	}
	out.Version = 1
	byMount := make(map[string]*chroot.Hierarchy)
	var order []string
	for controller, dir := range paths {
		rel, ok := strings.CutPrefix(dir, cgroupMounts+"/")
		if !ok || controller == "" {
			continue // not where we know our way, or the v2 tree of a hybrid host
		}
		name, _, _ := strings.Cut(rel, "/")
		mount := filepath.Join(cgroupMounts, name)
		if byMount[mount] == nil {
			byMount[mount] = &chroot.Hierarchy{MountPoint: mount, Path: dir}
			order = append(order, mount)
		}
		byMount[mount].Names = append(byMount[mount].Names, controller)
	}
	slices.Sort(order)
	for _, mount := range order {
		slices.Sort(byMount[mount].Names)
		out.Hierarchies = append(out.Hierarchies, *byMount[mount])
	}
	return out
}
