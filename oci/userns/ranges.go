package userns

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// span is a range of ids, the last one included.
type span struct{ first, last uint64 }

// same are the host's ids in mappings, and own, as ranges that do not overlap: they are to be mapped to themselves.
func same(mappings []specs.LinuxIDMapping, own int) []span {
	all := []span{{uint64(own), uint64(own)}}
	for _, m := range mappings {
		if m.Size > 0 {
			all = append(all, span{uint64(m.HostID), uint64(m.HostID) + uint64(m.Size) - 1})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	merged := all[:1]
	for _, s := range all[1:] {
		// Neighbours stay apart: newuidmap(1) takes a range only if it lies in a single entry of /etc/subuid, or is the own id alone.
		if last := &merged[len(merged)-1]; s.first <= last.last {
			last.last = max(last.last, s.last)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// arguments are what newuidmap(1) wants: container, host, size.
func arguments(spans []span) []string {
	var list []string
	for _, s := range spans {
		first := strconv.FormatUint(s.first, 10)
		list = append(list, first, first, strconv.FormatUint(s.last-s.first+1, 10))
	}
	return list
}
