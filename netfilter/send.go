package netfilter

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// sendto handles sendto(fd, data, size, flags, addr, length).
func (e *Egress) sendto(c *seccompnotif.Call) seccompnotif.Action {
	return e.send(c, sendCall{flags: uint32(c.Arg(3)), count: 1})
}

// sendmsg handles sendmsg(fd, header, flags).
func (e *Egress) sendmsg(c *seccompnotif.Call) seccompnotif.Action {
	return e.send(c, sendCall{flags: uint32(c.Arg(2)), count: 1})
}

// sendmmsg handles sendmmsg(fd, headers, count, flags).
func (e *Egress) sendmmsg(c *seccompnotif.Call) seccompnotif.Action {
	return e.send(c, sendCall{flags: uint32(c.Arg(3)), count: int(min(uint32(c.Arg(2)), maxIovecs)), many: true})
}

// sendCall is how far one of the three calls has come. Whoever goes on with it looks at the guest's memory anew and judges
// again; the socket stays the same once the call has been parked.
type sendCall struct {
	flags uint32
	count int  // messages in all
	many  bool // sendmmsg

	messages   int  // messages sent
	bytes      int  // of the stream message after them, what is sent already
	connecting bool // that message has begun a connection (TCP fast open)

	began  time.Time // when a worker, or the lot, began the try that is under way
	parked *parked   // nil before the call is parked

	question question
}

// message is one message of the guest. The slices are ours.
type message struct {
	name    []byte
	spans   []span // where its data lies in the guest
	size    int    // of the data
	control []byte // as the guest wrote it
}

// Errnos, of no meaning to the kernel, of a send that has not come to its end.
const (
	errLater   = unix.Errno(0xffff) // a worker has to go on with it
	errBlocked = unix.Errno(0xfffe) // it would block, or has kept its worker for long: it is to be parked
)

// maxStint is for how long a worker is busy with one call before others get a turn.
const maxStint = 5 * time.Second

// send carries the call out as far as that takes neither time nor many bytes, and lets a worker do the rest.
func (e *Egress) send(c *seccompnotif.Call, call sendCall) seccompnotif.Action {
	if e.asIssued && !onTCP(c) {
		return seccompnotif.Continue() // safe, see Egress.asIssued
	}
	m := getScratch()
	defer m.put()
	result, errno := e.sendAll(c, m, &call, false)
	if errno == errAsk || errno == errLater && e.asks(c) {
		later := call
		return e.gate.Later(func() seccompnotif.Action { return e.sendAsking(c, &later) })
	}
	if errno == errLater {
		later := call // so that call itself stays off the heap
		return seccompnotif.Defer(func() seccompnotif.Action {
			action, progress := e.goOn(c, &later)
			if progress != done {
				return e.lot.park(later.parked)
			}
			return action
		})
	}
	return answer(result, errno)
}

// onTCP tells whether a call is made on a TCP socket.
func onTCP(c *seccompnotif.Call) bool {
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return false
	}
	s.close()
	return s.inet == inetTCP
}

// goOn goes on with a call, on a worker or for the lot.
func (e *Egress) goOn(c *seccompnotif.Call, call *sendCall) (seccompnotif.Action, progress) {
	m := getScratch()
	defer m.put()
	call.began = time.Now()
	messages, bytes, connecting := call.messages, call.bytes, call.connecting
	result, errno := e.sendAll(c, m, call, true)
	switch {
	case errno == errAsk && call.parked == nil:
		return seccompnotif.Action{}, unasked
	case errno == errAsk:
		// The next message goes elsewhere, and the lot is no place to ask. What is sent counts; the guest may come back with the rest.
		return answer(call.result(0, unix.EPERM)), done
	case errno != errBlocked:
		return answer(result, errno), done
	case call.messages != messages || call.bytes != bytes || call.connecting != connecting:
		return seccompnotif.Action{}, advanced
	default:
		return seccompnotif.Action{}, stuck
	}
}

// sendAll sends the messages of a call from where it stands. onWorker says that it may take time, though not block; then the
// errno may be errBlocked, and otherwise errLater.
func (e *Egress) sendAll(c *seccompnotif.Call, m *scratch, call *sendCall, onWorker bool) (int, unix.Errno) {
	if call.parked != nil {
		return e.sendOver(c, &call.parked.socket, m, call, onWorker)
	}
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return call.result(0, errno)
	}
	n, errno := e.sendOver(c, &s, m, call, onWorker)
	if errno == errBlocked {
		call.parked = e.newSend(c, s, call)
		return 0, errBlocked
	}
	s.close()
	return n, errno
}

