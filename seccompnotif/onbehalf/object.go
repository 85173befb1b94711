package onbehalf

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Object is what a lookup has led to, or the place where it would be. Its descriptors are the engine's, and open only as long as
// the function runs that was given the object.
type Object struct {
	worker *worker
	fd     int
	parent int
	name   string
	stat   unix.Stat_t
	proc   bool
	// unnamed is what rmdir(2) says about a directory that the path does not name.
	unnamed unix.Errno
}

// FD returns a descriptor (O_PATH) of the object, -1 if it does not exist and is about to be made.
func (o *Object) FD() int { return o.fd }

// Exists tells whether there is an object.
func (o *Object) Exists() bool { return o.fd >= 0 }

// Parent returns a descriptor (O_PATH) of the directory in which the object was found or is about to be made, -1 if it was reached in
// another way: it is a directory named by a path such as "..", or what a magic link of procfs led to.
func (o *Object) Parent() int { return o.parent }

// Name returns the object's name in its parent.
func (o *Object) Name() string { return strings.TrimRight(o.name, "/") }

// Stat returns what fstat(2) says of the object; the zero value if it does not exist.
func (o *Object) Stat() *unix.Stat_t { return &o.stat }

// InProc tells whether the object is in a procfs.
func (o *Object) InProc() bool { return o.proc }

// Path returns a path of the object as the guest would see it, which is good for messages, and for objects of procfs, whose names
// do not change.
func (o *Object) Path() string {
	switch {
	case o.fd >= 0:
		return o.worker.pathOf(o.fd)
	case o.parent >= 0:
		return path.Join(o.worker.pathOf(o.parent), o.name)
	}
	return ""
}

// Identity returns what tells an object from all others while it exists.
func (o *Object) Identity() Inode { return Inode{o.stat.Dev, o.stat.Ino} }

// Inode identifies an object while it exists, by st_dev and st_ino.
type Inode struct{ Dev, Ino uint64 }

func (o *Object) isDir() bool { return o.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

func (o *Object) isLink() bool { return o.stat.Mode&unix.S_IFMT == unix.S_IFLNK }

// close lets go of the object.
func (o *Object) close() {
	if o == nil {
		return
	}
	closeAll(o.fd, o.parent)
	o.fd, o.parent = -1, -1
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// pathOf returns the path of a descriptor, seen from the worker's root.
func (w *worker) pathOf(fd int) string {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(w.fds, strconv.Itoa(fd), b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// Ancestors calls f with each directory that the object is in, from the nearest to the top of the mount namespace, beginning with the
// object itself if it is a directory, until f returns false. It goes up from directory to directory, through mount points and beyond
// the guest's own root, as ".." would. Where an object that is not a directory was reached by a magic link, the directory is the one
// that the kernel says it is in; ESTALE means that it is not there.
func (o *Object) Ancestors(f func(fd int, id Inode) bool) unix.Errno {
	at, owned, errno := o.directory()
	if errno != 0 || at < 0 {
		return errno
	}
	if !owned {
		if at = dup(at); at < 0 {
			return unix.EMFILE
		}
	}
	w := o.worker
	at, more, errno := climb(at, f)
	defer func() { closeAll(at) }()
	if errno != 0 || !more || w.root == w.top {
		return errno
	}
	// Beyond the root that the thread has.
	begun, beyond := false, false
	w.outside(func() {
		at, _, errno = climb(at, func(fd int, id Inode) bool {
			if !begun { // it is where the thread's own way ended
				begun = true
				return true
			}
			beyond = true
			return f(fd, id)
		})
	})
	if errno == 0 && !beyond {
		w.top = w.root
	}
	return errno
}

// climb goes up from a directory, which it takes over, and returns where it ended; more is false if f did not want to go on.
func climb(at int, f func(fd int, id Inode) bool) (top int, more bool, errno unix.Errno) {
	here, err := rootOf(at)
	if err != nil {
		return at, false, errnoOf(err)
	}
	for range maxDepth {
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil {
			return at, false, errnoOf(err)
		}
		if !f(at, Inode{st.Dev, st.Ino}) {
			return at, false, 0
		}
		up, err := unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return at, false, errnoOf(err)
		}
		unix.Close(at)
		at = up
		above, err := rootOf(at)
		if err != nil {
			return at, false, errnoOf(err)
		}
		if above == here { // the parent of the topmost directory is itself
			return at, true, 0
		}
		here = above
	}
	return at, false, unix.ELOOP
}

// maxDepth is more directories than a path can name; deeper ones can be made, step by step, and are refused.
const maxDepth = unix.PathMax

// directory returns the directory to begin with, and whether it is the caller's to close; -1 if there is none, as for a pipe.
func (o *Object) directory() (fd int, owned bool, errno unix.Errno) {
	switch {
	case o.fd >= 0 && o.isDir():
		return o.fd, false, 0
	case o.parent >= 0:
		return o.parent, false, 0
	}
	name := o.worker.pathOf(o.fd)
	if !strings.HasPrefix(name, "/") {
		// No path leads to it: it is a pipe, or in the mount namespace of whoever handed it to the guest ("(unreachable)").
		return -1, false, 0
	}
	name, deleted := strings.CutSuffix(name, " (deleted)")
	for range lookups {
		parent, err := unix.Openat(o.worker.fds, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, false, unix.ESTALE
		}
		var st unix.Stat_t
		if deleted || unix.Fstatat(parent, path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW) == nil && (Inode{st.Dev, st.Ino}) == o.Identity() {
			return parent, true, 0
		}
		unix.Close(parent)
		name = o.worker.pathOf(o.fd)
	}
	return -1, false, unix.ESTALE
}

// lookups is how often something is looked for that others move about.
const lookups = 8
