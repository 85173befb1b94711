package onbehalf

import (
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxLinks = 40 // MAXSYMLINKS of <linux/namei.h>
	// maxText bounds what is still to be walked; links can make a path longer than any that a call can name.
	maxText = 16 * unix.PathMax
)

// walk is a lookup that is done component by component, because procfs may be on the way.
type walk struct {
	worker *worker
	guest  *guest
	lookup lookup
	at     int // the directory that has been reached, the walk's own
	rest   string
	links  int
}

// findSlow walks.
func (w *worker) findSlow(g *guest, l lookup) (*Object, unix.Errno) {
	k := &walk{worker: w, guest: g, lookup: l, at: -1}
	if errno := k.begin(l.path); errno != 0 {
		return nil, errno
	}
	defer func() { closeAll(k.at) }()
	o, errno := k.run()
	if errno != 0 {
		o.close()
		return k.reached(), errno
	}
	// The kernel keeps a scoped lookup beneath its start even when directories are moved about meanwhile, which this one does not:
	// it may only say what the kernel could not.
	if l.resolve&scoped != 0 && !o.proc {
		o.close()
		return nil, unix.EXDEV
	}
	return o, 0
}

// reached is where the walk got to.
func (k *walk) reached() *Object {
	if k.at < 0 {
		return nil
	}
	return &Object{worker: k.worker, fd: -1, parent: k.take()}
}

// begin sets the walk to where path begins.
func (k *walk) begin(path string) unix.Errno {
	from := k.lookup.start
	if strings.HasPrefix(path, "/") {
		switch {
		case k.lookup.resolve&unix.RESOLVE_BENEATH != 0:
			return unix.EXDEV
		case k.lookup.resolve&unix.RESOLVE_IN_ROOT == 0:
			from = k.guest.root
		}
	}
	fd := dup(from)
	if fd < 0 {
		return unix.EMFILE
	}
	closeAll(k.at)
	k.at, k.rest = fd, path
	return 0
}

// component takes the next name off the rest. last tells that nothing follows, slashed that a slash does.
func (k *walk) component() (name string, last, slashed bool) {
	name, after, slashed := strings.Cut(strings.TrimLeft(k.rest, "/"), "/")
	k.rest = after
	return name, strings.Trim(after, "/") == "", slashed
}

func (k *walk) run() (*Object, unix.Errno) {
	for {
		name, last, slashed := k.component()
		switch name {
		case "", ".", "..":
			if errno := k.stay(name); errno != 0 {
				return nil, errno
			}
			if last {
				o, errno := k.arrive(k.take(), "")
				o.unnamed = unnamed(name)
				return o, errno
			}
			continue
		}
		if last && slashed && k.lookup.create {
			return nil, k.beforeCreate()
		}
		if inProc(k.at) { // what is in /proc/sys depends on who looks
			if errno := k.worker.join(k.guest); errno != 0 {
				return nil, errno
			}
		}
		fd, errno := k.open(k.at, name, unix.O_PATH|unix.O_NOFOLLOW)
		if errno == unix.EACCES && inProc(k.at) && k.worker.isOwn(k.guest, k.at) { // where the kernel looks at who asks before it looks at permissions
			k.worker.outside(func() { fd, errno = k.open(k.at, name, unix.O_PATH|unix.O_NOFOLLOW) })
		}
		if errno == unix.ENOENT && last {
			if slashed {
				name += "/"
			}
			return &Object{worker: k.worker, fd: -1, parent: k.take(), name: name}, 0
		}
		if errno != 0 {
			return nil, errno
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return nil, errnoOf(err)
		}
		kind := st.Mode & unix.S_IFMT
		switch {
		case kind == unix.S_IFLNK && (!last || !k.lookup.entry && (k.lookup.follow || slashed)):
			target, errno := k.follow(fd, name, &st, slashed)
			unix.Close(fd)
			if errno != 0 {
				return nil, errno
			}
			if target >= 0 && last {
				return k.arriveAt(target, slashed)
			}
			if target >= 0 {
				closeAll(k.at)
				k.at = target
			}
		case last && slashed && !k.lookup.entry && kind != unix.S_IFDIR:
			unix.Close(fd)
			return nil, unix.ENOTDIR
		case last && slashed:
			return k.arrive(fd, name+"/")
		case last:
			return k.arrive(fd, name)
		default:
			closeAll(k.at) // the next open says ENOTDIR where that is due
			k.at = fd
		}
	}
}

// beforeCreate is what is wrong with making a file whose name is followed by slashes.
func (k *walk) beforeCreate() unix.Errno {
	if errno := k.stay("."); errno != 0 {
		return errno // it is no directory, or not to be searched
	}
	return unix.EISDIR
}

// take gives the reached directory away.
func (k *walk) take() int {
	fd := k.at
	k.at = -1
	return fd
}

// open opens a name of a directory without following links.
func (k *walk) open(dir int, name string, flags uint64) (int, unix.Errno) {
	return openat2(dir, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: k.lookup.resolve&unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS})
}

