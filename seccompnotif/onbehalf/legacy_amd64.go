package onbehalf

import "golang.org/x/sys/unix"

// Calls that newer architectures do without.
const (
	sysOpen      = unix.SYS_OPEN
	sysCreat     = unix.SYS_CREAT
	sysLink      = unix.SYS_LINK
	sysRename    = unix.SYS_RENAME
	sysRenameat  = unix.SYS_RENAMEAT
	sysUnlink    = unix.SYS_UNLINK
	sysRmdir     = unix.SYS_RMDIR
	sysMkdir     = unix.SYS_MKDIR
	sysMknod     = unix.SYS_MKNOD
	sysSymlink   = unix.SYS_SYMLINK
	sysChmod     = unix.SYS_CHMOD
	sysChown     = unix.SYS_CHOWN
	sysLchown    = unix.SYS_LCHOWN
	sysUtime     = unix.SYS_UTIME
	sysUtimes    = unix.SYS_UTIMES
	sysFutimesat = unix.SYS_FUTIMESAT
)
