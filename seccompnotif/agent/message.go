package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Version is the version of the protocol. There is no other yet.
const Version = 1

// The values of every message's member "type".
const (
	typeHello   = "hello"
	typeEvent   = "event"
	typeVerdict = "verdict"
	typeChange  = "change"
	typeChanged = "changed"
)

// greeting is the first message, from the supervisor.
type greeting struct {
	Type      string `json:"type"`
	Version   int    `json:"version"`
	Container string `json:"container"`
}

// Hello is the agent's answer to the greeting: what it wants to be asked about and told of. If it names neither categories nor
// system calls, that is everything. Of the calls that execute programs, and of those that make processes, it gets all or none.
type Hello struct {
	Type       string                  `json:"type"`
	Version    int                     `json:"version"`
	Categories []seccompnotif.Category `json:"categories,omitempty"`
	Syscalls   []string                `json:"syscalls,omitempty"`
	// Argv says whether it wants the arguments of programs that are executed, which takes stopping the whole container each time.
	// Not given means that it does.
	Argv *bool `json:"argv,omitempty"`
	// DenyPaths says whether it may want to deny paths, which takes trapping every call that opens, executes or changes a file. Not
	// given means that it does if it wants everything.
	DenyPaths *bool `json:"deny_paths,omitempty"`
}

// families are calls that are of use only together.
var families = [][]string{{"execve", "execveat"}, {"clone", "fork", "vfork"}}

// named tells whether the agent names a call, or one of its family.
func (h Hello) named(call string) bool {
	for _, family := range families {
		if slices.Contains(family, call) {
			return slices.ContainsFunc(family, func(name string) bool { return slices.Contains(h.Syscalls, name) })
		}
	}
	return slices.Contains(h.Syscalls, call)
}

// wanted returns the names of the system calls that the agent asks for.
func (h Hello) wanted() ([]string, error) {
	all := h.Categories == nil && h.Syscalls == nil
	of := map[seccompnotif.Category]bool{}
	for _, c := range h.Categories {
		of[c] = true
	}
	var names []string
	known := map[seccompnotif.Category]bool{}
	for _, call := range seccompnotif.EventCalls() {
		known[call.Category] = true
		if all || of[call.Category] || h.named(call.Name) {
			names = append(names, call.Name)
		}
	}
	for _, c := range h.Categories {
		if !known[c] {
			return nil, fmt.Errorf("hello: no category %q", c)
		}
	}
	for _, name := range h.Syscalls {
		if _, ok := seccompnotif.FindEventCall(name); !ok {
			return nil, fmt.Errorf("hello: %q makes no events", name)
		}
	}
	return names, nil
}

// event is a [seccompnotif.Event] on its way to the agent.
type event struct {
	Type           string                `json:"type"`
	ID             uint64                `json:"id"`
	Time           time.Time             `json:"time"`
	Syscall        string                `json:"syscall"`
	Category       seccompnotif.Category `json:"category"`
	Held           bool                  `json:"held"`
	Denied         bool                  `json:"denied"`
	PID            int                   `json:"pid"`
	Thread         int                   `json:"thread"`
	ParentPID      int                   `json:"ppid"`
	StartTime      uint64                `json:"start_time"`
	GuestPID       int                   `json:"guest_pid"`
	GuestParentPID int                   `json:"guest_ppid"`
	Protocol       string                `json:"protocol,omitempty"`
	Addr           string                `json:"addr,omitempty"`
	Port           *uint16               `json:"port,omitempty"`
	Size           uint64                `json:"size,omitempty"`
	Flags          uint32                `json:"flags,omitempty"`
	Argv           []string              `json:"argv,omitempty"`
	ArgvRaw        [][]byte              `json:"argv_raw,omitempty"`
	ArgvTotal      int                   `json:"argv_total,omitempty"`
	ArgvCut        bool                  `json:"argv_cut,omitempty"`
	Dropped        uint64                `json:"dropped,omitempty"`
}

// encodeEvent returns the line for an event.
func encodeEvent(e seccompnotif.Event) ([]byte, error) {
	m := event{
		Type: typeEvent, ID: e.ID, Time: e.Time.UTC(), Syscall: e.Syscall, Category: e.Category, Held: e.Held, Denied: e.Denied,
		PID: e.PID, Thread: e.Thread, ParentPID: e.ParentPID, StartTime: e.StartTime, GuestPID: e.GuestPID, GuestParentPID: e.GuestParentPID,
		Protocol: e.Protocol, Size: e.Size, Flags: e.Flags, Dropped: e.Dropped,
	}
	if e.Addr.IsValid() {
		port := e.Addr.Port()
		m.Addr, m.Port = e.Addr.Addr().String(), &port
	}
	if a := e.Argv; a != nil {
		m.Argv, m.ArgvTotal, m.ArgvCut = a.Args, a.Total, a.Cut
		if !slices.ContainsFunc(a.Args, func(s string) bool { return !utf8.ValidString(s) }) {
			return encode(m)
		}
		// JSON has no words for these: they are told in full beside.
		for _, arg := range a.Args {
			m.ArgvRaw = append(m.ArgvRaw, []byte(arg))
		}
	}
	return encode(m)
}

// verdict is the agent's answer to an event.
type verdict struct {
	Type    string `json:"type"`
	ID      uint64 `json:"id"`
	Verdict string `json:"verdict"`         // allow, deny or audit
	Errno   string `json:"errno,omitempty"` // of deny: a name such as EACCES
}

// parse returns the verdict that is meant.
func (v verdict) parse() (seccompnotif.Verdict, error) {
	switch {
	case v.Verdict == "allow" && v.Errno == "":
		return seccompnotif.Verdict{Decision: seccompnotif.Allow}, nil
	case v.Verdict == "audit" && v.Errno == "":
		return seccompnotif.Verdict{Decision: seccompnotif.Audit}, nil
	case v.Verdict == "deny" && v.Errno == "":
		return seccompnotif.Verdict{Errno: unix.EPERM}, nil
	case v.Verdict == "deny":
		errno := errnoNamed(v.Errno)
		if errno == 0 {
			return seccompnotif.Verdict{}, fmt.Errorf("no errno is called %q", v.Errno)
		}
		return seccompnotif.Verdict{Errno: errno}, nil
	case v.Errno != "":
		return seccompnotif.Verdict{}, fmt.Errorf("verdict %q with an errno", v.Verdict)
	}
	return seccompnotif.Verdict{}, fmt.Errorf("no verdict is called %q", v.Verdict)
}

// highestErrno is more than any errno of <asm-generic/errno.h>.
const highestErrno = 200

func errnoNamed(name string) unix.Errno {
	for e := unix.Errno(1); e < highestErrno; e++ {
		if unix.ErrnoName(e) == name {
			return e
		}
	}
	return 0
}

// changed tells the agent what has become of a change.
type changed struct {
	Type  string `json:"type"`
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"`
}

// encode returns v as a line.
func encode(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(line, '\n'), nil
}

// decode reads a whole line into v; what v has no member for is an error.
func decode(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value in a line")
	}
	return nil
}

// decodeLoosely reads what v has members for.
func decodeLoosely(line []byte, v any) error { return json.Unmarshal(line, v) }

// typeOf returns what a line says it is.
func typeOf(line []byte) (string, error) {
	var m struct {
		Type string `json:"type"`
	}
	err := decodeLoosely(line, &m)
	return m.Type, err
}
