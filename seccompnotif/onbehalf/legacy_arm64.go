package onbehalf

import "golang.org/x/sys/unix"

// Calls that this architecture does without: numbers that no call has.
const (
	sysOpen = -1 - iota
	sysCreat
	sysLink
	sysRename
	sysUnlink
	sysRmdir
	sysMkdir
	sysMknod
	sysSymlink
	sysChmod
	sysChown
	sysLchown
	sysUtime
	sysUtimes
	sysFutimesat
)

const sysRenameat = unix.SYS_RENAMEAT
