package netfilter

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// host is what the supervisor knows of its own place. /proc is held open because some of our threads take the guest's root,
// where the path would lead into the guest's own.
type host struct {
	proc  int
	netNS nsID
	user  nsID
}

// nsID identifies a namespace, see ioctl_ns(2) and namespaces(7).
type nsID struct{ dev, ino uint64 }

func openHost() (host, error) {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return host{}, fmt.Errorf("egress: open /proc: %w", err)
	}
	h := host{proc: fd}
	if h.netNS, err = h.namespace("thread-self/ns/net"); err == nil {
		h.user, err = h.namespace("thread-self/ns/user")
	}
	if err != nil {
		unix.Close(fd)
		return host{}, fmt.Errorf("egress: %w", err)
	}
	return h, nil
}

func (h host) close() error { return unix.Close(h.proc) }

func (h host) namespace(path string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(h.proc, path, &st, 0); err != nil {
		return nsID{}, fmt.Errorf("/proc/%s: %w", path, err)
	}
	return nsID{st.Dev, st.Ino}, nil
}

// read returns the contents of a file of /proc/tid.
func (h host) read(tid int, name string) ([]byte, error) {
	path := strconv.Itoa(tid) + "/" + name
	fd, err := unix.Openat(h.proc, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/proc/%s: %w", path, err)
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("/proc/%s: %w", path, err)
		}
		if text = text[:len(text)+n]; n == 0 {
			return text, nil
		}
		if len(text) == cap(text) {
			text = slices.Grow(text, cap(text))
		}
	}
}

// identity returns who makes the call.
func (h host) identity(c *seccompnotif.Call) (identity, error) {
	status, err := h.read(c.PID(), "status")
	if err != nil {
		return identity{}, err
	}
	id, err := parseStatus(status)
	if err == nil && !c.Valid() {
		err = seccompnotif.ErrGone
	}
	return id, err
}

// sharesUser tells whether the caller is in the supervisor's user namespace.
func (h host) sharesUser(c *seccompnotif.Call) (bool, error) {
	ns, err := h.namespace(strconv.Itoa(c.PID()) + "/ns/user")
	if err == nil && !c.Valid() {
		err = seccompnotif.ErrGone
	}
	return ns == h.user, err
}

// outsideIDs translates ids that the caller names to the supervisor's.
func (h host) outsideIDs(c *seccompnotif.Call, uid, gid uint32) (_, _ uint32, err error) {
	for _, m := range []struct {
		name string
		id   *uint32
	}{{"uid_map", &uid}, {"gid_map", &gid}} {
		text, err := h.read(c.PID(), m.name)
		if err != nil {
			return 0, 0, err
		}
		ids, err := parseIDMap(text)
		if err != nil {
			return 0, 0, err
		}
		mapped, ok := ids.outside(*m.id)
		if !ok {
			return 0, 0, unix.EINVAL // what the kernel answers to an id that is not mapped
		}
		*m.id = mapped
	}
	return uid, gid, nil
}

// place is a task's root and working directory.
type place struct{ root, cwd int }

func (h host) place(c *seccompnotif.Call) (place, error) {
	open := func(name string) (int, error) {
		path := strconv.Itoa(c.PID()) + "/" + name
		fd, err := unix.Openat(h.proc, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, fmt.Errorf("/proc/%s: %w", path, err)
		}
		return fd, nil
	}
	root, err := open("root")
	if err != nil {
		return place{}, err
	}
	cwd, err := open("cwd")
	if err == nil && !c.Valid() {
		unix.Close(cwd)
		err = seccompnotif.ErrGone
	}
	if err != nil {
		unix.Close(root)
		return place{}, err
	}
	return place{root, cwd}, nil
}

func (p place) close() {
	unix.Close(p.root)
	unix.Close(p.cwd)
}

