package seccompnotif

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// idMap translates between the ids of a user namespace and those of its reader, see user_namespaces(7).
type idMap []struct{ inside, outside, count uint64 }

// parseIDMap reads /proc/PID/uid_map or gid_map.
func parseIDMap(text []byte) (idMap, error) {
	var m idMap
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		var n [3]uint64
		for i := range n {
			if err := parseNumber(fields, i, 10, &n[i]); err != nil {
				return nil, fmt.Errorf("id map: %w", err)
			}
		}
		m = append(m, struct{ inside, outside, count uint64 }{n[0], n[1], n[2]})
	}
	return m, nil
}

// outside returns the reader's id for an id inside.
func (m idMap) outside(id uint32) (uint32, bool) {
	for _, r := range m {
		if n := uint64(id); n >= r.inside && n-r.inside < r.count {
			return uint32(r.outside + n - r.inside), true
		}
	}
	return 0, false
}

// OutsideIDs translates a user and a group that the caller names by the ids of its user namespace to the supervisor's ids. EINVAL,
// which the kernel answers too, is an id that is not mapped.
func (h *Host) OutsideIDs(c *Call, uid, gid uint32) (_, _ uint32, err error) {
	for _, m := range []struct {
		name string
		id   *uint32
	}{{"uid_map", &uid}, {"gid_map", &gid}} {
		text, err := h.ReadProc(c.PID(), m.name)
		if err != nil {
			return 0, 0, err
		}
		ids, err := parseIDMap(text)
		if err != nil {
			return 0, 0, err
		}
		mapped, ok := ids.outside(*m.id)
		if !ok {
			return 0, 0, unix.EINVAL
		}
		*m.id = mapped
	}
	return uid, gid, nil
}
