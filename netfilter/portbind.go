package netfilter

import (
	"net/netip"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Handlers returns the handlers of the system calls of [PortSpace.Notifications] but for connect(2) and the sends, which are
// those of [Egress].
func (p *PortSpace) Handlers() map[int]seccompnotif.Handler {
	return map[int]seccompnotif.Handler{
		unix.SYS_BIND:        seccompnotif.HandlerFunc(p.bind),
		unix.SYS_LISTEN:      seccompnotif.HandlerFunc(p.listen),
		unix.SYS_GETSOCKNAME: seccompnotif.HandlerFunc(p.getsockname),
		unix.SYS_GETPEERNAME: seccompnotif.HandlerFunc(p.getpeername),
	}
}

// bind handles bind(fd, addr, length).
func (p *PortSpace) bind(c *seccompnotif.Call) seccompnotif.Action {
	// Under a policy Landlock holds TCP ports up whatever the call turns into.
	return p.forTCP(c, continues, func(s *socket) seccompnotif.Action {
		m := getScratch()
		defer m.put()
		sa, errno := m.readName(c, c.Arg(1), int(int32(c.Arg(2))))
		if errno == 0 {
			errno = p.bindTCP(c, s, sa)
		}
		return answer(0, errno)
	})
}

// listen handles listen(fd, backlog), which binds a socket that is not yet.
func (p *PortSpace) listen(c *seccompnotif.Call) seccompnotif.Action {
	others := continues
	if p.judge.policy.NeedsSupervisor() {
		others = p.judge.Handle
	}
	return p.forTCP(c, others, func(s *socket) seccompnotif.Action {
		errno, by := p.listenTCP(c, s)
		p.judge.report(c, by)
		return answer(0, errno)
	})
}

func (p *PortSpace) listenTCP(c *seccompnotif.Call, s *socket) (unix.Errno, refusal) {
	if errno := p.mayListen(c, s); errno != 0 {
		return errno, byRules
	}
	if errno, by := p.judge.bindUnbound(c, s, func() (netip.AddrPort, unix.Errno) { return p.noted(c, s, true) }); errno != 0 {
		p.unnote(s)
		return errno, by
	}
	before := s.localPort()
	p.mu.Lock()
	errno := s.listen(int(int32(c.Arg(1))))
	if errno == 0 {
		errno = p.note(c, s, false)
	}
	p.mu.Unlock()
	if errno != 0 {
		return errno, byNobody
	}
	if errno := p.mayListen(c, s); errno != 0 { // it was not bound before
		s.stopListening()
		return errno, byRules
	}
	return p.judge.askIfMoved(c, s, before, func() (netip.AddrPort, unix.Errno) { return p.noted(c, s, false) })
}

// noted notes a bound socket, see note, and returns what it is bound to, by its port inside.
func (p *PortSpace) noted(c *seccompnotif.Call, s *socket, ifAlias bool) (netip.AddrPort, unix.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errno := p.note(c, s, ifAlias); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return p.inside(s)
}

// unnote forgets a socket that is not bound any more.
func (p *PortSpace) unnote(s *socket) {
	cookie, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.real {
		for _, b := range slices.Clone(list) {
			if b.cookie == cookie {
				p.remove(b)
			}
		}
	}
}

// inside returns what a socket is bound to, by its port inside. p is locked.
func (p *PortSpace) inside(s *socket) (netip.AddrPort, unix.Errno) {
	name, errno := s.localName()
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	at, errno := s.place(name.Addr())
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	port := name.Port()
	if b := p.named(port, at, true); b != nil {
		port = b.Virtual
	}
	return netip.AddrPortFrom(name.Addr(), port), 0
}

// mayListen judges the port that a socket has.
func (p *PortSpace) mayListen(c *seccompnotif.Call, s *socket) unix.Errno {
	p.mu.Lock()
	at, errno := p.inside(s)
	p.mu.Unlock()
	if errno != 0 {
		return errno
	}
	return p.mayUse(c, s, "listen", at)
}

// mayUse judges a port by its name inside.
func (p *PortSpace) mayUse(c *seccompnotif.Call, s *socket, call string, at netip.AddrPort) unix.Errno {
	switch {
	case p.judge.policy.Allows(at.Port()):
		return 0
	case at.Port() == 0:
		return p.judge.record(c, s, call, netip.AddrPort{}, "the kernel would choose a port that may not be bound")
	default:
		return p.judge.record(c, s, call, at, "the port may not be bound")
	}
}

// continues lets a call go on. That is safe because nothing is denied here that the kernel would allow: whatever socket the
// descriptor means by then, Landlock keeps to the policy for ports.
func continues(*seccompnotif.Call) seccompnotif.Action { return seccompnotif.Continue() }

// forTCP has f carry a call out, on a worker, if it is on a TCP socket, and leaves it to others if not.
func (p *PortSpace) forTCP(c *seccompnotif.Call, others func(*seccompnotif.Call) seccompnotif.Action, f func(*socket) seccompnotif.Action) seccompnotif.Action {
	isTCP := func(s *socket) bool { return s.inet == inetTCP }
	s, errno := openSocket(c, int(int32(c.Arg(0))))
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	s.close() // so that nothing is left open if the worker never runs
	if !isTCP(&s) {
		return others(c)
	}
	later := seccompnotif.Defer
	if p.judge.watched() {
		later = p.judge.gate.Later // a verdict takes longer
	}
	return later(func() seccompnotif.Action {
		s, errno := openSocket(c, int(int32(c.Arg(0))))
		if errno != 0 {
			return seccompnotif.Errno(errno)
		}
		defer s.close()
		if !isTCP(&s) {
			return others(c)
		}
		return f(&s)
	})
}

// bindAddress reads the address that a TCP socket is to be bound to. False means that the kernel refuses it, for whatever reason.
func bindAddress(domain int, sa []byte) (netip.AddrPort, bool) {
	fam, ok := family(sa)
	switch {
	case !ok:
		return netip.AddrPort{}, false
	case domain == unix.AF_INET && (fam == unix.AF_INET || fam == unix.AF_UNSPEC):
		return inet4(sa)
	case domain == unix.AF_INET6 && fam == unix.AF_INET6:
		return inet6(sa)
	default:
		return netip.AddrPort{}, false
	}
}

// bindTCP binds a TCP socket to an address of ours, whose port it changes.
func (p *PortSpace) bindTCP(c *seccompnotif.Call, s *socket, sa []byte) unix.Errno {
	to, ok := bindAddress(s.domain, sa)
	if !ok {
		return s.bind(sa)
	}
	if errno := p.mayUse(c, s, "bind", to); errno != 0 {
		return errno
	}
	if !mayBind(p.host, c, s, to.Port()) {
		return unix.EACCES
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if to.Port() == 0 {
		if errno := s.bind(sa); errno != 0 {
			return errno
		}
		return p.note(c, s, true)
	}
	at, errno := s.place(to.Addr())
	if errno != 0 {
		return errno
	}
	if own := p.own(to.Port(), at); own != nil {
		setPort(sa, own.Real)
		errno = s.bind(sa)
	} else {
		errno = p.bindFirst(c, s, sa, to.Port(), at)
	}
	if errno != 0 {
		return errno
	}
	return p.noteAs(c, s, to.Port())
}

// bindFirst binds a socket to a port that none of the container's has at that place.
func (p *PortSpace) bindFirst(c *seccompnotif.Call, s *socket, sa []byte, port uint16, at place) unix.Errno {
	errno := unix.EADDRINUSE
	try := func(real uint16) bool {
		if p.owns(real, at) { // under another name
			return false
		}
		setPort(sa, real)
		errno = s.bindAlone(sa)
		return errno != unix.EADDRINUSE
	}
	if try(port) {
		return errno
	}
	before := uint16(0)
	for real, b := range p.past {
		if b.Virtual == port && b.where.overlaps(at) {
			before = real
		}
	}
	if before == port && p.onlyConnections(c, port) {
		return unix.EADDRINUSE // as ever: SO_REUSEADDR is for that
	}
	if before != 0 && before != port && try(before) {
		return errno
	}
	for range maxPicks {
		if try(pick()) {
			return errno
		}
	}
	return unix.EADDRINUSE
}

// bound describes a socket that is bound, by its port outside until somebody knows better.
func (s *socket) bound(c *seccompnotif.Call) (*Binding, unix.Errno) {
	name, errno := s.localName()
	if errno != 0 {
		return nil, errno
	}
	at, errno := s.place(name.Addr())
	if errno != 0 {
		return nil, errno
	}
	cookie, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return nil, errnoOf(err, unix.EACCES)
	}
	return &Binding{Virtual: name.Port(), Real: name.Port(), Addr: at.addr, PID: c.PID(), where: at, cookie: cookie}, 0
}

// note notes a socket that is bound to a port that nobody named, unless it is known. Many clients bind an address alone and never
// listen: with ifAlias a socket is noted only if the port has another owner inside, of which the kernel knows nothing. p is
// locked.
func (p *PortSpace) note(c *seccompnotif.Call, s *socket, ifAlias bool) unix.Errno {
	b, errno := s.bound(c)
	if errno != 0 {
		return errno
	}
	for _, known := range p.real[b.Real] {
		if known.cookie == b.cookie {
			return 0
		}
	}
	for range maxPicks {
		if p.own(b.Virtual, b.where) == nil {
			break
		}
		b.Virtual = pick()
	}
	if ifAlias && b.Virtual == b.Real {
		return 0
	}
	return p.add(c, s, b)
}

// noteAs notes a socket that has been bound for a port. p is locked.
func (p *PortSpace) noteAs(c *seccompnotif.Call, s *socket, virtual uint16) unix.Errno {
	b, errno := s.bound(c)
	if errno != 0 {
		return errno
	}
	b.Virtual = virtual
	return p.add(c, s, b)
}

// bind calls bind(2) with an address of ours.
func (s *socket) bind(sa []byte) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(sa))), uintptr(len(sa)))
	return errno
}

