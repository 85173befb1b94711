package onbehalf

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// joined are the namespaces whose meaning some files take from the task that opens or looks them up: those of /proc/sys, cgroupfs, devices such as
// /dev/net/tun.
var joined = [...]struct {
	name string
	flag int
}{
	{"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP},
}

// plain tells of filesystems to which it does not matter who opens a file, but for its permissions.
func plain(magic int64) bool {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.ISOFS_SUPER_MAGIC,
		unix.NFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		return true
	}
	return false
}

// isPlain tells whether opening the object comes to the same in whatever namespaces it is done.
func isPlain(o *Object) bool {
	switch o.stat.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	case unix.S_IFIFO:
		return true
	default:
		return false
	}
	return !inSpecial(o.fd)
}

// inSpecial tells whether fd is in a filesystem of which that is not known.
func inSpecial(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) != nil || !plain(fs.Type)
}

// join puts the worker, inside [worker.as], into the guest's namespaces.
func (w *worker) join(g *guest) unix.Errno {
	if w.joinedBy == g.call { // which waits for us, and can join no others
		return 0
	}
	fds, errno := [len(joined)]int{}, unix.Errno(0)
	w.outside(func() { fds, errno = w.engine.namespaces(g) })
	defer func() { closeAll(fds[:]...) }()
	for i, ns := range joined {
		if errno == 0 {
			errno = w.setNamespace(fds[i], ns.flag, &w.namespaces[i])
		}
	}
	if errno != 0 {
		return errno
	}
	w.joinedBy = g.call
	return 0
}

// namespaces opens the guest's namespaces.
func (e *Engine) namespaces(g *guest) (fds [len(joined)]int, errno unix.Errno) {
	for i := range fds {
		fds[i] = -1
	}
	for i, ns := range joined {
		var err error
		fds[i], err = unix.Openat(e.host.Proc(), strconv.Itoa(g.call.PID())+"/ns/"+ns.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fds, errnoOf(err)
		}
	}
	if !g.call.Valid() {
		errno = unix.ESRCH
	}
	return fds, errno
}

func (w *worker) setNamespace(fd, flag int, now *seccompnotif.NamespaceID) unix.Errno {
	id, err := seccompnotif.NamespaceOf(fd)
	if err != nil {
		return errnoOf(err)
	}
	if id == *now {
		return 0
	}
	as := w.now
	if err := w.change(w.own); err != nil {
		return errnoOf(err)
	}
	if err := rawErr(unix.RawSyscall(unix.SYS_SETNS, uintptr(fd), uintptr(flag), 0)); err != nil {
		return errnoOf(err)
	}
	*now = id
	return errnoOf(w.change(as))
}
