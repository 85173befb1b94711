package seccompnotif

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seccompData is struct seccomp_data of <linux/seccomp.h>.
type seccompData struct {
	nr   int32
	arch uint32
	ip   uint64
	args [6]uint64
}

// rawNotification is struct seccomp_notif of <linux/seccomp.h>.
type rawNotification struct {
	id    uint64
	pid   uint32
	flags uint32
	data  seccompData
}

// rawResponse is struct seccomp_notif_resp of <linux/seccomp.h>.
type rawResponse struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// addFD is struct seccomp_notif_addfd of <linux/seccomp.h>.
type addFD struct {
	id         uint64
	flags      uint32
	srcFD      uint32
	newFD      uint32
	newFDFlags uint32
}

// notifSizes is struct seccomp_notif_sizes of <linux/seccomp.h>.
type notifSizes struct {
	notif, resp, data uint16
}

// kernelSizes asks the kernel how large its structures are. They may grow: a receive writes as many bytes as the kernel's
// structure has, so that a buffer of our own size would be overrun. It is asked once.
var kernelSizes = sync.OnceValues(func() (notifSizes, error) {
	var s notifSizes
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&s)))
	if e != 0 {
		return s, fmt.Errorf("seccomp notification sizes: %w", e)
	}
	if uintptr(s.notif) < unsafe.Sizeof(rawNotification{}) || uintptr(s.resp) < unsafe.Sizeof(rawResponse{}) {
		return s, fmt.Errorf("seccomp notification sizes: the kernel's structures (%d and %d bytes) are smaller than the first that were released", s.notif, s.resp)
	}
	return s, nil
})

// alignedBuffer returns zeroed memory of at least size bytes, aligned for the kernel's 64-bit members.
func alignedBuffer(size uint16) []uint64 {
	return make([]uint64, (int(size)+7)/8)
}
