package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// EgressConfig is what [NewEgress] needs to know.
type EgressConfig struct {
	Policy Policy
	// Denials, if not nil, records what is refused.
	Denials DenialLog
	// SharedAbstract permits connects and sends on the guest's behalf to abstract Unix sockets of the supervisor's own network
	// namespace. A guest in that namespace would otherwise reach the host's abstract sockets past its Landlock scope, which
	// does not bind the supervisor. It is for guests that may reach them anyway.
	SharedAbstract bool
	// Gate, if not nil, is asked about the calls that the policy allows before they are made, and told of those that it denies.
	Gate *seccompnotif.Gate
	// Ports, if not nil, is the port space of the guest: destinations name its own ports.
	Ports *PortSpace
	// Bind is what TCP ports may be bound, where the gate is to be asked about bind(2). Confine puts the calling thread under the Landlock
	// rules that the guest is under; nil if there are none.
	Bind    BindPolicy
	Confine func() error
}

// Egress judges and carries out the calls of [Policy.Notifications]. It is safe for concurrent use.
type Egress struct {
	policy   Policy
	denials  DenialLog
	host     *seccompnotif.Host
	lot      *lot
	abstract bool
	gate     *seccompnotif.Gate
	live     live
	binds    BindPolicy
	confine  func() error
	ports    *PortSpace
	// asIssued tells that calls may go on as they were issued, because the kernel alone holds the policy up: whatever they turn into
	// meanwhile is no more than if they had not been notified. Only where a port has another name outside are they carried out.
	asIssued bool
}

// NewEgress returns the handlers for a policy. The supervisor has to run with the privileges, and the view of /proc, that
// supervising the guest takes. Close releases what it holds.
func NewEgress(config EgressConfig) (*Egress, error) {
	host, err := seccompnotif.OpenHost()
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	e := &Egress{
		policy: config.Policy, denials: config.Denials, host: host, lot: newLot(host), abstract: config.SharedAbstract, gate: config.Gate,
		ports: config.Ports, binds: config.Bind, confine: config.Confine, asIssued: !config.Policy.NeedsSupervisor(),
	}
	e.live.begin(config.Policy)
	return e, nil
}

// Close releases the descriptors that e holds. No handler may run any more.
func (e *Egress) Close() error {
	e.lot.close()
	return e.host.Close()
}

// Handlers returns the handler of each system call, by its number, to be put into a [seccompnotif.Table]. It has one for bind(2) if the gate
// wants to be asked about that.
func (e *Egress) Handlers() map[int]seccompnotif.Handler {
	handlers := map[int]seccompnotif.Handler{
		unix.SYS_CONNECT:  seccompnotif.HandlerFunc(e.connect),
		unix.SYS_SENDTO:   seccompnotif.HandlerFunc(e.sendto),
		unix.SYS_SENDMSG:  seccompnotif.HandlerFunc(e.sendmsg),
		unix.SYS_SENDMMSG: seccompnotif.HandlerFunc(e.sendmmsg),
	}
	if e.gate.Wants(unix.SYS_BIND) { // in place of the port space's own
		handlers[unix.SYS_BIND] = seccompnotif.HandlerFunc(e.bind)
	}
	return handlers
}

// Register adds the handlers to a table under construction.
func (e *Egress) Register(table *seccompnotif.TableBuilder) {
	for nr, handler := range e.Handlers() {
		table.Handle(nr, handler)
	}
}

// route returns what the port of a TCP destination is outside.
func (e *Egress) route(c *seccompnotif.Call, s *socket, to netip.AddrPort) (uint16, unix.Errno) {
	if e.ports == nil {
		return to.Port(), 0
	}
	return e.ports.route(c, s, to)
}

// judgeInet judges an address given to an IPv4 or IPv6 socket, and makes it explicit: where the kernel would go to the host
// itself because the address is unspecified, sa is changed to the address that was judged. An invalid result with errno 0
// means that sa names no destination.
func (e *Egress) judgeInet(c *seccompnotif.Call, s *socket, sa []byte, forSend bool) (netip.AddrPort, unix.Errno) {
	to, errno := inetDestination(s.domain, sa, forSend)
	if errno != 0 || !to.IsValid() {
		return netip.AddrPort{}, errno
	}
	if to.Addr().Unmap().IsUnspecified() {
		to = netip.AddrPortFrom(ownAddr(to.Addr(), s.localAddr()), to.Port())
		setAddr(sa, to.Addr())
	}
	if s.inet == notJudgeable {
		return netip.AddrPort{}, e.refuse(c, s, to, Verdict{}, "no rule can allow this protocol")
	}
	if verdict, because := e.live.judge(c, s.inet.rules(), to); !verdict.Allowed {
		return netip.AddrPort{}, e.refuse(c, s, to, verdict, because)
	}
	return to, 0
}

// ownAddr returns which of the host's addresses the kernel takes an unspecified destination for, given the address that the
// socket is bound to: for IPv4 that one, or 127.0.0.1 (ip_route_output_key); for IPv6 always loopback (tcp_v6_connect and its
// like), an IPv4-mapped one if the socket is bound to a mapped address. The form of the address stays.
func ownAddr(unspecified, bound netip.Addr) netip.Addr {
	loopback4 := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	mapped := func(addr netip.Addr) netip.Addr { return netip.AddrFrom16(addr.As16()) }
	if unspecified.Is6() && !unspecified.Is4In6() {
		if bound.Is4In6() {
			return mapped(loopback4)
		}
		return netip.IPv6Loopback()
	}
	addr := loopback4
	if b := bound.Unmap(); b.Is4() && !b.IsUnspecified() {
		addr = b
	}
	if unspecified.Is4In6() {
		return mapped(addr)
	}
	return addr
}

// scratch is memory for one call, reused so that judging does not allocate.
type scratch struct {
	sockaddr [maxSockaddr]byte
	header   [msghdrSize]byte
	iovecs   []byte
	spans    []span
	data     []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func getScratch() *scratch { return scratches.Get().(*scratch) }

// put gives the memory back, but for what only a large message needed.
func (m *scratch) put() {
	if cap(m.data) > keptData {
		m.data = nil
	}
	scratches.Put(m)
}

// keptData is the largest buffer for message data that is kept for later calls.
const keptData = 64 << 10

// readName copies a guest's address once. As in the kernel a length below zero or beyond any address is EINVAL.
func (m *scratch) readName(c *seccompnotif.Call, addr uint64, length int) ([]byte, unix.Errno) {
	if length < 0 || length > maxSockaddr {
		return nil, unix.EINVAL
	}
	sa := m.sockaddr[:length]
	return sa, readGuest(c, addr, sa)
}

// readGuest reads the guest's memory.
func readGuest(c *seccompnotif.Call, addr uint64, into []byte) unix.Errno {
	err := c.ReadMemory(addr, into)
	if err == nil {
		return 0
	}
	if errors.Is(err, seccompnotif.ErrGone) {
		return unix.ESRCH // nobody gets to see it
	}
	return unix.EFAULT
}

// answer makes an action of an errno or, without one, of a result.
func answer(result int, errno unix.Errno) seccompnotif.Action {
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	return seccompnotif.Return(int64(result))
}
