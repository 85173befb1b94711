package netfilter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// tcpListen is the state of a socket that listens as /proc/net/tcp has it, TCP_LISTEN of <net/tcp_states.h>.
const tcpListen = 0x0a

// tcpLine is a line of /proc/net/tcp or tcp6, see proc_pid_net(5).
type tcpLine struct {
	local, remote netip.AddrPort
	state         uint64
}

// parseTCPLine reads a line. False means that it is none, such as the heading.
func parseTCPLine(line []byte) (tcpLine, bool) {
	fields := bytes.Fields(line)
	if len(fields) < 4 {
		return tcpLine{}, false
	}
	local, okLocal := parseHexEndpoint(fields[1])
	remote, okRemote := parseHexEndpoint(fields[2])
	state, err := strconv.ParseUint(string(fields[3]), 16, 8)
	return tcpLine{local, remote, state}, okLocal && okRemote && err == nil
}

// parseHexEndpoint reads an address, in words of the machine's byte order, and a port.
func parseHexEndpoint(text []byte) (netip.AddrPort, bool) {
	address, port, found := bytes.Cut(text, []byte(":"))
	raw := make([]byte, hex.DecodedLen(len(address)))
	if _, err := hex.Decode(raw, address); err != nil || !found || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := raw; len(word) > 0; word = word[4:] {
		binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(string(port), 16, 16)
	return netip.AddrPortFrom(addr, uint16(n)), ok && err == nil
}

// onlyConnections tells whether a port of the caller's network namespace is taken by connections alone, not by a listener nor by
// a socket that is not in the list.
func (p *PortSpace) onlyConnections(c *seccompnotif.Call, port uint16) bool {
	found := false
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		text, err := p.host.ReadProc(c.PID(), name)
		if err != nil || !c.Valid() {
			continue
		}
		for line := range bytes.Lines(text) {
			if l, ok := parseTCPLine(line); ok && l.local.Port() == port {
				if l.state == tcpListen {
					return false
				}
				found = true
			}
		}
	}
	return found
}

// View returns what a container is to read in its /proc/net/tcp or tcp6, given what the kernel says: its own ports by the names
// that it knows them by. The ports of others that have such a name are left out, since inside the name is the container's.
func (p *PortSpace) View(c *seccompnotif.Call, text []byte) []byte {
	if !p.remaps() {
		return text
	}
	network, known := p.networkOf(c)
	if !known {
		return text
	}
	return p.view(network, text, func(addr netip.Addr) bool { return p.isLocal(c, addr) })
}

func (p *PortSpace) view(network uint64, text []byte, isLocal func(netip.Addr) bool) []byte {
	view := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		l, ok := parseTCPLine(line)
		if !ok {
			view = append(view, line...)
			continue
		}
		at := place{network: network, addr: l.local.Addr().Unmap(), both: l.local.Addr() == netip.IPv6Unspecified()}
		local := p.name(l.local.Port(), at, l.state == tcpListen, always)
		if local == l.local.Port() && p.hides(local, at) {
			continue
		}
		peer := place{network: network, addr: l.remote.Addr().Unmap()}
		remote := p.name(l.remote.Port(), peer, false, func() bool { return isLocal(l.remote.Addr()) })
		view = append(view, line...)
		putPorts(view[len(view)-len(line):], local, remote)
	}
	return view
}

func always() bool { return true }

// hides tells whether a real port is that of somebody else, while inside a socket of the container's has its name.
func (p *PortSpace) hides(port uint16, at place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := find(p.virtual[port], at)
	return b != nil && b.Real != port
}

// putPorts replaces the two ports of a line of /proc/net/tcp, each of which follows a colon.
func putPorts(line []byte, local, remote uint16) {
	colon := bytes.IndexByte(line, ':') // after the number of the line
	for _, port := range []uint16{local, remote} {
		colon += 1 + bytes.IndexByte(line[colon+1:], ':')
		copy(line[colon+1:], fmt.Appendf(nil, "%04X", port))
	}
}

// networkOf returns the SO_NETNS_COOKIE of the caller's network namespace, if anybody in it has bound a socket.
func (p *PortSpace) networkOf(c *seccompnotif.Call) (uint64, bool) {
	ns, err := p.host.NamespaceOfCaller(c, "net")
	if err != nil {
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	network, known := p.networks[ns]
	return network, known
}
