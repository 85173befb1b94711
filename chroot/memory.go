package chroot

import (
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of what the kernel reads and writes.
const (
	sizeofStatfs = int(unsafe.Sizeof(unix.Statfs_t{}))
	sizeofStatx  = int(unsafe.Sizeof(unix.Statx_t{}))
	sizeofInt    = int(unsafe.Sizeof(int32(0)))
	maxWindow    = math.MaxUint16 // of struct winsize
)

// bytesOf is v's memory, for structures that the kernel reads.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
