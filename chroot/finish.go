package chroot

import (
	"strings"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// Pivot makes root the child's root and working directory, and drops the old root. createRuntime and createContainer hooks run before it.
func (s *Sources) Pivot(p *launch.Program, root launch.FD) {
	if s.m.Joined {
		p.About("change to the root")
		p.Fchdir(root)
		p.Chroot(".")
		p.About("")
		return
	}
	p.About("pivot to the root")
	p.Fchdir(root)
	p.PivotRoot()
	// The old root now lies on top of the new one. It has been a slave from the start: nothing of this reaches the host.
	p.Unmount(".")
	p.Chdir("/")
	p.About("")
}

// Finish covers denied and masked paths and makes read-only what must be; sysctls are written before it. Capabilities and filters must
// still allow mounting.
func (s *Sources) Finish(p *launch.Program, root launch.FD) {
	s.deny(p, root)
	for _, l := range s.late {
		p.About("%s: read-only", l.about)
		p.MountSetattr(l.mount, "", unix.AT_EMPTY_PATH, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	for _, name := range s.m.ReadOnly {
		p.About("read-only path %s", name)
		makeReadOnly(p, root, name)
	}
	for _, name := range s.m.Masked {
		p.About("masked path %s", name)
		s.mask(p, root, name)
	}
	// Not before: what is unbindable cannot be mounted over itself.
	if g := s.m.Root.Propagation; g.Type != 0 {
		p.About("linux.rootfsPropagation")
		flags := uint64(unix.AT_EMPTY_PATH)
		if g.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		p.MountSetattr(root, "", flags, unix.MountAttr{Propagation: g.Type})
	}
	if s.m.Root.ReadOnly {
		p.About("root.readonly")
		p.MountSetattr(root, "", unix.AT_EMPTY_PATH, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	p.About("")
}

func beneath(p *launch.Program, root launch.FD, name string, flags uint64) launch.Step {
	return p.Openat2(root, strings.TrimPrefix(name, "/"), unix.O_PATH|unix.O_CLOEXEC|flags, 0, launch.InRoot)
}

// deny covers the denied paths. All are opened before the first is covered: one may be reached through another, by a link.
func (s *Sources) deny(p *launch.Program, root launch.FD) {
	if len(s.m.Denied) == 0 {
		return
	}
	directory, file := s.takeDenied(p)
	type target struct{ directory, file launch.FD }
	targets := make([]target, len(s.m.Denied))
	for i, name := range s.m.Denied {
		p.About("filesystem.deny %s", name)
		opened, other := p.Label("opened"), p.Label("other")
		targets[i].directory = beneath(p, root, name, unix.O_DIRECTORY).OnSuccess(opened).OnError(other).Result("directory")
		p.Mark(other)
		targets[i].file = beneath(p, root, name, 0).Result("file")
		p.Mark(opened)
	}
	status := launch.Bytes(make([]byte, sizeofStatfs), "status")
	for i, name := range s.m.Denied {
		p.About("filesystem.deny %s", name)
		covered, other := p.Label("covered"), p.Label("other")
		// A result that has not been reached is -1: no descriptor.
		p.Call("fstatfs", unix.SYS_FSTATFS, targets[i].directory.Arg, status).OnError(other, unix.EBADF)
		cover(p, directory, targets[i].directory, covered)
		p.Mark(other)
		cover(p, file, targets[i].file, covered)
		p.Mark(covered)
	}
}

// takeDenied returns the objects to cover with. What the parent could not take out of their filesystem is taken while that is mounted
// for a moment, on top of everything.
func (s *Sources) takeDenied(p *launch.Program) (directory, file launch.FD) {
	if s.denied.both < 0 {
		return launch.Inherited(s.denied.directory, "directory"), launch.Inherited(s.denied.file, "file")
	}
	p.About("filesystem.deny")
	taken := takeOut(p, launch.Inherited(s.denied.both, "denied"), "directory", "file")
	return taken[0], taken[1]
}

// mask hides a path: a directory beneath an empty one, anything else beneath /dev/null.
func (s *Sources) mask(p *launch.Program, root launch.FD, name string) {
	done, file, directory := p.Label("done"), p.Label("file"), p.Label("directory")
	d := beneath(p, root, name, unix.O_DIRECTORY).OnSuccess(directory).OnError(file).Result("directory")
	p.Mark(file)
	f := beneath(p, root, name, 0).OnError(done, unix.ENOENT, unix.ENOTDIR).Result("file")
	cover(p, launch.Inherited(s.null, "null"), f, done)
	p.Mark(directory)
	cover(p, launch.Inherited(s.empty, "empty"), d, done)
	p.Mark(done)
}

// cover mounts a copy of object over target and goes on at l. What the parent has made can be copied only once it is part of this mount
// namespace (EINVAL), so that the first use takes the object itself. It cannot be moved by accident later on: once attached it has nothing
// about it that would keep it from being copied.
func cover(p *launch.Program, object, target launch.FD, l launch.Label) {
	first := p.Label("first")
	copied := p.OpenTree(object, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).OnError(first, unix.EINVAL).Result("cover")
	p.MoveMount(copied, target).OnSuccess(l)
	p.Mark(first)
	p.MoveMount(object, target).OnSuccess(l)
}

// makeReadOnly mounts a path over itself, read-only.
func makeReadOnly(p *launch.Program, root launch.FD, name string) {
	done := p.Label("done")
	target := beneath(p, root, name, 0).OnError(done, unix.ENOENT, unix.ENOTDIR).Result("target")
	mount := p.OpenTree(target, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE).Result("mount")
	p.MountSetattr(mount, "", unix.AT_EMPTY_PATH, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	p.MoveMount(mount, target)
	p.Mark(done)
}
