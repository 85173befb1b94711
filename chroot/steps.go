package chroot

import (
	"strings"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// defaultUmask is what a container starts with unless its spec says otherwise.
const defaultUmask = 0o022

// Steps adds what a child in a new mount namespace does to have the whole tree attached, and returns the root's descriptor. The child
// must be the root of its user namespace (setresuid) and in its final cgroup by then. The umask is 022 afterwards.
func (s *Sources) Steps(p *launch.Program) (root launch.FD) {
	root = s.attachRoot(p)
	p.About("")
	umask(p, 0)
	for i, e := range s.m.Entries {
		p.About("%s", e)
		s.attached = i
		s.attach(p, root, e, s.entries[i])
	}
	s.attached = len(s.m.Entries)
	s.fillDev(p, root)
	p.About("")
	umask(p, defaultUmask)
	return root
}

func umask(p *launch.Program, mask uint64) {
	p.Call("umask", unix.SYS_UMASK, launch.Flags(mask, fmtMode(mask)))
}

// attachRoot puts the root at its own path in the child's mount namespace: hooks that enter this namespace before the pivot find the host's
// tree with the container's at the path they know. Where the child cannot reach that path, because its user is nobody on the host, the root
// goes on top of "/", which takes no lookup.
func (s *Sources) attachRoot(p *launch.Program) launch.FD {
	p.About("root %s", s.m.Root.Source)
	root := launch.Inherited(s.root, "root")
	if s.m.Joined {
		// Only at its own path, and "/" keeps the propagation that it has: both are other people's here.
		p.About("root %s in the mount namespace that is joined", s.m.Root.Source)
		place := p.Openat2(launch.CWD, s.m.Root.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, 0).Result("place")
		p.MoveMount(root, place)
		p.Close(place)
		return root
	}
	p.MountSetattr(launch.CWD, "/", unix.AT_RECURSIVE, unix.MountAttr{Propagation: unix.MS_SLAVE})
	attached, onTop := p.Label("attached"), p.Label("on top")
	place := p.Openat2(launch.CWD, s.m.Root.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, 0).OnError(onTop, unix.EACCES, unix.ENOENT).Result("place")
	p.MoveMount(root, place).OnSuccess(attached)
	p.Mark(onTop)
	p.MoveMountTo(root, launch.CWD, "/")
	p.Mark(attached)
	return root
}

func (s *Sources) attach(p *launch.Program, root launch.FD, e Entry, o source) {
	place := func() launch.FD {
		if e.Type == "proc" || e.Type == "sysfs" {
			return s.literalDirectory(p, root, e.Destination)
		}
		return s.mountPoint(p, root, e.String(), e.Destination, o.isDirectory)
	}
	prepared := launch.Inherited(o.mount, "mount")
	if o.mount >= 0 && e.Fallback == "" {
		if o.inside != "" {
			p.About("%s", e)
			prepared = takeOut(p, prepared, o.inside)[0]
		}
		target := place()
		move(p, prepared, target, e.String(), o.isDirectory)
		s.sealLater(e, prepared)
		p.Close(target)
		return
	}
	target := place()
	refused, done := p.Label("refused"), p.Label("done")
	p.About("%s: filesystem %s", e, e.Type)
	context := p.Fsopen(e.Type).Result("context")
	p.About("%s", e)
	configure(p, context, e, o)
	create := p.FsconfigCreate(context)
	if e.Fallback != "" {
		create.OnError(refused, unix.EPERM, unix.EBUSY)
	}
	mount := p.Fsmount(context, uint64(e.attributes())).Result("mount")
	for _, g := range e.Propagation {
		flags := uint64(unix.AT_EMPTY_PATH)
		if g.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		p.MountSetattr(mount, "", flags, unix.MountAttr{Propagation: g.Type})
	}
	move := p.MoveMount(mount, target)
	s.sealLater(e, mount)
	if e.Fallback != "" {
		move.OnSuccess(done)
		p.Mark(refused)
		p.MoveMount(prepared, target)
		p.Mark(done)
	}
	p.Close(context)
	p.Close(target)
}

// move attaches mount at target. For a directory over a file, or a file over a directory, the kernel says EINVAL, which it says for much else: the
// child finds out and fails with ENOTDIR, which is what mount(2) would have said, and what Docker explains to its users.
func move(p *launch.Program, mount, target launch.FD, about string, isDirectory bool) {
	why, directory, other, done := p.Label("why"), p.Label("directory"), p.Label("other"), p.Label("done")
	p.MoveMount(mount, target).OnSuccess(done).OnError(why, unix.EINVAL)
	p.Mark(why)
	p.Fchdir(target).OnSuccess(directory).OnError(other, unix.ENOTDIR)
	if isDirectory {
		p.Mark(other)
		p.About("%s: the source is a directory, the destination is not", about)
		p.Fail(unix.ENOTDIR)
		p.Mark(directory)
	} else {
		p.Mark(directory)
		p.About("%s: the destination is a directory, the source is not", about)
		p.Fail(unix.ENOTDIR)
		p.Mark(other)
	}
	p.About("%s: move_mount", about)
	p.Fail(unix.EINVAL)
	p.Mark(done)
	p.About("%s", about)
}

// configure sets the options of a filesystem under construction. A tmpfs has the mode of the directory it covers, if no other is given.
func configure(p *launch.Program, context launch.FD, e Entry, o source) {
	if e.Source != "" {
		p.FsconfigString(context, "source", e.Source)
	}
	if o.mode != "" {
		p.FsconfigString(context, "mode", o.mode)
	}
	for _, d := range e.Data {
		p.About("%s: option %q", e, d)
		if key, v, ok := strings.Cut(d, "="); ok {
			p.FsconfigString(context, key, v)
		} else {
			p.FsconfigFlag(context, d)
		}
	}
	p.About("%s", e)
	// A medium that cannot be written to must not be opened for it; all others are one superblock with other mounts, or empty.
	if e.Kind == Filesystem && e.Set&unix.MOUNT_ATTR_RDONLY != 0 && !virtual(e.Type) {
		p.FsconfigFlag(context, "ro")
	}
}

// virtual filesystems show kernel state. Their superblock may be shared with the host's, so that only the mount becomes read-only.
func virtual(kind string) bool {
	switch kind {
	case "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "bpf", "debugfs", "tracefs", "securityfs", "configfs", "binfmt_misc", "fusectl", "devtmpfs", "pstore", "efivarfs":
		return true
	}
	return false
}

func (s *Sources) sealLater(e Entry, mount launch.FD) {
	if e.Late {
		s.late = append(s.late, lateMount{e.String(), mount})
	}
}
