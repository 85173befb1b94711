package onbehalf

import "golang.org/x/sys/unix"

// legacyChanges are those of [changes] that newer architectures do without.
func legacyChanges(path, other string) []order {
	return []order{
		call(unix.SYS_CHMOD, path, 0o604), call(unix.SYS_CHOWN, path, uint64(1<<32-1), 1000), call(unix.SYS_LCHOWN, path, 0, 0),
		call(unix.SYS_UTIME, path, times(1, 2)), call(unix.SYS_UTIMES, path, times(5, 6, 7, 8)), call(unix.SYS_UTIMES, path, times(5, 1e6, 7, 8)), call(unix.SYS_FUTIMESAT, here, path, times(9, 10, 11, 12)),
		call(unix.SYS_LINK, path, other), call(unix.SYS_RENAME, other, path+"q"), call(unix.SYS_RENAMEAT, here, path+"q", here, other), call(unix.SYS_UNLINK, other),
		call(unix.SYS_MKDIR, path+"d", 0o777), call(unix.SYS_RMDIR, path+"d"), call(unix.SYS_RMDIR, path), call(unix.SYS_MKNOD, path+"m", unix.S_IFCHR|0o600, 0x103), call(unix.SYS_SYMLINK, "../"+other, path+"l"),
	}
}