// bindAlone is bind for a port that is not to be shared with anybody. Whoever runs as the same user in another container could
// be asking for the same port with SO_REUSEPORT.
func (s *socket) bindAlone(sa []byte) unix.Errno {
	shared, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	if err != nil {
		return errnoOf(err, unix.EACCES)
	}
	if shared == 0 {
		return s.bind(sa)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
		return errnoOf(err, unix.EACCES)
	}
	errno := s.bind(sa)
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil && errno == 0 {
		errno = errnoOf(err, unix.EACCES)
	}
	return errno
}

// place returns where a TCP socket that is bound to an address receives.
func (s *socket) place(addr netip.Addr) (place, unix.Errno) {
	network, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return place{}, errnoOf(err, unix.EACCES)
	}
	at := place{network: network, addr: addr.Unmap().WithZone("")}
	if at.addr == netip.IPv6Unspecified() {
		only6, err := unix.GetsockoptInt(s.fd, unix.SOL_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return place{}, errnoOf(err, unix.EACCES)
		}
		at.both = only6 == 0
	}
	return at, 0
}

// localName returns the address and port that an IPv4 or IPv6 socket is bound to.
func (s *socket) localName() (netip.AddrPort, unix.Errno) {
	name, errno := s.name(unix.SYS_GETSOCKNAME)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	at, ok := inetAddress(name)
	if !ok {
		return netip.AddrPort{}, unix.EACCES
	}
	return at, 0
}

// name calls getsockname(2) or getpeername(2).
func (s *socket) name(trap uintptr) ([]byte, unix.Errno) {
	sa := make([]byte, maxSockaddr)
	size := uint32(len(sa))
	_, _, errno := unix.Syscall(trap, uintptr(s.fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(unsafe.Pointer(&size)))
	return sa[:min(size, maxSockaddr)], errno
}
