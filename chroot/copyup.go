package chroot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyTree copies what is in the directory from into the empty directory to: content, owners, modes, times, extended attributes, links,
// device nodes. No link is followed and no name is used twice for the same thing, so a tree that changes meanwhile can spoil the copy but not lead
// it elsewhere. data are the options of to's filesystem: an owner that they give stands.
func copyTree(from, to int, data []string) error {
	// A new mount's descriptor is one of O_PATH.
	to, err := unix.Openat(to, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(to)
	if err := copyEntries(from, to); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	uid, gid := int(st.Uid), int(st.Gid)
	const keep = -1
	if _, ok := value(data, "uid"); ok {
		uid = keep
	}
	if _, ok := value(data, "gid"); ok {
		gid = keep
	}
	if err := unix.Fchown(to, uid, gid); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	return setTimes(to, "", st)
}

func copyEntries(from, to int) error {
	// A second descriptor: os.File closes the one it is given.
	list, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	directory := os.NewFile(uintptr(list), "directory")
	defer directory.Close()
	for {
		const atOnce = 256
		names, err := directory.Readdirnames(atOnce)
		for _, name := range names {
			if err := copyEntry(from, to, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func copyEntry(from, to int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = copyDirectory(from, to, name, st)
	case unix.S_IFREG:
		err = copyFile(from, to, name)
	case unix.S_IFLNK:
		err = copyLink(from, to, name, st)
	default:
		err = copyNode(to, name, st)
	}
	return err
}

func copyDirectory(from, to int, name string, st unix.Stat_t) error {
	const private = 0o700 // until the copy is complete
	if err := unix.Mkdirat(to, name, private); err != nil {
		return os.NewSyscallError("mkdirat", err)
	}
	return copyOpened(from, to, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY, func(source, copied *os.File) error {
		return copyEntries(int(source.Fd()), int(copied.Fd()))
	})
}

func copyFile(from, to int, name string) error {
	// O_NONBLOCK: should the file have become a FIFO since it was looked at, nobody waits for its other end.
	return copyOpened(from, to, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(source, copied *os.File) error {
		_, err := io.Copy(copied, source)
		return err
	})
}

// copyOpened opens both ends, copies the content, then what is known about it, taken from the opened source.
func copyOpened(from, to int, name string, read, write int, content func(source, copied *os.File) error) error {
	const private = 0o600
	in, err := unix.Openat(from, name, read|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	source := os.NewFile(uintptr(in), name)
	defer source.Close()
	out, err := unix.Openat(to, name, write|unix.O_NOFOLLOW|unix.O_CLOEXEC, private)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	copied := os.NewFile(uintptr(out), name)
	defer copied.Close()
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return errors.New("changed while it was copied")
	}
	if err := content(source, copied); err != nil {
		return err
	}
	// The order matters: chown clears set-user-ID bits and file capabilities.
	if err := unix.Fchown(out, int(st.Uid), int(st.Gid)); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	if err := copyXattrs(in, out); err != nil {
		return err
	}
	return setTimes(out, "", st)
}

func copyLink(from, to int, name string, st unix.Stat_t) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(from, name, target)
	if err != nil {
		return os.NewSyscallError("readlinkat", err)
	}
	if err := unix.Symlinkat(string(target[:n]), to, name); err != nil {
		return os.NewSyscallError("symlinkat", err)
	}
	return own(to, name, st)
}

func copyNode(to int, name string, st unix.Stat_t) error {
	if err := unix.Mknodat(to, name, st.Mode, int(st.Rdev)); err != nil {
		return os.NewSyscallError("mknodat", err)
	}
	if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
		return os.NewSyscallError("fchmodat", err)
	}
	return own(to, name, st)
}

func own(dir int, name string, st unix.Stat_t) error {
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fchownat", err)
	}
	return setTimes(dir, name, st)
}

func setTimes(dir int, name string, st unix.Stat_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, flags))
}

// copyXattrs leaves out what a tmpfs cannot hold (EOPNOTSUPP) and what is not this process's to give (EPERM).
func copyXattrs(from, to int) error {
	size, err := unix.Flistxattr(from, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || (err == nil && size == 0) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(from, list); err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	value := make([]byte, unix.PathMax)
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list[:size], []byte{0}), []byte{0}) {
		n, err := unix.Fgetxattr(from, string(name), nil)
		if err != nil {
			return os.NewSyscallError("fgetxattr", err)
		}
		if n > len(value) {
			value = make([]byte, n)
		}
		if n, err = unix.Fgetxattr(from, string(name), value); err != nil {
			return os.NewSyscallError("fgetxattr", err)
		}
		err = unix.Fsetxattr(to, string(name), value[:n], 0)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
			return os.NewSyscallError("fsetxattr", err)
		}
	}
	return nil
}
