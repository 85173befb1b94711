package netfilter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// maxBindings is how many bound sockets a port space keeps track of; the next bind fails with ENOBUFS. maxPast is how
	// many it remembers of those that were closed.
	maxBindings = 16384
	maxPast     = 4096
	// maxNetworks is of how many network namespaces of a container it knows the tables.
	maxNetworks = 256
	// firstDynamic and lastDynamic are the ports that a bind is given in place of one that is taken: Linux's own default
	// range of ephemeral ports.
	firstDynamic, lastDynamic = 32768, 60999
	// maxPicks is how many of them are tried.
	maxPicks = 256
)

// Binding is a TCP socket of a container that is bound to a port.
type Binding struct {
	Virtual uint16     `json:"virtual"` // the port as the container knows it
	Real    uint16     `json:"real"`    // the port as everybody else does
	Addr    netip.Addr `json:"address"` // what it is bound to
	PID     int        `json:"pid"`     // thread id of who bound it, in the supervisor's pid namespace

	where  place
	cookie uint64 // SO_COOKIE of the socket
}

// place is what a bound socket receives on, but for the port.
type place struct {
	network uint64 // SO_NETNS_COOKIE
	addr    netip.Addr
	both    bool // the unspecified address of IPv6, and with it IPv4's
}

// has tells whether an address is one that sockets at p receive on. Where p is unspecified that is every address of the family:
// which of them are the host's is not known here.
func (p place) has(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if p.addr.IsUnspecified() {
		return p.both || p.addr.Is4() == addr.Is4()
	}
	return p.addr == addr
}

// overlaps tells whether a port at p and the same port at q are one.
func (p place) overlaps(q place) bool {
	return p.network == q.network && (p.has(q.addr) || q.has(p.addr))
}

// PortSpace gives a container TCP ports of its own in a network namespace that it shares with others. It binds sockets on the
// container's behalf: to the port asked for, if nobody else has it, and otherwise to another, which it keeps up the appearance of
// being the one asked for: in getsockname(2), in getpeername(2) and connect(2) within the container, and in /proc/net/tcp
// ([PortSpace.Present]). Among the container's own sockets the kernel decides who may share a port, by
// SO_REUSEADDR and SO_REUSEPORT as ever, since those with one port inside have one outside. It is safe for concurrent use.
//
// What it binds is judged by a [BindPolicy], since it is not under the guest's Landlock domain. Beyond that it is no protection:
// nothing is denied that would be allowed without it.
type PortSpace struct {
	host  *seccompnotif.Host
	judge *Listen
	told  func(Binding)
	alive *weakSet

	mu       sync.Mutex
	virtual  map[uint16][]*Binding
	real     map[uint16][]*Binding
	count    int
	remapped int                 // bindings whose two ports differ, those of past included
	past     map[uint16]*Binding // by real port: the last of the sockets that are closed
	networks map[uint64]bool     // SO_NETNS_COOKIE of those whose tables are known
	tables   map[uint64]uint64   // SO_NETNS_COOKIE by the inode number of a table of TCP sockets
}

// PortSpaceConfig is what [NewPortSpace] needs to know.
type PortSpaceConfig struct {
	// Bind says which ports may be bound: it is about the ports inside.
	Bind BindPolicy
	// Denials, if not nil, records what is refused.
	Denials DenialLog
	// Gate, if not nil, is asked about what listen(2) binds, and told of that call.
	Gate *seccompnotif.Gate
	// Told, if not nil, is told of each binding whose two ports differ. It must be quick.
	Told func(Binding)
}

// NewPortSpace returns an empty port space.
func NewPortSpace(config PortSpaceConfig) (*PortSpace, error) {
	host, err := seccompnotif.OpenHost()
	if err != nil {
		return nil, fmt.Errorf("port space: %w", err)
	}
	alive, err := newWeakSet()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("port space: %w", err), host.Close())
	}
	return &PortSpace{
		host: host, judge: &Listen{config.Bind, config.Denials, config.Gate, host}, told: config.Told, alive: alive,
		virtual: map[uint16][]*Binding{}, real: map[uint16][]*Binding{}, past: map[uint16]*Binding{},
		networks: map[uint64]bool{}, tables: map[uint64]uint64{},
	}, nil
}

// Close releases the descriptors that p holds. No handler may run any more.
func (p *PortSpace) Close() error { return errors.Join(p.alive.close(), p.host.Close()) }