// newSend returns the wait for room in a socket, which it takes over.
func (e *Egress) newSend(c *seccompnotif.Call, s socket, call *sendCall) *parked {
	return &parked{
		socket: s, pollable: true, timedOut: unix.EAGAIN,
		again: func() (seccompnotif.Action, progress) { return e.goOn(c, call) },
		stopped: func(errno unix.Errno) seccompnotif.Action {
			n := call.bytes
			if n > 0 { // as when the kernel's own send ends early
				errno = call.sent(c, n)
			}
			return answer(call.result(n, errno))
		},
	}
}

// sendOver is sendAll over a socket.
func (e *Egress) sendOver(c *seccompnotif.Call, s *socket, m *scratch, call *sendCall, onWorker bool) (int, unix.Errno) {
	budget := maxOneSend
	for sent := 0; call.messages < call.count; sent++ {
		if !onWorker && (budget <= 0 || sent >= maxInlineMsg) {
			return 0, errLater
		}
		msg, errno := e.load(c, m, call)
		if errno != 0 {
			return call.result(0, errno)
		}
		n, errno := e.sendMessage(c, s, m, call, msg, onWorker)
		if errno == errLater || errno == errBlocked || errno == errAsk {
			return 0, errno
		}
		if errno != 0 {
			if errno == unix.EPIPE && s.isStream() && call.flags&unix.MSG_NOSIGNAL == 0 && call.messages == 0 {
				sigpipe(c)
			}
			return call.result(0, errno)
		}
		if errno := call.sent(c, n); errno != 0 || !call.many {
			return call.result(n, errno)
		}
		budget -= n
		if n < msg.size {
			break // like the kernel: what follows would come before the rest of this one
		}
	}
	return call.messages, 0
}

// sent notes that the current message is sent, or as much of it as ever will be, and of sendmmsg tells the guest.
func (call *sendCall) sent(c *seccompnotif.Call, n int) unix.Errno {
	if call.many {
		var length [4]byte
		binary.NativeEndian.PutUint32(length[:], uint32(n))
		if err := c.WriteMemory(call.headerAddr(c)+mmsghdrSent, length[:]); err != nil {
			return unix.EFAULT
		}
		call.messages++
	}
	call.bytes, call.connecting = 0, false
	return 0
}

// result returns what the call returns when it ends with an errno: as in the kernel, messages or bytes that were sent before
// count, and the error is dropped.
func (call *sendCall) result(n int, errno unix.Errno) (int, unix.Errno) {
	switch {
	case call.many && call.messages > 0:
		return call.messages, 0
	case errno == 0:
		return n, 0
	default:
		return 0, errno
	}
}

// headerAddr returns where the guest's header of the current message of sendmsg or sendmmsg lies.
func (call *sendCall) headerAddr(c *seccompnotif.Call) uint64 {
	return c.Arg(1) + uint64(call.messages)*mmsghdrSize
}

// load copies the current message, but for its data, from the guest.
func (e *Egress) load(c *seccompnotif.Call, m *scratch, call *sendCall) (message, unix.Errno) {
	var msg message
	var errno unix.Errno
	if c.Syscall() == unix.SYS_SENDTO {
		msg.size = int(min(c.Arg(2), maxTransfer))
		m.spans = append(m.spans[:0], span{c.Arg(1), msg.size})
		msg.spans = m.spans
		if c.Arg(4) != 0 {
			msg.name, errno = m.readName(c, c.Arg(4), int(int32(c.Arg(5))))
		}
		return msg, errno
	}
	if errno = readGuest(c, call.headerAddr(c), m.header[:]); errno != 0 {
		return msg, errno
	}
	h, errno := parseHeader(&m.header)
	if errno != 0 {
		return msg, errno
	}
	if msg.name, errno = m.readName(c, h.name, h.nameLen); errno != 0 {
		return msg, errno
	}
	m.iovecs = resize(m.iovecs, h.iovLen*iovecSize)
	if errno = readGuest(c, h.iov, m.iovecs); errno != 0 {
		return msg, errno
	}
	if m.spans, msg.size, errno = parseIovecs(m.iovecs, m.spans[:0]); errno != 0 {
		return msg, errno
	}
	msg.spans = m.spans
	if h.controlLen > 0 {
		msg.control = make([]byte, h.controlLen)
		errno = readGuest(c, h.control, msg.control)
	}
	return msg, errno
}

