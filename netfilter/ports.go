package netfilter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PortRange is the ports First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Ports is a set of TCP ports, as the keys network.allow_bind and network.deny_bind give them: ascending ranges that neither
// overlap nor touch. No range at all is the empty set.
type Ports []PortRange

// AnyPort is the set of all ports, 1 to 65535.
func AnyPort() Ports { return Ports{{1, 65535}} }

// ParsePorts parses a list of ports and ranges of ports, as in "80,8000-8010", or "*" for every port. Ports are 1 to 65535. An
// error is a [*SyntaxError].
func ParsePorts(text string) (Ports, error) {
	fail := func(part, reason string) (Ports, error) {
		return nil, &SyntaxError{Kind: "port list", Text: text, Part: part, Reason: reason}
	}
	switch text {
	case "":
		return fail(text, "is empty; the form is PORT[-PORT][,...] or *")
	case "*":
		return AnyPort(), nil
	}
	var ports Ports
	for field := range strings.SplitSeq(text, ",") {
		if field == "*" {
			return fail(field, "stands beside other ports; give * alone or the ports alone")
		}
		if field == "" {
			return fail(text, "lacks a port beside a comma; ports are 1 to 65535")
		}
		first, last, isRange := strings.Cut(field, "-")
		if !isRange {
			last = first
		}
		low, reason := parsePort(first)
		if reason != "" {
			return fail(field, reason+", or ranges as in 8000-8010")
		}
		high, reason := parsePort(last)
		if reason != "" {
			return fail(field, reason+", or ranges as in 8000-8010")
		}
		if low > high {
			return fail(field, fmt.Sprintf("is a range that ends before it begins; write %d-%d", high, low))
		}
		ports = append(ports, PortRange{low, high})
	}
	return ports.normalise(), nil
}

// normalise sorts the ranges and joins those that overlap or touch.
func (p Ports) normalise() Ports {
	slices.SortFunc(p, func(a, b PortRange) int { return int(a.First) - int(b.First) })
	joined := p[:0]
	for _, r := range p {
		if n := len(joined); n > 0 && int(r.First) <= int(joined[n-1].Last)+1 {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
		} else {
			joined = append(joined, r)
		}
	}
	return joined
}

// All tells whether the set has every port from 1 to 65535.
func (p Ports) All() bool { return len(p) == 1 && p[0] == PortRange{1, 65535} }

// Contains tells whether port is in the set.
func (p Ports) Contains(port uint16) bool {
	_, found := slices.BinarySearchFunc(p, port, func(r PortRange, port uint16) int {
		switch {
		case r.Last < port:
			return -1
		case r.First > port:
			return 1
		default:
			return 0
		}
	})
	return found
}

// Len returns the number of ports in the set.
func (p Ports) Len() int {
	n := 0
	for _, r := range p {
		n += int(r.Last) - int(r.First) + 1
	}
	return n
}

// Intersect returns the ports that are in both sets.
func (p Ports) Intersect(q Ports) Ports {
	both := Ports{}
	for i, j := 0, 0; i < len(p) && j < len(q); {
		if r := (PortRange{max(p[i].First, q[j].First), min(p[i].Last, q[j].Last)}); r.First <= r.Last {
			both = append(both, r)
		}
		if p[i].Last < q[j].Last {
			i++
		} else {
			j++
		}
	}
	return both
}

// Union returns the ports that are in either set.
func (p Ports) Union(q Ports) Ports { return slices.Concat(p, q).normalise() }

// String returns the canonical form, which [ParsePorts] reads back to an equal set unless it is empty.
func (p Ports) String() string {
	if p.All() {
		return "*"
	}
	fields := make([]string, len(p))
	for i, r := range p {
		fields[i] = strconv.Itoa(int(r.First))
		if r.Last != r.First {
			fields[i] += "-" + strconv.Itoa(int(r.Last))
		}
	}
	return strings.Join(fields, ",")
}

// MarshalText returns the canonical form.
func (p Ports) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the canonical form, the empty set included.
func (p *Ports) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Ports{}
		return nil
	}
	ports, err := ParsePorts(string(text))
	if err == nil {
		*p = ports
	}
	return err
}
