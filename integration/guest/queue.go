package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue makes a POSIX message queue, mq_overview(7), as mq_open(3) does: by a name that no mount has a part in.
func queue([]string) (string, error) {
	name, err := unix.BytePtrFromString("guest")
	if err != nil {
		return "", err
	}
	const mode = 0o600
	_, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode, 0, 0, 0)
	if errno != 0 {
		return "", errno
	}
	if _, _, errno = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
		return "", errno
	}
	return "made", nil
}