// sendMessage judges one message and sends it. The result counts all bytes of it, those of an earlier attempt included.
func (e *Egress) sendMessage(c *seccompnotif.Call, s *socket, m *scratch, call *sendCall, msg message, onWorker bool) (int, unix.Errno) {
	t := transfer{egress: e, call: c, socket: s, scratch: m, progress: call, message: msg, onWorker: onWorker}
	switch {
	case s.isInet():
		if errno := e.judgeMessage(c, s, &t.message, call); errno != 0 {
			return 0, errno
		}
		return t.run()
	case s.domain == unix.AF_UNIX:
		return e.sendUnix(c, s, &t)
	case s.domain == unix.AF_NETLINK:
		return e.sendNetlink(c, s, &t)
	default:
		return 0, e.refuse(c, s, noDestination, Verdict{}, "no rule can allow this kind of socket")
	}
}

// judgeMessage judges a message of an IPv4 or IPv6 socket and takes from it what must not be passed on.
func (e *Egress) judgeMessage(c *seccompnotif.Call, s *socket, msg *message, call *sendCall) unix.Errno {
	switch {
	case s.inet == notJudgeable:
		return e.refuse(c, s, noDestination, Verdict{}, "no rule can allow this protocol")
	case s.inet == inetTCP && (call.flags&unix.MSG_FASTOPEN == 0 || call.connecting):
		msg.name = nil // which is all the kernel makes of it
	case len(msg.name) > 0:
		to, errno := e.judgeInet(c, s, msg.name, true)
		if errno != 0 {
			return errno
		}
		if to.IsValid() {
			if errno := e.mustAsk(c, s, call, to); errno != 0 {
				return errno
			}
		}
		if !to.IsValid() && s.inet == inetUDP {
			// AF_UNSPEC, which sends to where an IPv6 socket is connected, as no address does. The guest may make an IPv4 socket of
			// it meanwhile (IPV6_ADDRFORM), which would take what stands in the address for a destination.
			msg.name = nil
		}
		if to.IsValid() && s.inet == inetTCP {
			real, errno := e.route(c, s, to)
			if errno != 0 {
				return errno
			}
			setPort(msg.name, real)
		}
	}
	if errno := checkInetControl(msg.control); errno != 0 {
		return errno
	}
	return 0
}

// sendUnix sends a message over a Unix socket.
func (e *Egress) sendUnix(c *seccompnotif.Call, s *socket, t *transfer) (int, unix.Errno) {
	if errno := e.checkAbstract(c, s, t.message.name); errno != 0 {
		return 0, errno
	}
	// Other types either ignore the address or refuse it without looking it up.
	if len(t.message.name) > 0 && s.kind == unix.SOCK_DGRAM {
		if errno := e.mustAsk(c, s, t.progress, noDestination); errno != 0 {
			return 0, errno
		}
	}
	byPath := isPath(t.message.name) && s.kind == unix.SOCK_DGRAM
	if byPath && !t.onWorker {
		return 0, errLater
	}
	ancillary, errno := e.prepareUnix(c, t.message.control)
	if errno != 0 {
		return 0, errno
	}
	defer ancillary.close()
	if !byPath {
		t.message.control, t.laterControl = ancillary.control, ancillary.credentials()
		n, errno := t.run()
		if errno == unix.EPERM && !ancillary.stated && t.progress.bytes == 0 {
			// A supervisor without CAP_SYS_ADMIN may not speak for another process. Then the receiver is told ours.
			t.message.control, t.laterControl = ancillary.withoutCredentials(), nil
			n, errno = t.run()
		}
		return n, errno
	}
	// A path needs the guest's permissions, with which no thread may state another process. Only a guest that asked for
	// credentials would notice, and it gets an error rather than ours.
	if ancillary.stated {
		return 0, unix.EPERM
	}
	t.message.control = ancillary.withoutCredentials()
	// With the guest's permissions a thread may not even read the guest's memory.
	if errno := t.fetch(); errno != 0 {
		return 0, errno
	}
	var n int
	errno, err := e.host.AsGuest(c, true, func() (errno unix.Errno) {
		n, errno = t.run()
		return errno
	})
	if err != nil {
		return 0, errnoOf(err, unix.EACCES)
	}
	return n, errno
}

// sigpipe sends the caller the signal that the kernel sends with EPIPE.
func sigpipe(c *seccompnotif.Call) {
	process, err := c.Process()
	if err != nil || !c.Valid() {
		return
	}
	// The thread waits for our answer, so its number is its own. A failure means that it is being killed.
	_ = unix.Tgkill(process.PID(), c.PID(), unix.SIGPIPE)
}

// resize returns b with length n, keeping its memory if that is enough.
func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
