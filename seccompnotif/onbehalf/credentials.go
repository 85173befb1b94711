package onbehalf

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// credentials are what a worker changes of its own.
type credentials struct {
	uid, gid  [4]uint32 // real, effective, saved, file system
	groups    []uint32
	effective uint64
}

// become takes the guest's identity on. The permitted capabilities stay, so that there is a way back and so that nobody with the
// guest's user alone may trace the thread.
func (w *worker) become(g *guest) error {
	want := credentials{uid: g.id.UID, gid: g.id.GID, groups: g.id.Groups, effective: g.id.Effective & w.own.effective}
	if g.id.Umask != w.umask {
		_, _, _ = unix.RawSyscall(unix.SYS_UMASK, uintptr(g.id.Umask), 0, 0) // it cannot fail
		w.umask = g.id.Umask
	}
	return w.change(want)
}

// restore takes the supervisor's identity on again. A worker that cannot is of no use any more.
func (w *worker) restore() {
	if err := w.change(w.own); err != nil && w.job.err == nil {
		w.job.err = fmt.Errorf("return to the supervisor's identity: %w", err)
	}
}

// grant adds capabilities of the supervisor to those in force, for the rest of an [worker.as].
func (w *worker) grant(capabilities uint64) error {
	want := w.now
	want.effective |= capabilities & w.own.effective
	return w.change(want)
}

// change changes the thread's credentials from what they are now. The system calls are raw because the functions of the syscall package
// change every thread.
func (w *worker) change(to credentials) error {
	ids := w.now.uid != to.uid || w.now.gid != to.gid || !slices.Equal(w.now.groups, to.groups)
	if ids && w.now.effective != w.own.effective {
		if err := setEffective(w.own.effective, w.own.effective); err != nil {
			return err
		}
		w.now.effective = w.own.effective
	}
	if !slices.Equal(w.now.groups, to.groups) {
		if err := rawErr(unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(to.groups)), uintptr(unsafe.Pointer(unsafe.SliceData(to.groups))), 0)); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		w.now.groups = to.groups
	}
	if w.now.gid != to.gid {
		if err := setIDs(unix.SYS_SETRESGID, unix.SYS_SETFSGID, to.gid); err != nil {
			return fmt.Errorf("group ids: %w", err)
		}
		w.now.gid = to.gid
	}
	changed := w.now.uid != to.uid
	if changed {
		if to.uid[3] != to.uid[1] {
			// Leaving root clears the effective capabilities, and setfsuid(2) takes one.
			if err := rawErr(unix.RawSyscall(unix.SYS_SETRESUID, uintptr(to.uid[0]), uintptr(to.uid[1]), uintptr(to.uid[2]))); err != nil {
				return fmt.Errorf("user ids: %w", err)
			}
			if err := setEffective(w.own.effective, w.own.effective); err != nil {
				return err
			}
			if err := setFileSystemID(unix.SYS_SETFSUID, to.uid[3]); err != nil {
				return fmt.Errorf("user ids: %w", err)
			}
		} else if err := setIDs(unix.SYS_SETRESUID, unix.SYS_SETFSUID, to.uid); err != nil {
			return fmt.Errorf("user ids: %w", err)
		}
		w.now.uid = to.uid
	}
	if changed || w.now.effective != to.effective {
		if err := setEffective(to.effective, w.own.effective); err != nil {
			return err
		}
		w.now.effective = to.effective
	}
	return nil
}

func setIDs(set, setFileSystem uintptr, to [4]uint32) error {
	if err := rawErr(unix.RawSyscall(set, uintptr(to[0]), uintptr(to[1]), uintptr(to[2]))); err != nil {
		return err
	}
	if to[3] == to[1] {
		return nil // the file system's id follows the effective one
	}
	return setFileSystemID(setFileSystem, to[3])
}

// setFileSystemID is setfsuid(2) or setfsgid(2), which return the previous id whether they fail or not; an id that nobody has changes
// nothing.
func setFileSystemID(nr uintptr, id uint32) error {
	const none = ^uint32(0)
	_, _, _ = unix.RawSyscall(nr, uintptr(id), 0, 0)
	if now, _, _ := unix.RawSyscall(nr, uintptr(none), 0, 0); uint32(now) != id {
		return unix.EPERM
	}
	return nil
}

// setEffective is capset(2) for the calling thread alone.
func setEffective(effective, permitted uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	set := [2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32)},
	}
	if err := rawErr(unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&set)), 0)); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

func ownCredentials() (credentials, error) {
	var own credentials
	groups, err := unix.Getgroups()
	if err != nil {
		return own, fmt.Errorf("getgroups: %w", err)
	}
	for _, g := range groups {
		own.groups = append(own.groups, uint32(g))
	}
	r, e, s := unix.Getresuid()
	own.uid = [4]uint32{uint32(r), uint32(e), uint32(s), uint32(e)}
	r, e, s = unix.Getresgid()
	own.gid = [4]uint32{uint32(r), uint32(e), uint32(s), uint32(e)}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := rawErr(unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&have)), 0)); err != nil {
		return own, fmt.Errorf("capget: %w", err)
	}
	own.effective = uint64(have[0].Permitted) | uint64(have[1].Permitted)<<32
	return own, setEffective(own.effective, own.effective)
}

func rawErr(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
