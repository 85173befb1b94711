package chroot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountEntry is a line of proc_pid_mountinfo(5).
type mountEntry struct {
	id     uint64
	device string // major:minor
	root   string // path within the filesystem
	point  string
	shared bool // what is mounted beneath it appears elsewhere, too
}

type mountList []mountEntry

// readMounts lists the mounts of the calling thread's mount namespace, as far as its root reaches. proc is the supervisor's /proc: that of
// another mount namespace is not to be trusted.
func readMounts(proc int) (mountList, error) {
	fd, err := unix.Openat(proc, "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	file := os.NewFile(uintptr(fd), "mountinfo")
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	return parseMounts(text)
}

// descriptorName is the path of a descriptor from the calling thread's root.
func descriptorName(proc, fd int) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(proc, "thread-self/fd/"+strconv.Itoa(fd), b)
	if err != nil {
		return "", fmt.Errorf("name of a descriptor: %w", err)
	}
	return string(b[:n]), nil
}

// parseMounts reads mountinfo. Names are the container's.
func parseMounts(text []byte) (mountList, error) {
	var list mountList
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		const fixed = 6 // fields before the optional ones
		if len(fields) < fixed {
			return nil, errors.New("mountinfo: a line is too short")
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("mountinfo: id: %w", err)
		}
		m := mountEntry{id: id, device: fields[2]}
		if m.root, err = unescape(fields[3]); err == nil {
			m.point, err = unescape(fields[4])
		}
		if err != nil {
			return nil, err
		}
		for _, tag := range fields[fixed:] {
			if tag == "-" {
				break
			}
			m.shared = m.shared || strings.HasPrefix(tag, "shared:")
		}
		list = append(list, m)
	}
	return list, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(name string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(name, `\`)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		const digits = 3
		if len(after) < digits {
			return "", fmt.Errorf("mountinfo: %q ends in half an escape", name)
		}
		c, err := strconv.ParseUint(after[:digits], 8, 8)
		if err != nil {
			return "", fmt.Errorf("mountinfo: %q has an escape that is none", name)
		}
		b.WriteByte(byte(c))
		name = after[digits:]
	}
}

// open opens what is at a path within the mount, if the mount is what its path leads to. No mount beneath it is entered.
func (m mountEntry) open(rest string) (int, error) {
	flags := uint64(unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC)
	const resolve = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	top, err := unix.Openat2(unix.AT_FDCWD, m.point, &unix.OpenHow{Flags: flags, Resolve: resolve})
	if err != nil {
		return -1, err
	}
	var st unix.Statx_t
	if err = unix.Statx(top, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err == nil && st.Mnt_id != m.id {
		err = unix.ESTALE
	}
	if err != nil || rest == "" {
		if err != nil {
			unix.Close(top)
			return -1, err
		}
		return top, nil
	}
	defer unix.Close(top)
	return unix.Openat2(top, rest, &unix.OpenHow{Flags: flags, Resolve: resolve | unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH})
}
