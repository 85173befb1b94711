package onbehalf

import (
	"errors"
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// worker is an OS thread that takes the place of guests. Its own state, which it has between two calls, is the supervisor's
// identity, the root of the last guest, and the working directory "fds".
type worker struct {
	engine *Engine
	fds    int // /proc/thread-self/fd: what a descriptor refers to is opened anew by its number in there
	root   rootID
	top    rootID      // a root beyond which there is nothing
	own    credentials // of the supervisor
	now    credentials
	umask  uint32
	job    *job
	pipes  pipes

	namespaces [len(joined)]seccompnotif.NamespaceID // joined last; zero is the supervisor's
	joinedBy   *seccompnotif.Call                    // for which that was done, in this job
}

// rootID identifies a directory in a mount.
type rootID struct {
	mount uint64
	inode inode
}

// inode identifies an inode while it exists.
type inode struct {
	major, minor uint32
	ino          uint64
}

// prepare makes the thread one of its own.
func (w *worker) prepare() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the file system context: %w", err)
	}
	var err error
	if w.fds, err = unix.Openat(w.engine.host.Proc(), "thread-self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("/proc/thread-self/fd: %w", err)
	}
	if err := rawErr(unix.RawSyscall(unix.SYS_FCHDIR, uintptr(w.fds), 0, 0)); err != nil {
		return fmt.Errorf("fchdir: %w", err)
	}
	umask, _, _ := unix.RawSyscall(unix.SYS_UMASK, 0, 0, 0)
	// It cannot fail: umask(2).
	_, _, _ = unix.RawSyscall(unix.SYS_UMASK, umask, 0, 0)
	w.umask = uint32(umask)
	if w.engine.config.Confine != nil {
		if err := w.engine.config.Confine(); err != nil {
			return err
		}
	}
	if err := rawErr(unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0, 0)); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if w.own, err = ownCredentials(); err != nil {
		return err
	}
	w.now = w.own
	return nil
}

// as runs f with the guest's root and identity.
func (w *worker) as(g *guest, f func() unix.Errno) unix.Errno {
	if err := w.enter(g.root); err != nil {
		w.job.err = err
		return unix.EACCES
	}
	if err := w.become(g); err != nil {
		w.restore()
		return errnoOf(err)
	}
	defer w.restore()
	return f()
}

// enter makes the directory root that of the thread.
func (w *worker) enter(root int) error {
	id, err := rootOf(root)
	if err != nil {
		return err
	}
	if id == w.root { // and since it is our root, it is not another directory that got its number
		return nil
	}
	dot := [...]byte{'.', 0}
	for _, step := range []struct {
		name string
		err  func() error
	}{
		{"fchdir to the guest's root", func() error { return rawErr(unix.RawSyscall(unix.SYS_FCHDIR, uintptr(root), 0, 0)) }},
		{"chroot to the guest's root", func() error { return rawErr(unix.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dot)), 0, 0)) }},
		{"fchdir", func() error { return rawErr(unix.RawSyscall(unix.SYS_FCHDIR, uintptr(w.fds), 0, 0)) }},
	} {
		if err := step.err(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	w.root = id
	return nil
}

func rootOf(fd int) (rootID, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return rootID{}, fmt.Errorf("statx: %w", err)
	}
	return rootID{st.Mnt_id, inode{st.Dev_major, st.Dev_minor, st.Ino}}, nil
}

// reopen opens what fd refers to anew, whatever leads to it by now. O_NOFOLLOW would refuse the link that fd is in /proc.
func (w *worker) reopen(fd int, flags uint64) (int, unix.Errno) {
	for {
		n, err := unix.Openat(w.fds, strconv.Itoa(fd), int(flags)&^(unix.O_NOFOLLOW|unix.O_CREAT|unix.O_EXCL)|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, errnoOf(err)
		}
	}
}
