package netfilter

import (
	"encoding/json"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// BindPolicy says which TCP ports may be bound. It is a value that knows nothing of system calls, as [Policy] is for what may be
// reached. The zero value restricts nothing.
type BindPolicy struct {
	restricted bool
	ports      Ports // what may be bound
	chosen     Ports // what the kernel chooses from when it is asked to choose
}

// DefaultEphemeral is what the kernel chooses ports from unless somebody has changed net.ipv4.ip_local_port_range, see ip(7).
func DefaultEphemeral() Ports { return Ports{{32768, 60999}} }

// NewBindPolicy returns the policy of one source. A nil allow says nothing of what is allowed, so that all may be bound but what deny
// has; an empty one that is not nil allows nothing.
func NewBindPolicy(allow, deny Ports) BindPolicy {
	if allow == nil && len(deny) == 0 {
		return BindPolicy{}
	}
	if allow == nil {
		allow = AnyPort()
	}
	ports := allow.subtract(deny)
	if ports.All() {
		return BindPolicy{}
	}
	return BindPolicy{restricted: true, ports: ports, chosen: DefaultEphemeral()}
}

// Tighten returns the policy that allows what both p and q allow.
func (p BindPolicy) Tighten(q BindPolicy) BindPolicy {
	switch {
	case !p.restricted:
		return q
	case !q.restricted:
		return p
	}
	return BindPolicy{restricted: true, ports: p.ports.Intersect(q.ports), chosen: p.chosen.Union(q.chosen)}
}

// Choosing returns the policy for where the kernel chooses from other ports than [DefaultEphemeral].
func (p BindPolicy) Choosing(from Ports) BindPolicy {
	if p.restricted {
		p.chosen = from
	}
	return p
}

// Unrestricted tells whether every port may be bound.
func (p BindPolicy) Unrestricted() bool { return !p.restricted }

// IsZero is Unrestricted, for encoding/json.
func (p BindPolicy) IsZero() bool { return !p.restricted }

// Ports returns the ports that may be bound.
func (p BindPolicy) Ports() Ports {
	if !p.restricted {
		return AnyPort()
	}
	return p.ports
}

// Allows tells whether a port may be bound, whatever the address. Port 0 has the kernel choose: that is allowed where everything is
// that it could choose. Allows does not allocate.
func (p BindPolicy) Allows(port uint16) bool {
	switch {
	case !p.restricted:
		return true
	case port != 0:
		return p.ports.Contains(port)
	}
	for _, r := range p.chosen {
		if !p.ports.containsRange(r) {
			return false
		}
	}
	return len(p.ports) > 0
}

// containsRange tells whether all of a range is in the set.
func (p Ports) containsRange(r PortRange) bool {
	for _, own := range p {
		if own.First <= r.First && r.Last <= own.Last {
			return true
		}
	}
	return false
}

// LandlockPorts returns the policy as Landlock takes it: every port that may be bound, ascending, and 0 if the kernel may choose. It is
// nil if nothing is restricted, and empty but not nil if nothing may be bound.
func (p BindPolicy) LandlockPorts() []uint16 {
	if !p.restricted {
		return nil
	}
	list := make([]uint16, 0, p.ports.Len()+1)
	if p.Allows(0) {
		list = append(list, 0)
	}
	return p.ports.appendTo(list)
}

// appendTo appends every port of the set.
func (p Ports) appendTo(list []uint16) []uint16 {
	for _, r := range p {
		for port := int(r.First); port <= int(r.Last); port++ {
			list = append(list, uint16(port))
		}
	}
	return list
}

// NeedsSupervisor tells whether [Listen] has to judge listen(2). On a socket that has not been bound it takes a port of the kernel's choice
// (inet_autobind), and neither Landlock nor any hook of bind is asked. Where the kernel may choose that is no matter.
func (p BindPolicy) NeedsSupervisor() bool { return !p.Allows(0) }

// Notifications returns the uses of system calls that [Listen] has to judge.
func (p BindPolicy) Notifications() []seccompnotif.Notification {
	if !p.NeedsSupervisor() {
		return nil
	}
	return []seccompnotif.Notification{{Syscall: "listen"}}
}

// Denials returns what a filter must deny beside Landlock's list: the ways to a TCP port that Landlock does not see. MPTCP and SMC sockets
// listen on TCP ports (EPROTONOSUPPORT, EAFNOSUPPORT), and io_uring makes sockets and has them listen past any filter (ENOSYS).
func (p BindPolicy) Denials() []seccompnotif.Denial {
	if !p.restricted {
		return nil
	}
	const family, protocol = 0, 2
	denials := ringDenials()
	denials = append(denials, seccompnotif.Denial{Syscall: "socket", Errno: unix.EAFNOSUPPORT, When: []seccompnotif.Match{equal(family, unix.AF_SMC)}})
	for _, f := range []uint64{unix.AF_INET, unix.AF_INET6} {
		denials = append(denials, seccompnotif.Denial{
			Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []seccompnotif.Match{equal(family, f), equal(protocol, unix.IPPROTO_MPTCP)},
		})
	}
	return denials
}

// String describes the policy in one line, for people.
func (p BindPolicy) String() string {
	switch {
	case !p.restricted:
		return "unrestricted"
	case len(p.ports) == 0:
		return "no port"
	}
	return p.ports.String()
}

// bindJSON is a policy as JSON.
type bindJSON struct {
	Ports  Ports `json:"ports"`
	Chosen Ports `json:"ephemeral"`
}

// MarshalJSON returns {"ports": list, "ephemeral": list}, or null for the policy that restricts nothing.
func (p BindPolicy) MarshalJSON() ([]byte, error) {
	if !p.restricted {
		return []byte("null"), nil
	}
	return json.Marshal(bindJSON{p.ports, p.chosen})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *BindPolicy) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*p = BindPolicy{}
		return nil
	}
	var j bindJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*p = BindPolicy{true, j.Ports, j.Chosen}
	return nil
}
