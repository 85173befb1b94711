package seccompnotif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// MaxArgs is how many of an execve's arguments an [Argv] holds.
	MaxArgs = 64
	// MaxArgBytes is how much of each it holds.
	MaxArgBytes = 256
)

// Argv is the arguments that an execve(2) is about to hand to a program, as the kernel will read them.
type Argv struct {
	Args  []string // the first MaxArgs, and of each at most MaxArgBytes bytes
	Total int      // how many there are
	Cut   bool     // arguments were left out or cut
	cut   uint64   // bit i: Args[i] is only the beginning
}

// Truncated tells whether Args[i] is only the beginning of that argument.
func (a Argv) Truncated(i int) bool { return a.cut&(1<<i) != 0 }

func (a *Argv) add(arg []byte) {
	if len(arg) > MaxArgBytes {
		arg = arg[:MaxArgBytes]
		a.cut |= 1 << len(a.Args)
		a.Cut = true
	}
	a.Total++
	a.Args = append(a.Args, string(arg))
}

// argvAddress is the argument of the call that points to the argument vector.
func argvAddress(n *rawNotification) uint64 {
	if n.data.nr == unix.SYS_EXECVEAT {
		return n.data.args[2]
	}
	return n.data.args[1]
}

// The kernel takes no more strings than fit into three quarters of _STK_LIM, <linux/resource.h>, together with a pointer for
// each.
const (
	pointerSize    = 8
	mostArguments  = 6 << 20 / pointerSize
	pointersAtOnce = smallestPage / pointerSize
)

// readArgv reads the argument vector of the caller. An error is an errno that the kernel would answer as well.
func readArgv(addr uint64, read func(at uint64, into []byte) error) (Argv, error) {
	var a Argv
	if addr == 0 { // Linux takes that for an empty vector
		return a, nil
	}
	var page [smallestPage]byte
	var pointers [smallestPage]byte
	for {
		// Not beyond the end of the page, where memory may end.
		n := min(pointersAtOnce, max(1, int((smallestPage-addr%smallestPage)/pointerSize)))
		chunk := pointers[:n*pointerSize]
		if err := read(addr, chunk); err != nil {
			return Argv{}, err
		}
		for ; len(chunk) > 0; chunk = chunk[pointerSize:] {
			at := binary.NativeEndian.Uint64(chunk)
			if at == 0 {
				return a, nil
			}
			if a.Total >= mostArguments {
				return Argv{}, unix.E2BIG
			}
			if a.Total >= MaxArgs {
				a.Total++
				a.Cut = true
				continue
			}
			arg, err := readBeginning(at, MaxArgBytes+1, &page, read)
			if err != nil {
				return Argv{}, err
			}
			a.add(arg)
		}
		addr += uint64(n * pointerSize)
	}
}

// readBeginning reads the string at addr, or limit bytes of it if it has no end before.
func readBeginning(addr uint64, limit int, page *[smallestPage]byte, read func(at uint64, into []byte) error) ([]byte, error) {
	s, err := readString(addr, limit, page, read)
	if !errors.Is(err, unix.ENAMETOOLONG) {
		return []byte(s), err
	}
	// It is there, since it has been read, and nothing can change it.
	b := make([]byte, limit)
	for done := 0; done < limit; {
		stretch := b[done:min(limit, done+smallestPage-int((addr+uint64(done))%smallestPage))]
		if err := read(addr+uint64(done), stretch); err != nil {
			return nil, err
		}
		done += len(stretch)
	}
	return b, nil
}

// program is what an execve was judged by.
type program struct {
	path string // the kernel's name for the file, execveat's descriptor included
	argv Argv
}

// readProgram reads what the call is about to hand over.
func readProgram(n *rawNotification, read func(at uint64, into []byte) error) (program, error) {
	var p program
	var page [smallestPage]byte
	fd, at := int32(unix.AT_FDCWD), n.data.args[0]
	if n.data.nr == unix.SYS_EXECVEAT {
		fd, at = int32(n.data.args[0]), n.data.args[1]
	}
	path, err := readString(at, unix.PathMax, &page, read)
	if err != nil {
		return p, err
	}
	switch { // as alloc_bprm of fs/exec.c does
	case fd == unix.AT_FDCWD || strings.HasPrefix(path, "/"):
		p.path = path
	case path == "":
		p.path = fmt.Sprintf("/dev/fd/%d", fd)
	default:
		p.path = fmt.Sprintf("/dev/fd/%d/%s", fd, path)
	}
	p.argv, err = readArgv(argvAddress(n), read)
	return p, err
}

// became tells whether the arguments that a program has are those that p was to get.
//
// Of a script the kernel drops the first argument and puts the interpreter, its argument, and the script's path before the others,
// several times over if the interpreter is a script too; so does binfmt_misc, which may also keep the first argument.
func (p program) became(has *argScanner) bool {
	a := p.argv
	if a.Total == 0 { // the kernel makes it an empty string
		a = Argv{Args: []string{""}, Total: 1}
	}
	before := has.total - a.Total
	if before < 0 {
		return false
	}
	for i := 1; i < len(a.Args); i++ {
		if has.at(before+i) != (argSeen{a.Args[i], a.Truncated(i)}) {
			return false
		}
	}
	path := argSeen{p.path[:min(len(p.path), MaxArgBytes)], len(p.path) > MaxArgBytes}
	first := has.at(before) == argSeen{a.Args[0], a.Truncated(0)}
	if before == 0 {
		return first
	}
	return has.at(before) == path || first && has.at(before-1) == path
}

// argSeen is the beginning of an argument.
type argSeen struct {
	text string
	cut  bool
}

// maxArgsBefore is how many arguments more than it was given a program can have: two for each of the interpreters, of which the
// kernel goes through five and no more.
const maxArgsBefore = 16

// argScanner takes a program's arguments apart, which follow each other in memory, each with its NUL.
type argScanner struct {
	seen    []argSeen // the first ones
	total   int
	current []byte
}

func (s *argScanner) at(i int) argSeen {
	if i >= len(s.seen) {
		return argSeen{cut: true} // a mark of something that is never looked for: an empty argument is whole
	}
	return s.seen[i]
}

// write takes the next stretch.
func (s *argScanner) write(b []byte) {
	for _, c := range b {
		if c != 0 {
			if len(s.current) <= MaxArgBytes {
				s.current = append(s.current, c)
			}
			continue
		}
		if len(s.seen) < MaxArgs+maxArgsBefore {
			s.seen = append(s.seen, argSeen{string(s.current[:min(len(s.current), MaxArgBytes)]), len(s.current) > MaxArgBytes})
		}
		s.total++
		s.current = s.current[:0]
	}
}
