package chroot

import (
	"fmt"
	"strings"
)

// A map is kept beside its container and read back, so its printed forms are read as well.

// UnmarshalText reads what [Attributes.MarshalText] writes.
func (a *Attributes) UnmarshalText(text []byte) error {
	var set Attributes
next:
	for name := range strings.SplitSeq(string(text), ",") {
		if name == "" {
			continue
		}
		for _, n := range attributeNames {
			if n.name == name {
				set |= n.flag
				continue next
			}
		}
		return fmt.Errorf("unknown mount attribute %q", name)
	}
	*a = set
	return nil
}

// UnmarshalText reads what [Propagation.MarshalText] writes.
func (p *Propagation) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Propagation{}
		return nil
	}
	parsed, ok := parsePropagation(string(text))
	if !ok {
		return fmt.Errorf("unknown mount propagation %q", text)
	}
	*p = parsed
	return nil
}
