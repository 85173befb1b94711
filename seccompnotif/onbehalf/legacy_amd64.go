package onbehalf

import "golang.org/x/sys/unix"

// Calls that newer architectures do without.
const (
	sysOpen  = unix.SYS_OPEN
	sysCreat = unix.SYS_CREAT
)
