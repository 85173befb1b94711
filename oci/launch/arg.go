package launch

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	maxArgs   = 6 // a system call's registers
	maxErrnos = 4 // errors that one step may name
)

type argKind uint32

const (
	argValue     argKind = iota // the number itself
	argInherited                // a descriptor's number in the parent, the same in the child
	argSlot                     // what an earlier step returned
	argBuffer                   // the address of bytes that the program carries
	argVector                   // the address of a NULL-terminated array of strings
	argPointing                 // the address of {value, address of a buffer}, as struct sock_fprog and struct iovec have it
)

// Arg is one argument of a step.
type Arg struct {
	kind   argKind
	value  uint64
	data   *buffer
	vector []string
	text   string           // how it is printed, if not by its value
	print  func(Arg) string // how it is printed if there is no text: programs are built far more often than printed
}

// buffer has an identity: two steps that name the same buffer share its bytes in the child.
type buffer struct {
	bytes []byte
}

// FD is an argument that is a descriptor: inherited from the parent or returned by an earlier step.
type FD struct{ Arg }

// CWD stands for the child's working directory in the *at family of calls.
var CWD = FD{Arg{kind: argValue, value: atFDCWD, text: "AT_FDCWD"}}

// Inherited is a descriptor of the parent, named for people. The child inherits it under the same number.
func Inherited(fd int, name string) FD {
	return FD{Arg{kind: argInherited, value: uint64(fd), text: name}}
}

// Value is a plain number.
func Value(v uint64) Arg { return Arg{kind: argValue, value: v} }

// Flags is a number printed as text.
func Flags(v uint64, text string) Arg { return Arg{kind: argValue, value: v, text: text} }

// Null is a null pointer.
var Null = Arg{kind: argValue, text: "NULL"}

// Text is the address of s as a C string.
func Text(s string) Arg {
	terminated := make([]byte, len(s)+1)
	copy(terminated, s)
	return Arg{kind: argBuffer, data: &buffer{terminated}, print: printText}
}

func printText(a Arg) string { return strconv.Quote(string(a.data.bytes[:len(a.data.bytes)-1])) }

// named is a number printed by print.
func named(v uint64, print func(Arg) string) Arg { return Arg{kind: argValue, value: v, print: print} }

// printMode is for permission bits.
func printMode(a Arg) string { return fmt.Sprintf("%#o", a.value) }

// structure is the address of a copy of v, printed by print.
func structure[T any](v *T, print func(Arg) string) Arg {
	return Arg{kind: argBuffer, data: &buffer{append([]byte(nil), bytesOf(v)...)}, print: print}
}

// structureOf is what structure has copied.
func structureOf[T any](a Arg) T {
	var v T
	copy(bytesOf(&v), a.data.bytes)
	return v
}

// Bytes is the address of a copy of b in the child, printed as text. Steps that are given the same Arg share the copy.
func Bytes(b []byte, text string) Arg {
	return Arg{kind: argBuffer, data: &buffer{append([]byte(nil), b...)}, text: text}
}

// Strings is the address of a NULL-terminated array of C strings, as execve(2) takes it.
func Strings(list []string, text string) Arg {
	return Arg{kind: argVector, vector: list, text: text}
}

// pointing is the address of a structure of a number and a pointer to the bytes of buffer.
func pointing(n uint64, buffer Arg, text string) Arg {
	return Arg{kind: argPointing, value: n, data: buffer.data, text: text}
}

// String is the argument as a person would write it.
func (a Arg) String() string {
	if a.text == "" && a.print != nil {
		return a.print(a)
	}
	switch a.kind {
	case argInherited:
		return fmt.Sprintf("%s=%d", a.text, a.value)
	case argSlot, argBuffer, argPointing:
		return a.text
	case argVector:
		if a.text != "" {
			return a.text
		}
		return fmt.Sprintf("%q", a.vector)
	}
	if a.text != "" {
		return a.text
	}
	if int64(a.value) < 0 {
		return strconv.FormatInt(int64(a.value), 10)
	}
	return strconv.FormatUint(a.value, 10)
}

// atFDCWD is AT_FDCWD as a register holds it: sign-extended.
var atFDCWD = func() uint64 { v := int64(unix.AT_FDCWD); return uint64(v) }()
