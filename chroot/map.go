package chroot

import (
	"golang.org/x/sys/unix"
)

// Map is a container's file tree as data. It is made by [NewMap] and not changed afterwards.
type Map struct {
	Root Root `json:"root"`
	// Joined tells that the tree is put into a mount namespace that others live in: the root is changed with chroot(2) then, since pivot_root(2) would
	// change theirs as well, and what is mounted stays until the namespace goes.
	Joined  bool     `json:"joined,omitempty"`
	Entries []Entry  `json:"mounts,omitempty"`
	Devices []Device `json:"devices,omitempty"`
	Links   []Link   `json:"links,omitempty"`

	// Masked paths show an empty directory, or a file like /dev/null; those that do not exist are passed over.
	Masked []string `json:"masked,omitempty"`
	// ReadOnly paths keep their content; those that do not exist are passed over.
	ReadOnly []string `json:"readOnly,omitempty"`
	// Denied paths are covered by an empty read-only object of mode 000; those that do not exist are errors. None lies beneath another.
	Denied []string `json:"denied,omitempty"`
}

// Root is the directory that becomes "/".
type Root struct {
	Source   string `json:"source"` // absolute host path
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Inherited is how the root's mounts are related to the host's: MS_SLAVE (what the host mounts there later appears) or MS_PRIVATE.
	Inherited Propagation `json:"inherited"`
	// Propagation is what the finished root is given besides; zero for nothing.
	Propagation Propagation `json:"propagation,omitzero"`
}

// Kind says how an entry comes about.
type Kind string

// The kinds of entries.
const (
	Bind       Kind = "bind"       // a tree of the host
	Temporary  Kind = "tmpfs"      // a new tmpfs
	Filesystem Kind = "filesystem" // any other filesystem, made in the container's namespaces
	Written    Kind = "file"       // a read-only file of the runtime's own making, which exists nowhere else
)

// Entry is one mount.
type Entry struct {
	Origin      string `json:"origin"`      // where it was asked for, such as "mounts[3]"
	Destination string `json:"destination"` // absolute and clean, never "/"
	Kind        Kind   `json:"kind"`
	Type        string `json:"type,omitempty"`      // the filesystem's name; empty for a bind
	Source      string `json:"source,omitempty"`    // host path of a bind, else what mountinfo shows
	Recursive   bool   `json:"recursive,omitempty"` // a bind with the mounts beneath its source

	Set   Attributes `json:"set,omitempty"`
	Clear Attributes `json:"clear,omitempty"`
	// Exact is of a bind that names attributes: it has no others of its source's, as with mount(8), but those that only a more privileged user namespace may clear.
	Exact bool `json:"exact,omitempty"`
	// These apply to the mounts beneath as well.
	RecursiveSet   Attributes `json:"recursiveSet,omitempty"`
	RecursiveClear Attributes `json:"recursiveClear,omitempty"`

	// Propagation is applied in order. A bind starts as a slave of its source, or in its peer group if the root is shared.
	Propagation []Propagation `json:"propagation,omitempty"`
	KeepPeers   bool          `json:"keepPeers,omitempty"` // the bind stays in its source's peer group
	// IDMap has a bind show other owners than its source has; nil for the same.
	IDMap *IDMap `json:"idMap,omitempty"`

	Data   []string `json:"data,omitempty"`   // options of the filesystem: "key=value" or "flag"
	CopyUp bool     `json:"copyUp,omitempty"` // a tmpfs that starts with a copy of what it covers
	// Late entries become read-only only when everything in them has been made.
	Late bool `json:"late,omitempty"`
	// Content is what a file of kind Written has.
	Content string `json:"content,omitempty"`
	// Fallback is a host directory that is bound where the kernel refuses to make the filesystem (EPERM, EBUSY).
	Fallback string `json:"fallback,omitempty"`
}

// String is what errors call the entry, such as "mounts[3] /data".
func (e Entry) String() string { return e.Origin + " " + e.Destination }

// Device is a device node, or a FIFO.
type Device struct {
	Path  string `json:"path"`
	Type  string `json:"type"` // "c", "b" or "p", as mknod(1) has it
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	Mode  uint32 `json:"mode"` // permission bits
	UID   uint32 `json:"uid"`  // in the container
	GID   uint32 `json:"gid"`
	// Asked tells that the spec lists the device.
	Asked bool `json:"asked,omitempty"`
	// Bind has a node of the host's mounted, for where mknod(2) is not permitted: that of the same path if it is the device, else one that is made for this.
	Bind bool `json:"bind,omitempty"`
	// HostUID and HostGID are UID and GID on the host, for a node that is made there.
	HostUID uint32 `json:"hostUID,omitempty"`
	HostGID uint32 `json:"hostGID,omitempty"`
}

// Link is a symbolic link.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
	// Replace has it take the place of whatever has the name already; otherwise that stays.
	Replace bool `json:"replace,omitempty"`
}

// Cgroups describes the container's place in the host's cgroup hierarchies, for mounts of type cgroup.
type Cgroups struct {
	// Version is 2 where everything is in the unified hierarchy, 1 for legacy and hybrid hosts, 0 where there is none.
	Version int `json:"version"`
	// Namespace tells that the container has a cgroup namespace of its own.
	Namespace bool `json:"namespace"`
	// Hierarchies are the mounted ones: one for version 2.
	Hierarchies []Hierarchy `json:"hierarchies,omitempty"`
}

// Hierarchy is one mounted cgroup hierarchy.
type Hierarchy struct {
	Names      []string `json:"names,omitempty"` // controllers, or a single "name=systemd"; empty for version 2
	MountPoint string   `json:"mountPoint"`      // on the host, such as /sys/fs/cgroup/cpu,cpuacct
	Path       string   `json:"path"`            // the container's own directory as an absolute host path
}

// peers says whether p connects the mount with others in both directions.
func (p Propagation) peers() bool { return p.Type == unix.MS_SHARED }
