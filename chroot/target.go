package chroot

import (
	"path"
	"slices"
	"strings"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// place is what the parent knows about the place of a mount.
type place struct {
	exists bool   // it is there, and no link is on the way
	path   string // without links: where it is made if it is missing
}

// mountPoint adds the steps that open the place of a mount and, where the image has none, make it.
//
// The usual case is one system call: the path is there and no link is in it, so that it is literally what checkProc has judged. A path
// with a link is looked up as inside the container, and must not have led into a procfs. Where neither gives anything the missing
// directories are made, each within the descriptor of the one above. about is what a failure is reported with.
func (s *Sources) mountPoint(p *launch.Program, root launch.FD, about, destination string, isDirectory bool) launch.FD {
	p.About("%s", about)
	name := strings.TrimPrefix(destination, "/")
	at := s.places[destination]
	literal := p.Openat2(root, name, unix.O_PATH|unix.O_CLOEXEC, 0, launch.InRoot|unix.RESOLVE_NO_SYMLINKS)
	target := literal.Result("target")
	if at.exists || s.isEntry(destination) {
		return target
	}
	have, follow, missing := p.Label("have"), p.Label("follow"), p.Label("missing")
	literal.OnSuccess(have).OnError(follow)
	p.Mark(follow)
	p.Openat2(root, name, unix.O_PATH|unix.O_CLOEXEC, 0, launch.InRoot).OnError(missing, unix.ENOENT).Into(target)
	p.About("%s: a link leads into /proc", about)
	refuseProc(p, target, have)
	p.About("%s", about)
	p.Mark(missing)
	if at.path == "" {
		at.path = destination
	}
	s.makePath(p, root, at.path, isDirectory, target)
	p.Mark(have)
	return target
}

// isEntry tells whether something has been mounted at a path by the steps so far.
func (s *Sources) isEntry(path string) bool {
	return slices.ContainsFunc(s.m.Entries[:s.attached], func(e Entry) bool { return e.Destination == path })
}

// literalDirectory is mountPoint for proc and sysfs: the last name must be a real directory. What the runtime and the workload write to
// in /proc must be what it seems to be.
func (s *Sources) literalDirectory(p *launch.Program, root launch.FD, destination string) launch.FD {
	have := p.Label("have")
	missing := p.Label("missing")
	name := strings.TrimPrefix(destination, "/")
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	target := p.Openat2(root, name, flags, 0, launch.InRoot).OnSuccess(have).OnError(missing, unix.ENOENT).Result("target")
	p.Mark(missing)
	s.makePath(p, root, destination, true, target)
	p.Mark(have)
	return target
}

// refuseProc goes on at l unless file is on a procfs. f_type is what struct statfs begins with.
func refuseProc(p *launch.Program, file launch.FD, l launch.Label) {
	status := statfs(p, file)
	p.ExpectByte(status, procMagic, unix.EPERM).OnError(l)
	p.Fail(unix.EPERM)
}

// The low bytes of filesystems' magic numbers, which no other filesystem shares (linux/magic.h).
const (
	procMagic   = unix.PROC_SUPER_MAGIC & 0xff
	devptsMagic = unix.DEVPTS_SUPER_MAGIC & 0xff
)

// statfs adds fstatfs(2) and returns its buffer.
func statfs(p *launch.Program, file launch.FD) launch.Arg {
	buffer := launch.Bytes(make([]byte, sizeofStatfs), "status")
	p.Call("fstatfs", unix.SYS_FSTATFS, file.Arg, buffer)
	return buffer
}

// makePath makes what is missing of a path, and has target be the last of it: a directory, or an empty file.
func (s *Sources) makePath(p *launch.Program, root launch.FD, destination string, isDirectory bool, target launch.FD) {
	const directory = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	names := strings.Split(strings.TrimPrefix(destination, "/"), "/")
	parent, start := root, 0
	for i := len(names) - 1; i > 0; i-- {
		if above := path.Join(names[:i]...); s.isEntry("/" + above) {
			parent, start = p.Openat2(root, above, directory, 0, launch.InRoot).Result("directory"), i
			break
		}
	}
	for i := start; i < len(names)-1; i++ {
		// Open and, if there is nothing, make.
		there, missing := p.Label("there"), p.Label("missing")
		next := p.Openat2(root, path.Join(names[:i+1]...), directory, 0, launch.InRoot).OnSuccess(there).OnError(missing, unix.ENOENT).Result("directory")
		p.Mark(missing)
		makeDirectory(p, parent, names[i]).Into(next)
		p.Mark(there)
		parent = next
	}
	last := names[len(names)-1]
	if isDirectory {
		makeDirectory(p, parent, last).Into(target)
		return
	}
	const mode = 0o644
	p.Openat2(parent, last, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS).Into(target)
}

// makeDirectory returns the step whose result is the directory. Another container that shares the tree may have made it just now.
func makeDirectory(p *launch.Program, parent launch.FD, name string) launch.Step {
	const mode = 0o755
	p.Mkdirat(parent, name, mode).Ignore(unix.EEXIST)
	return p.Openat2(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}
