package chroot

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupAttributes = Attributes(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)

// addCgroups resolves a mount of type cgroup into what this host has: one mount for the unified hierarchy; for the others a
// tmpfs with one directory a hierarchy. The container sees its own cgroup and what is beneath it: as the root of its cgroup namespace, or
// bound from the host where it has no such namespace.
func (m *Map) addCgroups(c Cgroups, e Entry) error {
	if len(e.Data) > 0 && (c.Version != 2 || !c.Namespace) {
		// What is mounted is not a new filesystem: nothing would come of the option.
		return fmt.Errorf("%s: option %q is for cgroup v2 in a cgroup namespace", e, e.Data[0])
	}
	if c.Version == 2 && len(c.Hierarchies) > 0 {
		m.Entries = append(m.Entries, unified(c, e, c.Hierarchies[0]))
		return nil
	}
	list := e
	list.Kind, list.Type, list.Source, list.Data = Temporary, "tmpfs", "tmpfs", []string{"mode=755"}
	list.Set |= cgroupAttributes
	list.Late = list.late()
	m.Entries = append(m.Entries, list)
	for _, h := range c.Hierarchies {
		one := e
		one.Destination = path.Join(e.Destination, path.Base(h.MountPoint))
		one.Set |= cgroupAttributes
		if len(h.Names) == 0 {
			m.Entries = append(m.Entries, unified(c, one, h))
			continue
		}
		m.Entries = append(m.Entries, legacy(c, one, h))
		if name := path.Base(h.MountPoint); strings.Contains(name, ",") {
			for part := range strings.SplitSeq(name, ",") {
				m.Links = append(m.Links, Link{Path: path.Join(e.Destination, part), Target: name})
			}
		}
	}
	return nil
}

func unified(c Cgroups, e Entry, h Hierarchy) Entry {
	if !c.Namespace {
		return bound(e, h)
	}
	e.Kind, e.Type, e.Source, e.Fallback = Filesystem, "cgroup2", "cgroup", h.Path
	return e
}

func legacy(c Cgroups, e Entry, h Hierarchy) Entry {
	if !c.Namespace {
		return bound(e, h)
	}
	e.Kind, e.Type, e.Source, e.Data = Filesystem, "cgroup", "cgroup", h.Names
	return e
}

func bound(e Entry, h Hierarchy) Entry {
	e.Kind, e.Type, e.Source, e.Recursive, e.Data = Bind, "", h.Path, true, nil
	return e
}
