package netfilter

import (
	"bytes"
	"encoding/hex"
	"net/netip"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// isLocal tells whether an address is of the host that the caller lives in. If that cannot be told it is not.
func (p *PortSpace) isLocal(c *seccompnotif.Call, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	if addr.Is4() {
		text, err := p.host.ReadProc(c.PID(), "net/fib_trie")
		return err == nil && c.Valid() && localInTrie(text, addr)
	}
	text, err := p.host.ReadProc(c.PID(), "net/if_inet6")
	return err == nil && c.Valid() && localInList(text, addr)
}

// localInTrie looks for an IPv4 address among the local routes in /proc/PID/net/fib_trie, in which a leaf is a line
// "|-- ADDRESS", followed by lines "/LENGTH SCOPE TYPE".
func localInTrie(text []byte, addr netip.Addr) bool {
	var leaf netip.Addr
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		switch {
		case len(fields) == 2 && string(fields[0]) == "|--":
			leaf, _ = netip.ParseAddr(string(fields[1]))
		case len(fields) >= 3 && string(fields[2]) == "LOCAL" && leaf.IsValid():
			prefix, err := netip.ParsePrefix(leaf.String() + string(fields[0]))
			if err == nil && prefix.Contains(addr) {
				return true
			}
		}
	}
	return false
}

// localInList looks for an IPv6 address in /proc/PID/net/if_inet6, whose lines begin with an address in hexadecimal.
func localInList(text []byte, addr netip.Addr) bool {
	raw := addr.As16()
	want := make([]byte, hex.EncodedLen(len(raw)))
	hex.Encode(want, raw[:])
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, want) {
			return true
		}
	}
	return false
}
