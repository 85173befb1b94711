package monitor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setOwner is fcntl(2) with F_SETOWN_EX, whose argument is a structure.
func setOwner(fd int, owner *fileOwner) error {
	_, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), setOwnerEx, uintptr(unsafe.Pointer(owner)))
	if errno != 0 {
		return errno
	}
	return nil
}

const setOwnerEx = 15 // F_SETOWN_EX, asm-generic/fcntl.h

// fileOwner is struct f_owner_ex of fcntl(2).
type fileOwner struct {
	kind int32
	pid  int32
}

const ownerProcess = 1 // F_OWNER_PID, asm-generic/fcntl.h
