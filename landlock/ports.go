package landlock

import (
	"fmt"
	"strconv"
	"strings"
)

// Ports are TCP ports in ascending order. They are written with ranges, as "80,8000-8010": there may be thousands.
type Ports []uint16

// String returns the ports with ranges.
func (p Ports) String() string {
	var out strings.Builder
	for i := 0; i < len(p); {
		last := i
		for last+1 < len(p) && int(p[last+1]) == int(p[last])+1 {
			last++
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.Itoa(int(p[i])))
		if last > i {
			out.WriteString("-" + strconv.Itoa(int(p[last])))
		}
		i = last + 1
	}
	return out.String()
}

// MarshalText returns the ports with ranges.
func (p Ports) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Ports) UnmarshalText(text []byte) error {
	read := Ports{}
	for field := range strings.SplitSeq(string(text), ",") {
		if field == "" {
			continue
		}
		first, last, isRange := strings.Cut(field, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return fmt.Errorf("landlock: %q is no list of ports", text)
		}
		high, err := strconv.ParseUint(last, 10, 16)
		if err != nil || high < low || len(read) > 0 && low <= uint64(read[len(read)-1]) {
			return fmt.Errorf("landlock: %q is no list of ports", text)
		}
		for port := low; port <= high; port++ {
			read = append(read, uint16(port))
		}
	}
	*p = read
	return nil
}