// stay takes the step that leads to the same directory or the one above.
func (k *walk) stay(name string) unix.Errno {
	if name == ".." && k.lookup.resolve&scoped != 0 {
		here, err := rootOf(k.at)
		if err != nil {
			return errnoOf(err)
		}
		start, err := rootOf(k.lookup.start)
		switch {
		case err != nil:
			return errnoOf(err)
		case here == start && k.lookup.resolve&unix.RESOLVE_BENEATH != 0:
			return unix.EXDEV
		case here == start:
			name = "."
		}
	}
	if name == "" {
		name = "."
	}
	fd, errno := k.open(k.at, name, unix.O_PATH|unix.O_DIRECTORY)
	if errno != 0 {
		return errno
	}
	closeAll(k.at)
	k.at = fd
	return 0
}

// arrive makes the result. With a name fd was found in the reached directory.
func (k *walk) arrive(fd int, name string) (*Object, unix.Errno) {
	o := &Object{worker: k.worker, fd: fd, parent: -1, name: name, proc: inProc(fd)}
	if name != "" {
		o.parent = k.take()
	}
	if err := unix.Fstat(fd, &o.stat); err != nil {
		return o, errnoOf(err)
	}
	return o, 0
}

// arriveAt makes the result of a magic link at the end.
func (k *walk) arriveAt(fd int, slashed bool) (*Object, unix.Errno) {
	o, errno := k.arrive(fd, "")
	if errno == 0 && slashed && !o.isDir() {
		errno = unix.ENOTDIR
	}
	return o, errno
}

// follow follows the link name, opened as fd, of the reached directory. A textual link becomes part of the rest; what a magic link
// leads to is returned, -1 otherwise.
func (k *walk) follow(fd int, name string, st *unix.Stat_t, slashed bool) (int, unix.Errno) {
	if k.links++; k.links > maxLinks || k.lookup.resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		return -1, unix.ELOOP
	}
	if errno := k.worker.mayFollow(k.guest, k.at, fd, st); errno != 0 {
		return -1, errno
	}
	text, magic, errno := k.read(fd, name)
	if errno != 0 {
		return -1, errno
	}
	if magic {
		switch {
		case k.lookup.resolve&unix.RESOLVE_NO_MAGICLINKS != 0:
			fd, errno := k.open(k.at, name, unix.O_PATH) // which looks at permissions first
			closeAll(fd)
			if errno == 0 {
				errno = unix.ELOOP // it was one a moment ago
			}
			return -1, errno
		case k.lookup.resolve&(scoped|unix.RESOLVE_NO_XDEV) != 0:
			return -1, unix.EXDEV
		}
		return k.worker.jump(k.guest, k.at, name)
	}
	if slashed {
		text += "/" + k.rest
	}
	switch {
	case text == "":
		return -1, unix.ENOENT
	case len(text) > maxText:
		return -1, unix.ENAMETOOLONG
	case text[0] == '/':
		if errno := k.worker.mayJump(&k.lookup, k.at, k.guest.root); errno != 0 {
			return -1, errno
		}
		return -1, k.begin(text)
	}
	k.rest = text
	return -1, 0
}

// read returns a link's text, as the guest would see it, or that it is a magic link.
func (k *walk) read(fd int, name string) (text string, magic bool, errno unix.Errno) {
	if inProc(fd) {
		if isProcRoot(k.at) {
			switch name {
			case "self":
				process, _, errno := k.worker.pidName(k.guest, k.at)
				return process, false, errno
			case "thread-self":
				process, thread, errno := k.worker.pidName(k.guest, k.at)
				return process + "/task/" + thread, false, errno
			}
		} else if k.isMagic(name) {
			return "", true, 0
		}
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return "", false, errnoOf(err)
	}
	return string(b[:n]), false, 0
}

// mayJump tells whether a link in dir may lead to the root: not into another mount, if the guest does not want that, and not at all if its path
// was relative, which is how the kernel has it.
func (w *worker) mayJump(l *lookup, dir, root int) unix.Errno {
	if l.resolve&unix.RESOLVE_NO_XDEV == 0 {
		return 0
	}
	if !l.absolute {
		return unix.EXDEV
	}
	from, err := rootOf(dir)
	if err != nil {
		return errnoOf(err)
	}
	to, err := rootOf(root)
	if err == nil && from.mount != to.mount {
		return unix.EXDEV
	}
	return errnoOf(err)
}

// isMagic tells whether a link of procfs leads to its object without a text. The kernel looks at permissions first.
func (k *walk) isMagic(name string) bool {
	fd, errno := openat2(k.at, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	closeAll(fd)
	return errno == unix.ELOOP || errno == unix.EACCES || errno == unix.EPERM
}

// stNoSymFollow is ST_NOSYMFOLLOW of <linux/statfs.h>.
const stNoSymFollow = 0x2000

// mayFollow is may_follow_link of the kernel's fs/namei.c, for a link in dir: links in directories where everybody may make some, and mounts
// without links.
func (w *worker) mayFollow(g *guest, dir, link int, st *unix.Stat_t) unix.Errno {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(link, &fs); err != nil {
		return errnoOf(err)
	}
	if fs.Flags&stNoSymFollow != 0 {
		return unix.ELOOP
	}
	if w.engine.protected.symlinks == 0 || st.Uid == g.id.UID[3] {
		return 0
	}
	var parent unix.Stat_t
	if err := unix.Fstat(dir, &parent); err != nil {
		return errnoOf(err)
	}
	const everybody = unix.S_ISVTX | unix.S_IWOTH
	if parent.Mode&everybody == everybody && parent.Uid != st.Uid {
		return unix.EACCES
	}
	return 0
}
