package host

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CgroupLayout says how the host has mounted its cgroups, see cgroups(7).
type CgroupLayout string

// Layouts.
const (
	CgroupNone   CgroupLayout = "none"
	CgroupV1     CgroupLayout = "v1"     // a hierarchy for each controller
	CgroupHybrid CgroupLayout = "hybrid" // v1, and a v2 tree without controllers of interest beside it
	CgroupV2     CgroupLayout = "v2"     // one unified hierarchy
)

// cgroupRoot is where cgroups are mounted by convention, by systemd and by everybody else.
const cgroupRoot = "/sys/fs/cgroup"

// Cgroup is where cgroups are.
type Cgroup struct {
	Layout CgroupLayout `json:"layout"`
	// Unified is the mount point of the v2 tree, "" where there is none.
	Unified string `json:"unified,omitempty"`
}

// probeCgroup looks at what is mounted where cgroups belong.
func probeCgroup(root string) Cgroup {
	unified := filepath.Join(root, "unified")
	switch fsType(root) {
	case unix.CGROUP2_SUPER_MAGIC:
		return Cgroup{Layout: CgroupV2, Unified: root}
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		if fsType(unified) == unix.CGROUP2_SUPER_MAGIC {
			return Cgroup{Layout: CgroupHybrid, Unified: unified}
		}
		return Cgroup{Layout: CgroupV1}
	}
	return Cgroup{Layout: CgroupNone}
}

// fsType is the magic number of the file system at a path, 0 if there is nothing.
func fsType(path string) int64 {
	var stat unix.Statfs_t
	if unix.Statfs(path, &stat) != nil {
		return 0
	}
	return int64(stat.Type) //nolint:unconvert // the type differs between architectures
}
