package host

import (
	"encoding/json"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// Capabilities is a set of capabilities: bit n stands for the capability with number n in <linux/capability.h>.
type Capabilities uint64

// Has says whether a capability, one of unix.CAP_*, is in the set.
func (c Capabilities) Has(number int) bool { return c>>uint(number)&1 != 0 }

// names lists the set as CAP_SYS_ADMIN and the like, in order of number.
func (c Capabilities) names() []string {
	list := []string{}
	for _, one := range capability.ListKnown() {
		if c.Has(int(one)) {
			list = append(list, "CAP_"+strings.ToUpper(one.String()))
		}
	}
	return list
}

// MarshalJSON writes the set as an array of names.
func (c Capabilities) MarshalJSON() ([]byte, error) { return json.Marshal(c.names()) }

// OwnCapabilities are the calling thread's effective ones.
func OwnCapabilities() Capabilities { return effectiveCapabilities() }

// effectiveCapabilities reads the calling thread's effective set, see capget(2); empty if that fails.
func effectiveCapabilities() Capabilities {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 has 64 bits in two halves
	if unix.Capget(&header, &data[0]) != nil {
		return 0
	}
	return Capabilities(data[0].Effective) | Capabilities(data[1].Effective)<<32
}
