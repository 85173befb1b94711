package seccompnotif

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xrash/smetrics"
	"golang.org/x/sys/unix"
)

//go:generate go run ./internal/gennames

// namedSyscall is an entry of syscallNames.
type namedSyscall struct {
	name string
	nr   int // absent if this architecture lacks the call
}

// absent is the number of a system call that only other architectures have.
const absent = -1

// SyscallNumber returns the number that the system call name has on this architecture. known is false for a name that no
// supported architecture has, present for one that this architecture lacks (arm64 has no open and no fork, for example).
func SyscallNumber(name string) (nr int, present, known bool) {
	i, found := slices.BinarySearchFunc(syscallNames[:], name, func(s namedSyscall, name string) int {
		return strings.Compare(s.name, name)
	})
	if !found {
		return absent, false, false
	}
	nr = syscallNames[i].nr
	return nr, nr != absent, true
}

// SyscallName returns the name of the system call nr, false if this architecture has none by this number.
func SyscallName(nr int) (string, bool) {
	if nr == absent {
		return "", false
	}
	for _, s := range syscallNames {
		if s.nr == nr {
			return s.name, true
		}
	}
	return "", false
}

// syscallLabel is a system call for people.
func syscallLabel(nr int) string {
	if name, ok := SyscallName(nr); ok {
		return name
	}
	return fmt.Sprintf("system call %d", nr)
}

func errnoLabel(e unix.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(e))
}

// UnknownSyscallError is a name that is neither a system call nor a group.
type UnknownSyscallError struct {
	Name    string
	Nearest string // the valid name that looks most like it; empty if none does
}

// Error says it in one line.
func (e *UnknownSyscallError) Error() string {
	if e.Nearest == "" {
		return fmt.Sprintf("unknown system call %q", e.Name)
	}
	return fmt.Sprintf("unknown system call %q: did you mean %q?", e.Name, e.Nearest)
}

// longestName bounds what is compared with the valid names: nothing longer can be a misspelling of one of them.
const longestName = 64

func unknownSyscall(name string) error {
	e := &UnknownSyscallError{Name: name}
	if len(name) > longestName {
		e.Name = name[:longestName] + "…"
		return e
	}
	best := 1 + len(name)/3 // a name that differs more is no misspelling
	consider := func(candidate string) {
		if d := smetrics.WagnerFischer(name, candidate, 1, 1, 1); d <= best && (d < best || e.Nearest == "") {
			best, e.Nearest = d, candidate
		}
	}
	for _, s := range syscallNames {
		consider(s.name)
	}
	for _, g := range groups {
		consider(groupMark + g.name)
	}
	return e
}