// Bindings returns the sockets that are bound, by their ports.
func (p *PortSpace) Bindings() []Binding {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep()
	var list []Binding
	for _, bindings := range p.virtual {
		for _, b := range bindings {
			list = append(list, *b)
		}
	}
	slices.SortFunc(list, func(a, b Binding) int {
		if a.Virtual != b.Virtual {
			return int(a.Virtual) - int(b.Virtual)
		}
		return a.Addr.Compare(b.Addr)
	})
	return list
}

// sweep lets go of sockets that are closed. If that cannot be told, none is. p is locked.
func (p *PortSpace) sweep() {
	if p.count == 0 {
		return
	}
	open, err := p.alive.open()
	if err != nil {
		return
	}
	for _, bindings := range p.virtual {
		for _, b := range slices.Clone(bindings) {
			if !open[b.cookie] {
				p.remove(b)
				p.remember(b)
			}
		}
	}
}

// add notes that the socket s is bound. p is locked.
func (p *PortSpace) add(c *seccompnotif.Call, s *socket, b *Binding) unix.Errno {
	p.learn(c, s, b.where.network)
	if p.count >= maxBindings {
		if p.sweep(); p.count >= maxBindings {
			return unix.ENOBUFS
		}
	}
	if err := p.alive.add(s.fd, b.cookie); err != nil {
		return errnoOf(err, unix.ENOBUFS)
	}
	p.forget(b.Real)
	p.virtual[b.Virtual] = append(p.virtual[b.Virtual], b)
	p.real[b.Real] = append(p.real[b.Real], b)
	p.count++
	if b.Virtual != b.Real {
		p.remapped++
		if p.told != nil {
			p.told(*b)
		}
	}
	return 0
}

func (p *PortSpace) remove(b *Binding) {
	for _, index := range []struct {
		of   map[uint16][]*Binding
		port uint16
	}{{p.virtual, b.Virtual}, {p.real, b.Real}} {
		rest := slices.DeleteFunc(index.of[index.port], func(other *Binding) bool { return other == b })
		if len(rest) == 0 {
			delete(index.of, index.port)
		} else {
			index.of[index.port] = rest
		}
	}
	p.count--
	if b.Virtual != b.Real {
		p.remapped--
	}
}

// remember keeps what a closed socket was bound to: connections that it has accepted may live on, and whoever binds the port next
// may get the same one outside.
func (p *PortSpace) remember(b *Binding) {
	p.forget(b.Real)
	for port := range p.past {
		if len(p.past) < maxPast {
			break
		}
		p.forget(port)
	}
	p.past[b.Real] = b
	if b.Virtual != b.Real {
		p.remapped++
	}
}

func (p *PortSpace) forget(real uint16) {
	if b := p.past[real]; b != nil {
		delete(p.past, real)
		if b.Virtual != b.Real {
			p.remapped--
		}
	}
}

// remaps tells whether any port is not the same inside and outside.
func (p *PortSpace) remaps() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remapped > 0
}

// find returns a binding in a list that overlaps with a place.
func find(list []*Binding, at place) *Binding {
	for _, b := range list {
		if b.where.overlaps(at) {
			return b
		}
	}
	return nil
}

// own returns a bound socket that has the port inside, at a place that overlaps; nil if there is none. p is locked.
func (p *PortSpace) own(virtual uint16, at place) *Binding {
	if find(p.virtual[virtual], at) == nil {
		return nil
	}
	p.sweep() // only now does it matter which of them are open
	return find(p.virtual[virtual], at)
}

// owns tells whether a bound socket has the port outside. p is locked.
func (p *PortSpace) owns(real uint16, at place) bool {
	if find(p.real[real], at) == nil {
		return false
	}
	p.sweep()
	return find(p.real[real], at) != nil
}

// pick returns a port at random that a bind may be tried with in place of one that is taken.
func pick() uint16 { return uint16(firstDynamic + rand.IntN(lastDynamic-firstDynamic+1)) }

// name returns what a real port at a place is called inside. local tells whether an address is the host's; it is asked only
// where that matters. With live a closed socket's name does not count.
func (p *PortSpace) name(real uint16, at place, live bool, local func() bool) uint16 {
	p.mu.Lock()
	b := p.named(real, at, live)
	p.mu.Unlock()
	if b == nil || b.Virtual == real || b.where.addr.IsUnspecified() && !local() {
		return real
	}
	return b.Virtual
}

// named returns the binding that gives a real port its name, nil if there is none. p is locked.
func (p *PortSpace) named(real uint16, at place, live bool) *Binding {
	b := find(p.real[real], at)
	if past := p.past[real]; b == nil && !live && past != nil && past.where.overlaps(at) {
		return past
	}
	return b
}
