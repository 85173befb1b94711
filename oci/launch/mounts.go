package launch

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

var treeFlagNames = []flagName{
	{unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"}, {unix.OPEN_TREE_CLOEXEC, "OPEN_TREE_CLOEXEC"},
	{unix.AT_RECURSIVE, "AT_RECURSIVE"}, {unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}, {unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"},
}

var attributeNames = []flagName{
	{unix.MOUNT_ATTR_RDONLY, "RDONLY"}, {unix.MOUNT_ATTR_NOSUID, "NOSUID"}, {unix.MOUNT_ATTR_NODEV, "NODEV"}, {unix.MOUNT_ATTR_NOEXEC, "NOEXEC"},
	{unix.MOUNT_ATTR_NOATIME, "NOATIME"}, {unix.MOUNT_ATTR_STRICTATIME, "STRICTATIME"}, {unix.MOUNT_ATTR_NODIRATIME, "NODIRATIME"},
	{unix.MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"},
}

var propagationNames = []flagName{
	{unix.MS_PRIVATE, "private"}, {unix.MS_SLAVE, "slave"}, {unix.MS_SHARED, "shared"}, {unix.MS_UNBINDABLE, "unbindable"},
}

// OpenTree is open_tree(2); its result is the descriptor. An empty path with AT_EMPTY_PATH is the mount that dir refers to.
func (p *Program) OpenTree(dir FD, path string, flags uint64) Step {
	return p.Call("open_tree", unix.SYS_OPEN_TREE, dir.Arg, Text(path), named(flags, printTreeFlags))
}

// MoveMount is move_mount(2) of the detached mount that from refers to onto the place that to refers to.
func (p *Program) MoveMount(from, to FD) Step {
	return p.Call("move_mount", unix.SYS_MOVE_MOUNT, from.Arg, Text(""), to.Arg, Text(""),
		Flags(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, "F_EMPTY_PATH|T_EMPTY_PATH"))
}

// MoveMountTo is move_mount(2) of the detached mount that from refers to onto a path.
func (p *Program) MoveMountTo(from, dir FD, path string) Step {
	return p.Call("move_mount", unix.SYS_MOVE_MOUNT, from.Arg, Text(""), dir.Arg, Text(path), Flags(unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"))
}

// Fsopen is fsopen(2); its result is the configuration context.
func (p *Program) Fsopen(filesystem string) Step {
	return p.Call("fsopen", unix.SYS_FSOPEN, Text(filesystem), Flags(unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC"))
}

// FsconfigString is fsconfig(2) with FSCONFIG_SET_STRING.
func (p *Program) FsconfigString(context FD, key, value string) Step {
	return p.Call("fsconfig", unix.SYS_FSCONFIG, context.Arg, Flags(unix.FSCONFIG_SET_STRING, "SET_STRING"), Text(key), Text(value), Value(0))
}

// FsconfigFlag is fsconfig(2) with FSCONFIG_SET_FLAG.
func (p *Program) FsconfigFlag(context FD, key string) Step {
	return p.Call("fsconfig", unix.SYS_FSCONFIG, context.Arg, Flags(unix.FSCONFIG_SET_FLAG, "SET_FLAG"), Text(key), Null, Value(0))
}

// FsconfigCreate is fsconfig(2) with FSCONFIG_CMD_CREATE.
func (p *Program) FsconfigCreate(context FD) Step {
	return p.Call("fsconfig", unix.SYS_FSCONFIG, context.Arg, Flags(unix.FSCONFIG_CMD_CREATE, "CMD_CREATE"), Null, Null, Value(0))
}

// Fsmount is fsmount(2); its result is the detached mount.
func (p *Program) Fsmount(context FD, attributes uint64) Step {
	return p.Call("fsmount", unix.SYS_FSMOUNT, context.Arg, Flags(unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"), named(attributes, printAttributes))
}

// MountSetattr is mount_setattr(2) on the mount that dir and path name; flags are AT_EMPTY_PATH, AT_RECURSIVE.
func (p *Program) MountSetattr(dir FD, path string, flags uint64, attributes unix.MountAttr) Step {
	return p.Call("mount_setattr", unix.SYS_MOUNT_SETATTR, dir.Arg, Text(path), named(flags, printTreeFlags),
		structure(&attributes, printMountAttr), Value(uint64(unsafe.Sizeof(attributes))))
}

func printTreeFlags(a Arg) string { return flagNames(a.value, treeFlagNames) }

func printAttributes(a Arg) string { return flagNames(a.value, attributeNames) }

func printMountAttr(a Arg) string {
	attributes := structureOf[unix.MountAttr](a)
	text := "{set " + flagNames(attributes.Attr_set, attributeNames) + ", clear " + flagNames(attributes.Attr_clr, attributeNames)
	if attributes.Propagation != 0 {
		text += ", " + flagNames(attributes.Propagation, propagationNames)
	}
	if attributes.Userns_fd != 0 {
		text += ", idmapped"
	}
	return text + "}"
}

// PivotRoot is pivot_root(".", "."): the working directory becomes the root, with the old root mounted on top of it.
func (p *Program) PivotRoot() Step {
	return p.Call("pivot_root", unix.SYS_PIVOT_ROOT, Text("."), Text("."))
}

// Chroot is chroot(2). It does not change the working directory.
func (p *Program) Chroot(path string) Step { return p.Call("chroot", unix.SYS_CHROOT, Text(path)) }

// Unmount is umount2(2) with MNT_DETACH.
func (p *Program) Unmount(path string) Step {
	return p.Call("umount2", unix.SYS_UMOUNT2, Text(path), Flags(unix.MNT_DETACH, "MNT_DETACH"))
}
