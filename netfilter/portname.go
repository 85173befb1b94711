package netfilter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// getsockname handles getsockname(fd, addr, length).
func (p *PortSpace) getsockname(c *seccompnotif.Call) seccompnotif.Action {
	return p.tell(c, unix.SYS_GETSOCKNAME)
}

// getpeername handles getpeername(fd, addr, length), whose answer is another inside only where the peer is of the container too.
func (p *PortSpace) getpeername(c *seccompnotif.Call) seccompnotif.Action {
	return p.tell(c, unix.SYS_GETPEERNAME)
}

func (p *PortSpace) tell(c *seccompnotif.Call, trap uintptr) seccompnotif.Action {
	if !p.remaps() {
		return seccompnotif.Continue() // safe: nothing is denied here
	}
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	defer s.close()
	if s.inet != inetTCP {
		return seccompnotif.Continue() // safe, as above
	}
	sa, errno := s.name(trap)
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	name, ok := inetAddress(sa)
	if !ok {
		return seccompnotif.Continue() // safe, as above
	}
	at, errno := s.place(name.Addr())
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	virtual := p.name(name.Port(), at, false, func() bool { return trap == unix.SYS_GETSOCKNAME || p.isLocal(c, name.Addr()) })
	if virtual == name.Port() {
		return seccompnotif.Continue() // safe, as above
	}
	setPort(sa, virtual)
	return answer(0, giveName(c, sa))
}

// giveName puts an address where the second and third argument of a call point, as move_addr_to_user of the kernel does.
func giveName(c *seccompnotif.Call, sa []byte) unix.Errno {
	var length [4]byte
	if errno := readGuest(c, c.Arg(2), length[:]); errno != 0 {
		return errno
	}
	room := int(int32(binary.NativeEndian.Uint32(length[:])))
	if room < 0 {
		return unix.EINVAL
	}
	if err := c.WriteMemory(c.Arg(1), sa[:min(room, len(sa))]); err != nil {
		return unix.EFAULT
	}
	binary.NativeEndian.PutUint32(length[:], uint32(len(sa)))
	if err := c.WriteMemory(c.Arg(2), length[:]); err != nil {
		return unix.EFAULT
	}
	return 0
}

// route returns the real port of a destination of a TCP socket, whose port is the container's name for it. ECONNREFUSED says that
// inside nobody has the port, although outside the container itself does.
func (p *PortSpace) route(c *seccompnotif.Call, s *socket, to netip.AddrPort) (uint16, unix.Errno) {
	if !p.remaps() {
		return to.Port(), 0
	}
	at, errno := s.place(to.Addr())
	if errno != 0 {
		return 0, errno
	}
	p.mu.Lock()
	here, there := p.own(to.Port(), at), find(p.real[to.Port()], at)
	p.mu.Unlock()
	reaches := func(b *Binding) bool {
		return b != nil && b.Virtual != b.Real && (!b.where.addr.IsUnspecified() || p.isLocal(c, to.Addr()))
	}
	switch {
	case reaches(here):
		return here.Real, 0
	case here == nil && reaches(there):
		return 0, unix.ECONNREFUSED
	}
	return to.Port(), 0
}
