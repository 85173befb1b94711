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

// view returns what a container is to read in the /proc/net/tcp or tcp6 of a network namespace, given what the kernel says: its own ports by
// the names that it knows them by. isLocal tells whether an address is the host's. A number means in every line what it means to
// connect(2) inside: lines in which it would mean another socket, since inside it is the name of one of the container's, are left out.
func (p *PortSpace) view(network uint64, text []byte, isLocal func(netip.Addr) bool) []byte {
	view := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		l, ok := parseTCPLine(line)
		if !ok {
			view = append(view, line...)
			continue
		}
		at := place{network: network, addr: l.local.Addr().Unmap(), both: l.local.Addr() == netip.IPv6Unspecified()}
		local, own := p.shown(l.local.Port(), at, l.state == tcpListen, always)
		peer := place{network: network, addr: l.remote.Addr().Unmap()}
		remote, reached := p.shown(l.remote.Port(), peer, false, func() bool { return isLocal(l.remote.Addr()) })
		if !own || !reached {
			continue
		}
		view = append(view, line...)
		putPorts(view[len(view)-len(line):], local, remote)
	}
	return view
}

func always() bool { return true }

// shown returns what a real port is called inside. False means that it has no name there, while its number is that of another socket.
func (p *PortSpace) shown(real uint16, at place, live bool, isLocal func() bool) (virtual uint16, ok bool) {
	if virtual = p.name(real, at, live, isLocal); virtual != real {
		return virtual, true
	}
	p.mu.Lock()
	same, other := find(p.real[real], at), find(p.virtual[real], at)
	p.mu.Unlock()
	if other == nil || other.Real == real || same != nil && same.Virtual == real { // a table does not tell who has IPv6 alone
		return real, true
	}
	return real, other.where.addr.IsUnspecified() && !isLocal()
}

// putPorts replaces the two ports of a line of /proc/net/tcp, each of which follows a colon.
func putPorts(line []byte, local, remote uint16) {
	colon := bytes.IndexByte(line, ':') // after the number of the line
	for _, port := range []uint16{local, remote} {
		colon += 1 + bytes.IndexByte(line[colon+1:], ':')
		copy(line[colon+1:], fmt.Appendf(nil, "%04X", port))
	}
}
