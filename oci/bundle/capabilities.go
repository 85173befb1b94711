package bundle

import (
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// capabilityPrefix stands before the names of capabilities(7) in a spec, which
// are in capitals.
const capabilityPrefix = "CAP_"

// capabilities is made at first use: most verbs need none.
var capabilities = sync.OnceValue(func() map[string]capability.Cap {
	known := capability.ListKnown()
	names := make(map[string]capability.Cap, len(known))
	for _, c := range known {
		names[capabilityPrefix+strings.ToUpper(c.String())] = c
	}
	return names
})

// Capability returns the number of a capability as a spec names it, such as
// "CAP_NET_ADMIN", and whether the name is known. The running kernel may know
// fewer.
func Capability(name string) (c capability.Cap, known bool) {
	c, known = capabilities()[name]
	return c, known
}

// checkCapabilities warns of unknown names once each, as runc does: a newer
// engine on an older runtime is no reason to fail, and a set that lacks a
// capability only confines more.
func (v *validator) checkCapabilities(field string, sets *specs.LinuxCapabilities) {
	if sets == nil {
		return
	}
	var unknown []string
	for _, set := range [][]string{sets.Bounding, sets.Effective, sets.Inheritable, sets.Permitted, sets.Ambient} {
		for _, name := range set {
			if _, known := Capability(name); !known && !slices.Contains(unknown, name) {
				unknown = append(unknown, name)
			}
		}
	}
	for _, name := range unknown {
		v.warn(field, "unknown capability %q is ignored", name)
	}
}
