package chroot

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes are MOUNT_ATTR_* flags of mount_setattr(2). They are printed by the names of the spec's mount options.
type Attributes uint64

// attributeNames has MOUNT_ATTR__ATIME first: it is a mask that holds the bits of two of the others.
var attributeNames = [...]struct {
	flag Attributes
	name string
}{
	{unix.MOUNT_ATTR__ATIME, "atime"},
	{unix.MOUNT_ATTR_RDONLY, "ro"},
	{unix.MOUNT_ATTR_NOSUID, "nosuid"},
	{unix.MOUNT_ATTR_NODEV, "nodev"},
	{unix.MOUNT_ATTR_NOEXEC, "noexec"},
	{unix.MOUNT_ATTR_NOATIME, "noatime"},
	{unix.MOUNT_ATTR_STRICTATIME, "strictatime"},
	{unix.MOUNT_ATTR_NODIRATIME, "nodiratime"},
	{unix.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"},
}

// String joins the names by commas.
func (a Attributes) String() string {
	var names []string
	for _, n := range attributeNames {
		if a&n.flag == n.flag {
			names = append(names, n.name)
			a &^= n.flag
		}
	}
	if a != 0 {
		names = append(names, fmt.Sprintf("%#x", uint64(a)))
	}
	return strings.Join(names, ",")
}

// MarshalText implements [encoding.TextMarshaler].
func (a Attributes) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Propagation is a propagation type of mount_namespaces(7).
type Propagation struct {
	Type      uint64 // unix.MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE
	Recursive bool
}

// propagations are the names of the spec. The recursive ones have an "r" before them.
var propagations = [...]struct {
	kind uint64
	name string
}{{unix.MS_PRIVATE, "private"}, {unix.MS_SLAVE, "slave"}, {unix.MS_SHARED, "shared"}, {unix.MS_UNBINDABLE, "unbindable"}}

func parsePropagation(s string) (Propagation, bool) {
	for _, p := range propagations {
		if s == p.name || s == "r"+p.name {
			return Propagation{Type: p.kind, Recursive: s != p.name}, true
		}
	}
	return Propagation{}, false
}

// String is the name in the spec.
func (p Propagation) String() string {
	for _, n := range propagations {
		if n.kind == p.Type {
			if p.Recursive {
				return "r" + n.name
			}
			return n.name
		}
	}
	return ""
}

// MarshalText implements [encoding.TextMarshaler].
func (p Propagation) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
