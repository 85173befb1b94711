package netfilter

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// identity is what /proc/TID/status tells of a task, see proc_pid_status(5). Ids are those of the reader's namespaces.
type identity struct {
	tgid      int
	nsTgid    int       // the process id in the task's own pid namespace
	uid, gid  [3]uint32 // real, effective, saved
	groups    []uint32
	effective uint64 // capabilities in force
	threads   int    // of the process
	pending   uint64 // signals waiting for the thread
	shared    uint64 // signals waiting for any thread of the process
	blocked   uint64
}

// parseStatus reads a task's status. Everything but the list of groups must be there.
func parseStatus(status []byte) (identity, error) {
	var id identity
	fields := []struct {
		name string
		read func(values [][]byte) error
		seen bool
	}{
		{name: "Tgid", read: func(v [][]byte) error { return number(v, 0, 10, &id.tgid) }},
		{name: "NStgid", read: func(v [][]byte) error { return number(v, len(v)-1, 10, &id.nsTgid) }},
		{name: "Uid", read: func(v [][]byte) error { return triple(v, &id.uid) }},
		{name: "Gid", read: func(v [][]byte) error { return triple(v, &id.gid) }},
		{name: "Groups", read: func(v [][]byte) error { return numbers(v, &id.groups) }},
		{name: "Threads", read: func(v [][]byte) error { return number(v, 0, 10, &id.threads) }},
		{name: "SigPnd", read: func(v [][]byte) error { return number(v, 0, 16, &id.pending) }},
		{name: "ShdPnd", read: func(v [][]byte) error { return number(v, 0, 16, &id.shared) }},
		{name: "SigBlk", read: func(v [][]byte) error { return number(v, 0, 16, &id.blocked) }},
		{name: "CapEff", read: func(v [][]byte) error { return number(v, 0, 16, &id.effective) }},
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		for i := range fields {
			if f := &fields[i]; f.name == string(name) {
				if err := f.read(bytes.Fields(value)); err != nil {
					return identity{}, fmt.Errorf("task status: %s: %w", name, err)
				}
				f.seen = true
			}
		}
	}
	for _, f := range fields {
		if !f.seen {
			return identity{}, fmt.Errorf("task status: %s is missing", f.name)
		}
	}
	return id, nil
}

func triple(values [][]byte, to *[3]uint32) error {
	for i := range to {
		if err := number(values, i, 10, &to[i]); err != nil {
			return err
		}
	}
	return nil
}

func numbers(values [][]byte, to *[]uint32) error {
	*to = make([]uint32, len(values))
	for i := range values {
		if err := number(values, i, 10, &(*to)[i]); err != nil {
			return err
		}
	}
	return nil
}

func number[T int | uint32 | uint64](values [][]byte, i, base int, to *T) error {
	if i < 0 || i >= len(values) {
		return errors.New("a number is missing")
	}
	n, err := strconv.ParseUint(string(values[i]), base, 64)
	if err != nil || uint64(T(n)) != n {
		return fmt.Errorf("%q is not a number", values[i])
	}
	*to = T(n)
	return nil
}

// deliverable returns the signals that wait for the thread alone, and those that wait for any thread of its process, without
// those that the thread blocks. Ignored signals never wait.
func (id *identity) deliverable() (own, shared uint64) {
	return id.pending &^ id.blocked, id.shared &^ id.blocked
}

// capabilities returns the capabilities in force the way capset(2) takes them.
func (id *identity) capabilities() [2]unix.CapUserData {
	low, high := uint32(id.effective), uint32(id.effective>>32)
	return [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
}

// idMap translates between the ids of a user namespace and those of its reader, see user_namespaces(7).
type idMap []struct{ inside, outside, count uint64 }

// parseIDMap reads /proc/PID/uid_map or gid_map.
func parseIDMap(text []byte) (idMap, error) {
	var m idMap
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		var n [3]uint64
		for i := range n {
			if err := number(fields, i, 10, &n[i]); err != nil {
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
