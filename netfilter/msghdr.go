package netfilter

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Layouts of 64-bit kernels, which amd64 and arm64 share: struct user_msghdr, mmsghdr and iovec of <linux/socket.h> and
// <linux/uio.h>.
const (
	msghdrSize   = unix.SizeofMsghdr
	mmsghdrSize  = msghdrSize + 8 // and the length sent, padded
	mmsghdrSent  = msghdrSize     // offset of msg_len
	iovecSize    = unix.SizeofIovec
	maxIovecs    = 1024       // UIO_MAXIOV of <linux/uio.h>; sendmmsg caps its count of messages at it too
	maxTransfer  = 0x7ffff000 // MAX_RW_COUNT of <linux/fs.h>: a longer transfer is cut to it
	maxControl   = 64 << 10   // more than 253 descriptors, credentials and every option of a packet take
	maxOneSend   = 256 << 10  // bytes taken from the guest at once for a stream, and at all before a worker takes over
	maxDatagram  = 4 << 20    // the largest message that is sent whole; UDP's are 64 KiB
	maxInlineMsg = 64         // messages of one sendmmsg before a worker takes over
)

// header is a guest's struct msghdr, as far as sends use it. Pointers are the guest's.
type header struct {
	name       uint64
	nameLen    int
	iov        uint64
	iovLen     int
	control    uint64
	controlLen int
}

// parseHeader reads a struct msghdr as the kernel does for sendmsg: a null name has no length, a longer one than any address
// is cut. An errno is what the kernel answers to such a header; ENOBUFS also to control data beyond maxControl.
func parseHeader(raw *[msghdrSize]byte) (header, unix.Errno) {
	word := func(offset int) uint64 { return binary.NativeEndian.Uint64(raw[offset:]) }
	nameLen := int32(binary.NativeEndian.Uint32(raw[8:]))
	iovLen, controlLen := word(24), word(40)
	h := header{name: word(0), iov: word(16), control: word(32)}
	switch {
	case h.name != 0 && nameLen < 0:
		return header{}, unix.EINVAL
	case iovLen > maxIovecs:
		return header{}, unix.EMSGSIZE
	case controlLen > maxControl:
		return header{}, unix.ENOBUFS
	}
	if h.name != 0 {
		h.nameLen = min(int(nameLen), maxSockaddr)
	}
	if h.nameLen == 0 {
		h.name = 0
	}
	h.iovLen, h.controlLen = int(iovLen), int(controlLen)
	return h, 0
}

// span is a range of the guest's memory.
type span struct {
	addr uint64
	size int
}

// parseIovecs appends the ranges of an array of struct iovec to spans, leaving out empty ones, and returns their total
// size. As in the kernel a negative size is EINVAL, and what exceeds maxTransfer bytes is cut off.
func parseIovecs(raw []byte, spans []span) ([]span, int, unix.Errno) {
	total := 0
	for ; len(raw) >= iovecSize; raw = raw[iovecSize:] {
		addr, size := binary.NativeEndian.Uint64(raw), int64(binary.NativeEndian.Uint64(raw[8:]))
		if size < 0 {
			return nil, 0, unix.EINVAL
		}
		n := int(min(size, int64(maxTransfer-total)))
		if n > 0 {
			spans = append(spans, span{addr, n})
			total += n
		}
	}
	return spans, total, 0
}
