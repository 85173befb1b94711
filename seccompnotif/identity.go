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
	TGIDs     []int     // the process id in each pid namespace that it is in, from the supervisor's to its own
	TIDs      []int     // the same of the thread id
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
	id, err := ParseIdentity(status)
	if err == nil && !c.Valid() {
		err = ErrGone
	}
	return id, err
}

// ParseIdentity reads the text of a task's status file. Everything must be there.
func ParseIdentity(status []byte) (Identity, error) {
	var id Identity
	fields := []struct {
		name string
		read func(values [][]byte) error
		seen bool
	}{
		{name: "Tgid", read: func(v [][]byte) error { return parseNumber(v, 0, 10, &id.TGID) }},
		{name: "NStgid", read: func(v [][]byte) error { return parseNumbers(v, &id.TGIDs) }},
		{name: "NSpid", read: func(v [][]byte) error { return parseNumbers(v, &id.TIDs) }},
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
	if len(id.TGIDs) == 0 || len(id.TIDs) != len(id.TGIDs) {
		return Identity{}, errors.New("task status: NStgid and NSpid do not go together")
	}
	id.NSTGID = id.TGIDs[len(id.TGIDs)-1]
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

func parseNumbers[T int | uint32](values [][]byte, to *[]T) error {
	*to = make([]T, len(values))
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
