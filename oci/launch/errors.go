package launch

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// StepError is the failure of one step in the child.
type StepError struct {
	Index int        // of the step, as [Program.String] numbers them
	Call  string     // the system call's name
	About string     // what the step is part of, such as "mount /proc"
	Errno unix.Errno // 0 when the child was killed in this step
}

// Error is "mount /proc: fsmount: operation not permitted".
func (e *StepError) Error() string {
	what := e.Call
	if e.Call == "fail" || e.Call == "expect" || e.Call == "reached" {
		what = ""
	}
	if e.About != "" && what != "" {
		what = e.About + ": " + what
	} else if what == "" {
		what = e.About
	}
	if e.Errno == 0 {
		return fmt.Sprintf("%s: the launched process was killed", what)
	}
	return fmt.Sprintf("%s: %s", what, e.Errno.Error())
}

// Unwrap gives the errno to errors.Is.
func (e *StepError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func (p *Program) failure(at int, e unix.Errno) error {
	s := p.steps[at]
	return &StepError{Index: at, Call: s.name, About: s.about, Errno: e}
}
