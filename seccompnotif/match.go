package seccompnotif

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Op is how a [Match] compares an argument.
type Op string

// The comparisons.
const (
	Equal       Op = "=="       // the argument is Value
	NotEqual    Op = "!="       // the argument is not Value
	MaskedEqual Op = "masked==" // the argument's bits under Mask are Value
	AnyBit      Op = "anybit"   // at least one of the argument's bits under Mask is set
)

// Match is a condition on one argument register. What a pointer points to cannot be part of it: the filter sees registers.
type Match struct {
	Arg   int    `json:"arg"` // 0 to 5
	Op    Op     `json:"op"`
	Value uint64 `json:"value,omitempty"` // for Equal, NotEqual and MaskedEqual
	Mask  uint64 `json:"mask,omitempty"`  // for MaskedEqual and AnyBit
	// Wide compares all 64 bits. Without it only the lower 32 bits are looked at, which is right for every argument that
	// the kernel takes as an int: it ignores the upper half of the register, so a comparison that did not could be evaded.
	Wide bool `json:"wide,omitempty"`
}

// Denial makes the kernel answer a system call with Errno, without asking anybody.
type Denial struct {
	Syscall string     // name; one that this architecture lacks is left out
	Errno   unix.Errno // 1 to 4095
	When    []Match    // all must hold; none = always
	Group   string     // the group it belongs to, if any; for printing and for [Without]
}

// Notification asks the supervisor about some of a system call's uses.
type Notification struct {
	Syscall string  `json:"syscall"`
	When    []Match `json:"when,omitempty"` // all must hold; none = always
}

// lastArg is the number of a system call's last argument.
const lastArg = 5

func checkMatches(when []Match) error {
	seen := len(when)
	if seen > 2*(lastArg+1) {
		return fmt.Errorf("%d conditions in one rule are too many", seen)
	}
	for _, m := range when {
		switch {
		case m.Arg < 0 || m.Arg > lastArg:
			return fmt.Errorf("argument %d is not in 0 to %d", m.Arg, lastArg)
		case !m.Wide && (m.Value|m.Mask)>>32 != 0:
			return fmt.Errorf("a condition on argument %d has more than 32 bits and is not wide", m.Arg)
		}
		switch m.Op {
		case Equal, NotEqual:
		case MaskedEqual:
			if m.Value&^m.Mask != 0 {
				return fmt.Errorf("the condition on argument %d can never hold: %#x has bits outside of mask %#x", m.Arg, m.Value, m.Mask)
			}
		case AnyBit:
			if m.Mask == 0 {
				return fmt.Errorf("the condition on argument %d can never hold: its mask is empty", m.Arg)
			}
		default:
			return fmt.Errorf("unknown comparison %q", string(m.Op))
		}
	}
	return nil
}

// String writes the condition as an expression of C.
func (m Match) String() string {
	arg := fmt.Sprintf("arg%d", m.Arg)
	if m.Wide {
		arg += ":64"
	}
	switch m.Op {
	case MaskedEqual:
		return fmt.Sprintf("%s & %#x == %#x", arg, m.Mask, m.Value)
	case AnyBit:
		return fmt.Sprintf("%s & %#x != 0", arg, m.Mask)
	}
	return fmt.Sprintf("%s %s %#x", arg, m.Op, m.Value)
}
