package seccompnotif

import "golang.org/x/sys/unix"

// Op is how a [Match] compares an argument.
type Op string

// The comparisons. All are unsigned.
const (
	Equal       Op = "==" // the argument is Value
	NotEqual    Op = "!=" // the argument is not Value
	MaskedEqual Op = "&=" // the argument's bits under Mask are Value
	AnyBit      Op = "&"  // at least one of the argument's bits under Mask is set
)

// Match is a condition on one argument register. What a pointer points to cannot be part of it: the filter sees registers.
type Match struct {
	Arg   int    // 0 to 5
	Op    Op     //
	Value uint64 // for Equal, NotEqual and MaskedEqual
	Mask  uint64 // for MaskedEqual and AnyBit
	// Wide compares all 64 bits. Without it only the lower 32 bits are looked at, which is right for every argument that
	// the kernel takes as an int: it ignores the upper half of the register, so a comparison that did not could be evaded.
	Wide bool
}

// Denial makes the kernel answer a system call with Errno, without asking anybody.
type Denial struct {
	Syscall string // name; one that this architecture lacks is left out
	Errno   unix.Errno
	When    []Match // all must hold; none = always
	Group   string  // the group of [Groups] it belongs to, if any; for printing and for Without
}

// Notification asks the supervisor about some of a system call's uses.
type Notification struct {
	Syscall string
	When    []Match // all must hold; none = always
}
