package seccompnotif

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Identity is what /proc/TID/status tells of a task, see proc_pid_status(5). Ids are those of the supervisor's namespaces.
type Identity struct {
	TGID      int
	NSTGID    int       // the process id in the task's own pid namespace
	UID, GID  [4]uint32 // real, effective, saved, file system
	Groups    []uint32
	Umask     uint32 // the mode bits that files it makes do not get
	Effective uint64 // capabilities in force
	Threads   int    // of the process
	Pending   uint64 // signals waiting for the thread
	Shared    uint64 // signals waiting for any thread of the process
	Blocked   uint64 // signals that the thread blocks
}

// Identity returns who makes the call.
func (h *Host) Identity(c *Call) (Identity, error) {
	status, err := h.ReadProc(c.PID(), "status")
	if err != nil {
		return Identity{}, err
	}
	id, err := parseStatus(status)
	if err == nil && !c.Valid() {
		err = ErrGone
	}
	return id, err
}

// parseStatus reads a task's status. Everything but the list of groups must be there.
func parseStatus(status []byte) (Identity, error) {
	var id Identity
	fields := []struct {
		name string
		read func(values [][]byte) error
		seen bool
	}{
		{name: "Tgid", read: func(v [][]byte) error { return parseNumber(v, 0, 10, &id.TGID) }},
		{name: "NStgid", read: func(v [][]byte) error { return parseNumber(v, len(v)-1, 10, &id.NSTGID) }},
		{name: "Uid", read: func(v [][]byte) error { return parseFour(v, &id.UID) }},
		{name: "Gid", read: func(v [][]byte) error { return parseFour(v, &id.GID) }},
		{name: "Umask", read: func(v [][]byte) error { return parseNumber(v, 0, 8, &id.Umask) }},
		{name: "Groups", read: func(v [][]byte) error { return parseNumbers(v, &id.Groups) }},
		{name: "Threads", read: func(v [][]byte) error { return parseNumber(v, 0, 10, &id.Threads) }},
		{name: "SigPnd", read: func(v [][]byte) error { return parseNumber(v, 0, 16, &id.Pending) }},
		{name: "ShdPnd", read: func(v [][]byte) error { return parseNumber(v, 0, 16, &id.Shared) }},
		{name: "SigBlk", read: func(v [][]byte) error { return parseNumber(v, 0, 16, &id.Blocked) }},
		{name: "CapEff", read: func(v [][]byte) error { return parseNumber(v, 0, 16, &id.Effective) }},
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		for i := range fields {
			if f := &fields[i]; f.name == string(name) {
				if err := f.read(bytes.Fields(value)); err != nil {
					return Identity{}, fmt.Errorf("task status: %s: %w", name, err)
				}
				f.seen = true
			}
		}
	}
	for _, f := range fields {
		if !f.seen {
			return Identity{}, fmt.Errorf("task status: %s is missing", f.name)
		}
	}
	return id, nil
}

func parseFour(values [][]byte, to *[4]uint32) error {
	for i := range to {
		if err := parseNumber(values, i, 10, &to[i]); err != nil {
			return err
		}
	}
	return nil
}

func parseNumbers(values [][]byte, to *[]uint32) error {
	*to = make([]uint32, len(values))
	for i := range values {
		if err := parseNumber(values, i, 10, &(*to)[i]); err != nil {
			return err
		}
	}
	return nil
}

func parseNumber[T int | uint32 | uint64](values [][]byte, i, base int, to *T) error {
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

// Deliverable returns the signals that wait for the thread alone, and those that wait for any thread of its process, without
// those that the thread blocks. Ignored signals never wait.
func (id *Identity) Deliverable() (own, shared uint64) {
	return id.Pending &^ id.Blocked, id.Shared &^ id.Blocked
}

// capabilities returns the capabilities in force the way capset(2) takes them.
func (id *Identity) capabilities() [2]unix.CapUserData {
	low, high := uint32(id.Effective), uint32(id.Effective>>32)
	return [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
}
