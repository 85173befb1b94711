package chroot

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// withoutRemounts lays each remount over the mount before it that has the same destination, as mount(8) does with the options of both; a
// mount that has been used up like that is nil. So there is one mount, which becomes read-only when everything in it is made, and none of
// the host's filesystems can be changed by a remount of a bind.
func withoutRemounts(list []specs.Mount) ([]*specs.Mount, error) {
	out := make([]*specs.Mount, len(list))
	for i := range list {
		if !isRemount(list[i]) {
			out[i] = &list[i]
			continue
		}
		before := -1
		for j := range i {
			if out[j] != nil && rooted(out[j].Destination) == rooted(list[i].Destination) {
				before = j
			}
		}
		if before < 0 {
			return nil, fmt.Errorf("mounts[%d] %s: remount, but no mount before it has that destination", i, list[i].Destination)
		}
		merged := *out[before]
		added := slices.DeleteFunc(slices.Clone(list[i].Options), func(option string) bool { return option == "remount" })
		merged.Options = slices.Concat(merged.Options, added)
		out[before] = &merged
	}
	return out, nil
}

// isRemount tells a remount from a mount. A bind with that option is one of the bind's own options, and made with it.
func isRemount(m specs.Mount) bool {
	has := func(option string) bool { return slices.Contains(m.Options, option) }
	return has("remount") && m.Type != "bind" && !has("bind") && !has("rbind")
}
