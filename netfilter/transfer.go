package netfilter

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// transfer moves the data of one judged message from the guest into its socket.
type transfer struct {
	egress   *Egress
	call     *seccompnotif.Call
	socket   *socket
	scratch  *scratch
	progress *sendCall
	message  message
	onWorker bool
	// laterControl is the ancillary data of every piece of a stream message but the first.
	laterControl []byte
	whole        []byte // the data of a datagram, once fetched
	fetched      bool   // whole is there, if empty
}

// maxInetDatagram is the most that the length field of an IPv4 or IPv6 packet can say.
const maxInetDatagram = 65535

// fetch copies a whole datagram from the guest, unless it is there already.
func (t *transfer) fetch() unix.Errno {
	if t.fetched {
		return 0
	}
	if t.message.size > t.socket.maxMessage() {
		return unix.EMSGSIZE
	}
	var errno unix.Errno
	t.whole, errno = t.read(0, t.message.size)
	t.fetched = errno == 0
	return errno
}

// run sends the message. A datagram goes whole. Of a stream, a call that blocks goes on until all is sent, in pieces; one that
// does not sends one piece, which is legal however short. Sending itself never blocks: where it would, the errno is errLater, or
// on a worker errBlocked.
func (t *transfer) run() (int, unix.Errno) {
	s, p := t.socket, t.progress
	if p.bytes > 0 {
		t.message.control = t.laterControl
	}
	for {
		rest := t.message.size - p.bytes
		if rest < 0 { // the guest has shortened its message since the first attempt
			return p.bytes, 0
		}
		data, errno := t.piece(min(rest, maxOneSend))
		if errno != 0 {
			return t.result(errno)
		}
		n, errno := t.sendPiece(data)
		full := errno == unix.EAGAIN || n < len(data)
		switch {
		case errno == 0:
			p.bytes += n
			t.message.control = t.laterControl // the rest went with the first byte
			if p.bytes >= t.message.size || !s.isStream() || !t.blocks() {
				return p.bytes, 0
			}
		case errno == unix.EINPROGRESS && t.blocks(): // fast open has begun a connection, and sent nothing
			p.connecting, t.message.name, full = true, nil, true
		case errno != unix.EAGAIN || !t.blocks():
			return t.result(errno)
		}
		switch {
		case !t.onWorker:
			return 0, errLater
		case full || time.Since(p.began) > maxStint:
			return 0, errBlocked
		}
	}
}

// piece returns the data to send next: a datagram whole, of a stream at most size bytes.
func (t *transfer) piece(size int) ([]byte, unix.Errno) {
	if t.socket.isStream() {
		return t.read(t.progress.bytes, size)
	}
	errno := t.fetch()
	return t.whole, errno
}

// result returns what a send that ends with an errno returns: bytes of a stream that were sent before count, and the error is
// dropped.
func (t *transfer) result(errno unix.Errno) (int, unix.Errno) {
	if t.progress.bytes > 0 {
		return t.progress.bytes, 0
	}
	return 0, errno
}

// blocks tells whether the guest's call would wait for room.
func (t *transfer) blocks() bool {
	return t.progress.flags&unix.MSG_DONTWAIT == 0 && !t.socket.nonblocking()
}

// sendPiece sends data, once.
func (t *transfer) sendPiece(data []byte) (int, unix.Errno) {
	flags := t.progress.flags
	if t.progress.connecting || t.progress.bytes > 0 {
		flags &^= unix.MSG_FASTOPEN
	}
	name := t.message.name
	if flags&unix.MSG_ZEROCOPY != 0 && len(data) > 0 {
		return t.sendPinned(name, data, flags)
	}
	return t.socket.send(name, data, t.message.control, flags)
}

// sendPinned sends with MSG_ZEROCOPY. The kernel then keeps the pages it is given until the data is acknowledged, and tells
// the guest through the socket's error queue when. So they are pages of their own, which nobody writes to again.
func (t *transfer) sendPinned(name, data []byte, flags uint32) (int, unix.Errno) {
	pages, err := unix.Mmap(-1, 0, len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, unix.ENOBUFS
	}
	defer unix.Munmap(pages) //nolint:errcheck // it is ours and whole
	copy(pages, data)
	return t.socket.send(name, pages, t.message.control, flags)
}

// read copies size bytes of the message's data, from offset on.
func (t *transfer) read(offset, size int) ([]byte, unix.Errno) {
	t.scratch.data = resize(t.scratch.data, size)
	data := t.scratch.data
	filled := 0
	for _, part := range t.message.spans {
		if offset >= part.size {
			offset -= part.size
			continue
		}
		n := min(part.size-offset, size-filled)
		if n == 0 {
			break
		}
		if errno := readGuest(t.call, part.addr+uint64(offset), data[filled:filled+n]); errno != 0 {
			return nil, errno
		}
		filled += n
		offset = 0
	}
	return data[:filled], 0
}

// maxMessage returns the size of the largest datagram that the socket can send. The kernel has the last word; this keeps a
// guest from making us copy more.
func (s *socket) maxMessage() int {
	if s.isInet() {
		return maxInetDatagram
	}
	size, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return maxInetDatagram
	}
	return min(size, maxDatagram)
}
