package onbehalf

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// protections are the sysctls of proc_sys_fs(5) that guard directories in which everybody may make files. The kernel applies them to the call it
// is asked for, and we ask for others.
type protections struct{ symlinks, regular, fifos int }

func readProtections(proc int) protections {
	read := func(name string) int {
		const strictest = 2
		fd, err := unix.Openat(proc, "sys/fs/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return strictest
		}
		defer unix.Close(fd)
		var b [16]byte
		n, err := unix.Read(fd, b[:])
		if err != nil {
			return strictest
		}
		value, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
		if err != nil {
			return strictest
		}
		return value
	}
	return protections{read("protected_symlinks"), read("protected_regular"), read("protected_fifos")}
}

// mayCreateOver is may_create_in_sticky of the kernel's fs/namei.c: whether an open with O_CREAT may use what another user has put into a
// directory that is shared.
func (p protections) mayCreateOver(dir, file *unix.Stat_t, user uint32) bool {
	level, on := 0, true
	switch file.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		level, on = p.regular, p.regular > 0
	case unix.S_IFIFO:
		level, on = p.fifos, p.fifos > 0
	}
	switch {
	case !on, dir.Mode&unix.S_ISVTX == 0, file.Uid == dir.Uid, file.Uid == user:
		return true
	case dir.Mode&unix.S_IWOTH != 0:
		return false
	}
	return level < 2 || dir.Mode&unix.S_IWGRP == 0
}
