package onbehalf

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// procRootIno is PROC_ROOT_INO of <linux/proc_fs.h>, the inode number of the top of every procfs.
const procRootIno = 1

// inProc tells whether fd is in a procfs. What cannot be told is taken to be, since that is the careful way to go on.
func inProc(fd int) bool {
	var fs unix.Statfs_t
	for {
		err := unix.Fstatfs(fd, &fs)
		if err != unix.EINTR {
			return err != nil || fs.Type == unix.PROC_SUPER_MAGIC
		}
	}
}

func isProcRoot(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Ino == procRootIno && inProc(fd)
}

// pidName returns the name that the guest's process has in the procfs whose top is root: its number in the pid namespace of that
// procfs. thread is the thread's number there.
//
// Which namespace that is cannot be asked for; it is the one in which a process of that number has the same further numbers. Nothing
// depends on there being no other such process, since the guest could have given any number by itself.
//
// The status is the supervisor's to read: the guest may be confined to files outside of /proc.
func (w *worker) pidName(g *guest, root int) (process, thread string, errno unix.Errno) {
	w.outside(func() { process, thread, errno = g.pidName(root) })
	return process, thread, errno
}

func (g *guest) pidName(root int) (process, thread string, errno unix.Errno) {
	for i := len(g.id.TGIDs) - 1; i >= 0; i-- {
		process = strconv.Itoa(g.id.TGIDs[i])
		fd, err := unix.Openat(root, process+"/status", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		b := make([]byte, 8192)
		n, err := unix.Read(fd, b)
		unix.Close(fd)
		if err != nil {
			continue
		}
		other, err := seccompnotif.ParseIdentity(b[:n])
		if err == nil && slices.Equal(other.TGIDs, g.id.TGIDs[i:]) {
			return process, strconv.Itoa(g.id.TIDs[i]), 0
		}
	}
	return "", "", unix.ENOENT // what "self" is to a process that the procfs does not have
}

// isOwn tells whether dir is, or is beneath, the guest's own directory of procfs. The way up is the supervisor's to go: the guest may not
// be allowed to go it.
func (w *worker) isOwn(g *guest, dir int) (own bool) {
	w.outside(func() { own = g.isOwn(dir) })
	return own
}

func (g *guest) isOwn(dir int) bool {
	const levels = 6 // /proc/PID/task/TID/fd has less
	at, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { unix.Close(at) }()
	var own unix.Stat_t
	for range levels {
		if !inProc(at) {
			return false
		}
		up, err := unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		if !isProcRoot(up) {
			unix.Close(at)
			at = up
			continue
		}
		defer unix.Close(up)
		var here unix.Stat_t
		if err := unix.Fstat(at, &here); err != nil {
			return false
		}
		process, _, errno := g.pidName(up)
		if errno != 0 {
			return false
		}
		return unix.Fstatat(up, process, &own, unix.AT_SYMLINK_NOFOLLOW) == nil && own.Ino == here.Ino && own.Dev == here.Dev
	}
	return false
}

// jump follows the magic link name of the directory dir and returns what it leads to (O_PATH). What the guest may not do by its
// permissions it may do with its own process, and what Landlock keeps from our thread it does not keep from the guest itself.
func (w *worker) jump(g *guest, dir int, name string) (int, unix.Errno) {
	const flags = unix.O_PATH | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if err == nil {
		return fd, 0
	}
	if errno := errnoOf(err); errno != unix.EACCES && errno != unix.EPERM {
		return -1, errno
	}
	if !w.isOwn(g, dir) {
		return -1, errnoOf(err)
	}
	w.outside(func() { fd, err = unix.Openat(dir, name, flags, 0) })
	if err == nil && !g.call.Valid() {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, errnoOf(err)
}

// openOwn opens a file of the guest's own directory of procfs that the kernel opens for no other process without the right to trace it,
// which no thread under Landlock has. The thread that opens it has the guest's identity but is not confined. Whether the guest's own
// rules would let it is found out with a file beside it, which anybody may trace or not.
func (w *worker) openOwn(g *guest, o *Object, flags uint64) (int, unix.Errno) {
	if o.parent < 0 || !w.isOwn(g, o.parent) {
		return -1, unix.EACCES
	}
	if o.isDir() {
		return w.listOwn(o, flags)
	}
	for _, test := range []struct {
		name   string
		access int
	}{{"status", unix.O_RDONLY}, {"comm", unix.O_WRONLY}} {
		if access := int(flags) & unix.O_ACCMODE; access != test.access && access != unix.O_RDWR {
			continue
		}
		fd, err := unix.Openat(o.parent, test.name, test.access|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, unix.EACCES
		}
		unix.Close(fd)
	}
	fd, errno := -1, unix.Errno(unix.EACCES)
	w.outside(func() {
		_, err := w.engine.host.AsGuest(g.call, false, func() unix.Errno {
			const clear = unix.O_NOFOLLOW | unix.O_CREAT | unix.O_EXCL
			path := "thread-self/fd/" + strconv.Itoa(o.fd)
			var err error
			fd, err = unix.Openat(w.engine.host.Proc(), path, int(flags)&^clear|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
			errno = errnoOf(err)
			return 0
		})
		if err != nil {
			fd, errno = -1, errnoOf(err)
		}
	})
	return fd, errno
}

// listOwn opens the directory of the guest's own descriptors, which a process may do whatever its permissions.
func (w *worker) listOwn(o *Object, flags uint64) (int, unix.Errno) {
	if name := o.Name(); name != "fd" && name != "fdinfo" || int(flags)&(unix.O_ACCMODE|unix.O_NOATIME) != unix.O_RDONLY {
		return -1, unix.EACCES
	}
	fd, err := unix.Openat(o.parent, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil { // our confinement is against listing directories here
		return -1, unix.EACCES
	}
	unix.Close(fd)
	w.outside(func() {
		fd, err = unix.Openat(w.engine.host.Proc(), "self/fd/"+strconv.Itoa(o.fd), int(flags)&^unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	return fd, errnoOf(err)
}
