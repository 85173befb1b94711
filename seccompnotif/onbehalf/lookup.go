package onbehalf

import (
	"strings"

	"golang.org/x/sys/unix"
)

// lookup is a path to be looked up for the guest.
type lookup struct {
	start    int // where a relative path begins
	path     string
	follow   bool   // a symbolic link at the end, too
	create   bool   // what is not there is to be made, as a file
	entry    bool   // the name is meant and not what it leads to: nothing at the end is followed, slashes or not
	absolute bool   // the guest's path was
	resolve  uint64 // the guest's own RESOLVE_ flags of openat2(2)
}

// scoped are the flags that confine a lookup to what is beneath its start.
const scoped = unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT

// split cuts a path into the way to the parent and the last component. name is empty if the path ends in a directory that is not named
// in its parent: "/", ".", "..". slashed tells that slashes follow, so that only a directory will do.
func (l *lookup) split() (dir, name string, slashed bool) {
	trimmed := strings.TrimRight(l.path, "/")
	slashed = len(trimmed) < len(l.path)
	i := strings.LastIndexByte(trimmed, '/') + 1
	dir, name = trimmed[:i], trimmed[i:]
	if name == "." || name == ".." || name == "" {
		return l.path, "", slashed
	}
	return dir, name, slashed
}

// find looks a path up, in the guest's place. What exists in no procfs is found by the kernel alone. The object may be missing if its
// parent is there. With an error there may be an object all the same: the place that the lookup got to.
func (w *worker) find(g *guest, l lookup) (*Object, unix.Errno) {
	if l.path == "" {
		return nil, unix.ENOENT
	}
	l.absolute = strings.HasPrefix(l.path, "/")
	next, links := l, 0
	for {
		o, errno := w.findFast(next)
		if errno != 0 || !o.isLink() || !next.follows() {
			if errno == errSlow {
				return w.findSlow(g, l)
			}
			return o, errno
		}
		if links++; links > maxLinks {
			o.close()
			return nil, unix.ELOOP
		}
		next, errno = next.through(w, g, o)
		if next.start == o.parent {
			o.parent = -1
			defer unix.Close(next.start)
		}
		o.close()
		if errno != 0 {
			return nil, errno
		}
	}
}

// errSlow says that the kernel alone cannot tell, or would tell something else to us than to the guest.
const errSlow = unix.Errno(0xffff)

// follows tells whether a link at the end is followed.
func (l *lookup) follows() bool { return !l.entry && (l.follow || strings.HasSuffix(l.path, "/")) }

// through returns what to look up when the lookup has come to a textual link. A scoped one begins anew, so that the kernel sees to it that it
// stays within its scope; any other begins in the link's directory.
func (l *lookup) through(w *worker, g *guest, link *Object) (lookup, unix.Errno) {
	next := *l
	if l.resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		return next, unix.ELOOP
	}
	if errno := w.mayFollow(g, link.parent, link.fd, &link.stat); errno != 0 {
		return next, errno
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link.fd, "", b)
	if err != nil {
		return next, errnoOf(err)
	}
	dir, _, slashed := l.split()
	next.path = string(b[:n])
	if slashed {
		next.path += "/"
	}
	switch absolute := strings.HasPrefix(next.path, "/"); {
	case n == 0:
		return next, unix.ENOENT
	case absolute && l.resolve&unix.RESOLVE_BENEATH != 0:
		return next, unix.EXDEV
	case absolute:
		if errno := w.mayJump(l, link.parent, g.root); errno != 0 {
			return next, errno
		}
	case l.resolve&scoped != 0:
		next.path = dir + next.path
	default:
		next.start = link.parent
	}
	if len(next.path) >= unix.PathMax {
		return next, unix.ENAMETOOLONG
	}
	return next, 0
}

// findFast has the kernel look the path up, but for a link at its end, which is returned. Without magic links no object outside of procfs depends
// on who looks: a textual link through "self" of procfs either leads to nothing here or to where it leads for the guest as well, and
// every failure is looked into once more.
func (w *worker) findFast(l lookup) (*Object, unix.Errno) {
	dir, name, slashed := l.split()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: l.resolve | unix.RESOLVE_NO_MAGICLINKS}
	o := &Object{worker: w, fd: -1, parent: -1, name: name}
	if slashed {
		o.name += "/"
	}
	var at int
	if dir != "" {
		fd, errno := openat2(l.start, dir, &how)
		if errno == unix.EAGAIN {
			return nil, errno
		}
		if errno != 0 {
			return nil, errSlow
		}
		at = fd
	} else if at = dup(l.start); at < 0 {
		return nil, unix.EMFILE
	}
	if name == "" {
		o.fd = at
		o.unnamed = unnamed(l.path)
	} else {
		o.parent = at
		if slashed && l.create && !inProc(at) {
			o.close()
			return nil, unix.EISDIR
		}
		how.Flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, errno := openat2(at, name, &how)
		if errno == unix.ENOENT && !inProc(at) {
			return o, 0
		}
		if errno != 0 {
			o.close()
			return nil, errSlow
		}
		o.fd = fd
	}
	if err := unix.Fstat(o.fd, &o.stat); err != nil || inProc(o.fd) {
		o.close()
		return nil, errSlow
	}
	if slashed && !l.entry && !o.isDir() && !o.isLink() {
		o.close()
		return nil, unix.ENOTDIR
	}
	return o, 0
}

// openat2 repeats what a signal has interrupted, and a scoped lookup that the kernel fails with EAGAIN: it does so with each that follows a ".." while
// something is renamed or mounted anywhere on the machine. It is not repeated for ever, since the guest may be who renames.
func openat2(dir int, path string, how *unix.OpenHow) (int, unix.Errno) {
	const attempts = 100
	for i := 1; ; i++ {
		fd, err := unix.Openat2(dir, path, how)
		if err != unix.EINTR && (err != unix.EAGAIN || i >= attempts) {
			return fd, errnoOf(err)
		}
	}
}

func dup(fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return n
}

// unnamed is what rmdir(2) says about a path that ends in no name.
func unnamed(path string) unix.Errno {
	path = strings.TrimRight(path, "/")
	switch {
	case path == "":
		return unix.EBUSY
	case strings.HasSuffix(path, ".."):
		return unix.ENOTEMPTY
	}
	return unix.EINVAL
}