// asGuest runs f on an OS thread that has the caller's user, groups and capabilities, and with inPlace its root and working
// directory too, so that the kernel allows f what it would allow the guest, resolves paths as the guest would, and tells
// others that the guest's user is at the other end. The thread ends afterwards: there is nothing to be undone, so nothing of
// the guest can stay behind. f must open no files by path and must not panic.
//
// Of the guest's capabilities the thread gets those that the supervisor has as well, and none at all if the guest is in
// another user namespace, where they mean less than here. Not taken on are the guest's process id, its Landlock domain and its
// LSM label: no thread can.
func (h host) asGuest(c *seccompnotif.Call, inPlace bool, f func() unix.Errno) (unix.Errno, error) {
	id, err := h.identity(c)
	if err != nil {
		return 0, err
	}
	same, err := h.sharesUser(c)
	if err != nil {
		return 0, err
	}
	if !same {
		id.effective = 0
	}
	var at place
	if inPlace {
		if at, err = h.place(c); err != nil {
			return 0, err
		}
		defer at.close()
	}
	type outcome struct {
		errno unix.Errno
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if inPlace {
			if err := at.enter(); err != nil {
				done <- outcome{err: err}
				return
			}
		}
		if err := id.assume(); err != nil {
			done <- outcome{err: err}
			return
		}
		done <- outcome{errno: f()}
	}()
	o := <-done
	return o.errno, o.err
}

// enter makes p the root and working directory of the calling thread alone.
func (p place) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the file system context: %w", err)
	}
	if err := rawErr(unix.RawSyscall(unix.SYS_FCHDIR, uintptr(p.root), 0, 0)); err != nil {
		return fmt.Errorf("fchdir to the guest's root: %w", err)
	}
	dot := [...]byte{'.', 0}
	if err := rawErr(unix.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dot)), 0, 0)); err != nil {
		return fmt.Errorf("chroot to the guest's root: %w", err)
	}
	if err := rawErr(unix.RawSyscall(unix.SYS_FCHDIR, uintptr(p.cwd), 0, 0)); err != nil {
		return fmt.Errorf("fchdir to the guest's directory: %w", err)
	}
	return nil
}

// assume gives the calling thread, and no other, the ids and capabilities of a task. The system calls are raw because the
// functions of the syscall package change every thread.
func (id *identity) assume() error {
	if err := rawErr(unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0, 0)); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := rawErr(unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&have)), 0)); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if !id.isOwn() {
		var groups unsafe.Pointer
		if len(id.groups) > 0 {
			groups = unsafe.Pointer(&id.groups[0])
		}
		if err := rawErr(unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(id.groups)), uintptr(groups), 0)); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		if err := rawErr(unix.RawSyscall(unix.SYS_SETRESGID, uintptr(id.gid[0]), uintptr(id.gid[1]), uintptr(id.gid[2]))); err != nil {
			return fmt.Errorf("setresgid: %w", err)
		}
		if err := rawErr(unix.RawSyscall(unix.SYS_SETRESUID, uintptr(id.uid[0]), uintptr(id.uid[1]), uintptr(id.uid[2]))); err != nil {
			return fmt.Errorf("setresuid: %w", err)
		}
	}
	want := id.capabilities()
	for i := range want {
		want[i].Effective &= have[i].Permitted
		want[i].Permitted &= have[i].Permitted
	}
	if err := rawErr(unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&want)), 0)); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// isOwn tells whether the calling thread has these ids already; an unprivileged supervisor's guest does.
func (id *identity) isOwn() bool {
	groups, err := unix.Getgroups()
	if err != nil {
		return false
	}
	same := len(groups) == len(id.groups)
	for _, g := range groups {
		same = same && slices.Contains(id.groups, uint32(g))
	}
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	return same && id.uid == [3]uint32{uint32(ruid), uint32(euid), uint32(suid)} && id.gid == [3]uint32{uint32(rgid), uint32(egid), uint32(sgid)}
}

func rawErr(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// sharedNetwork tells whether a socket is in the supervisor's network namespace. If that cannot be told it is taken to be.
func (h host) sharedNetwork(s *socket) bool {
	ns, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCGSKNS, 0)
	if errno != 0 {
		return true
	}
	defer unix.Close(int(ns))
	var st unix.Stat_t
	if err := unix.Fstat(int(ns), &st); err != nil {
		return true
	}
	return nsID{st.Dev, st.Ino} == h.netNS
}
