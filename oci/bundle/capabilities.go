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

// checkCapabilities warns of unknown names, which the container goes without: the specification has it so, for a bundle may be
// written for a newer kernel than this one. To leave one out never gives the workload more.
func (v *validator) checkCapabilities(field string, sets *specs.LinuxCapabilities) {
	if sets == nil {
		return
	}
	var told []string
	for _, set := range []struct {
		name  string
		names []string
	}{
		{"bounding", sets.Bounding}, {"effective", sets.Effective}, {"inheritable", sets.Inheritable},
		{"permitted", sets.Permitted}, {"ambient", sets.Ambient},
	} {
		for i, name := range set.names {
			if _, known := Capability(name); !known && !slices.Contains(told, name) {
				told = append(told, name)
				v.warn(at(field+"."+set.name, i), "unknown capability %q: left out", name)
			}
		}
	}
}
