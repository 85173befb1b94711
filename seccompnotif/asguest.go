package seccompnotif

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// place is a task's root and working directory.
type place struct{ root, cwd int }

func (h *Host) place(c *Call) (place, error) {
	root, err := h.Root(c)
	if err != nil {
		return place{}, err
	}
	cwd, err := h.WorkingDirectory(c)
	if err != nil {
		unix.Close(root)
		return place{}, err
	}
	return place{root, cwd}, nil
}

// Root opens the caller's root (O_PATH, close-on-exec); the caller of Root closes it.
func (h *Host) Root(c *Call) (int, error) { return h.directory(c, "root") }

// WorkingDirectory opens the caller's working directory (O_PATH, close-on-exec); the caller of WorkingDirectory closes it.
func (h *Host) WorkingDirectory(c *Call) (int, error) { return h.directory(c, "cwd") }

func (h *Host) directory(c *Call, name string) (int, error) {
	path := strconv.Itoa(c.PID()) + "/" + name
	fd, err := unix.Openat(h.proc, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil && !c.Valid() {
		unix.Close(fd)
		return -1, ErrGone
	}
	if err != nil {
		return -1, fmt.Errorf("/proc/%s: %w", path, err)
	}
	return fd, nil
}

func (p place) close() {
	unix.Close(p.root)
	unix.Close(p.cwd)
}

// AsGuest runs f on an OS thread that has the caller's user, groups and capabilities, and with inPlace its root and working
// directory too, so that the kernel allows f what it would allow the guest, resolves paths as the guest would, and tells
// others that the guest's user is at the other end. The thread ends afterwards: there is nothing to be undone, so nothing of
// the guest can stay behind. f must open no files by path and must not panic.
//
// Of the guest's capabilities the thread gets those that the supervisor has as well, and none at all if the guest is in
// another user namespace, where they mean less than here. Not taken on are the guest's process id, its Landlock domain and its
// LSM label: no thread can.
func (h *Host) AsGuest(c *Call, inPlace bool, f func() unix.Errno) (unix.Errno, error) {
	return h.asGuest(c, inPlace, nil, f)
}

// AsConfinedGuest is [Host.AsGuest] in the guest's place, and with its umask, on a thread that confine, unless nil, has put under what confines the
// guest beyond its identity, such as Landlock rules. confine may open files by path.
func (h *Host) AsConfinedGuest(c *Call, confine func() error, f func() unix.Errno) (unix.Errno, error) {
	id, err := h.Identity(c)
	if err != nil {
		return 0, err
	}
	return h.asGuest(c, true, confine, func() unix.Errno {
		unix.Umask(int(id.Umask)) // of this thread, which has a file system context of its own by now
		return f()
	})
}

func (h *Host) asGuest(c *Call, inPlace bool, confine func() error, f func() unix.Errno) (unix.Errno, error) {
	id, err := h.Identity(c)
	if err != nil {
		return 0, err
	}
	same, err := h.SharesUser(c)
	if err != nil {
		return 0, err
	}
	if !same {
		id.Effective = 0
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
		if confine != nil {
			if err := confine(); err != nil {
				done <- outcome{err: err}
				return
			}
		}
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
func (id *Identity) assume() error {
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
		if len(id.Groups) > 0 {
			groups = unsafe.Pointer(&id.Groups[0])
		}
		if err := rawErr(unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(id.Groups)), uintptr(groups), 0)); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		if err := rawErr(unix.RawSyscall(unix.SYS_SETRESGID, uintptr(id.GID[0]), uintptr(id.GID[1]), uintptr(id.GID[2]))); err != nil {
			return fmt.Errorf("setresgid: %w", err)
		}
		if err := rawErr(unix.RawSyscall(unix.SYS_SETRESUID, uintptr(id.UID[0]), uintptr(id.UID[1]), uintptr(id.UID[2]))); err != nil {
			return fmt.Errorf("setresuid: %w", err)
		}
	}
	if err := id.assumeFileSystemIDs(have); err != nil {
		return err
	}
	want := id.capabilities()
	for i := range want {
		want[i].Effective &= have[i].Permitted
		want[i].Permitted &= have[i].Permitted
	}
	return setCapabilities(want)
}

// assumeFileSystemIDs is setfsuid(2) and setfsgid(2), for the rare task whose ids for files are not its effective ones. have is what
// the thread may still have of capabilities.
func (id *Identity) assumeFileSystemIDs(have [2]unix.CapUserData) error {
	if id.UID[3] == id.UID[1] && id.GID[3] == id.GID[1] {
		return nil
	}
	for i := range have {
		have[i].Effective = have[i].Permitted
	}
	if err := setCapabilities(have); err != nil {
		return err
	}
	for _, set := range [...]struct {
		name string
		nr   uintptr
		id   uint32
	}{{"setfsgid", unix.SYS_SETFSGID, id.GID[3]}, {"setfsuid", unix.SYS_SETFSUID, id.UID[3]}} {
		const none = ^uint32(0)
		// It returns the previous id, whether it fails or not; an id that nobody has changes nothing.
		_, _, _ = unix.RawSyscall(set.nr, uintptr(set.id), 0, 0)
		if now, _, _ := unix.RawSyscall(set.nr, uintptr(none), 0, 0); uint32(now) != set.id {
			return fmt.Errorf("%s: %w", set.name, unix.EPERM)
		}
	}
	return nil
}

// setCapabilities is capset(2) for the calling thread alone.
func setCapabilities(set [2]unix.CapUserData) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := rawErr(unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&set)), 0)); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// isOwn tells whether the calling thread has these ids already; an unprivileged supervisor's guest does.
func (id *Identity) isOwn() bool {
	groups, err := unix.Getgroups()
	if err != nil {
		return false
	}
	same := len(groups) == len(id.Groups)
	for _, g := range groups {
		same = same && slices.Contains(id.Groups, uint32(g))
	}
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	return same && [3]uint32(id.UID[:]) == [3]uint32{uint32(ruid), uint32(euid), uint32(suid)} &&
		[3]uint32(id.GID[:]) == [3]uint32{uint32(rgid), uint32(egid), uint32(sgid)}
}

func rawErr(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
