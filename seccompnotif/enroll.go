package seccompnotif

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TraceError says that a process may not be traced by the supervisor.
type TraceError struct {
	PID int
	Err error // EACCES or EPERM
}

// Error says it in one line.
func (e *TraceError) Error() string {
	return fmt.Sprintf("process %d may not be traced (ptrace(2), \"ptrace access mode\"): %v", e.PID, e.Err)
}

// Unwrap returns Err.
func (e *TraceError) Unwrap() error { return e.Err }

// Enroll puts the process pid into the index: one that comes under supervision from outside, and has not made a notified call
// yet. The caller sees to it that the process does not go away meanwhile, say because it is its child or is parked.
//
// Under [TableBuilder.TrackCreation] the error is a [TraceError] if the supervisor has no right to trace the process: then none
// of its fork-like calls and execves would be let through.
func (s *Supervisor) Enroll(pid int) (*Process, error) {
	p, err := s.index.enroll(pid)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	if s.tracer != nil {
		if err := checkTraceable(pid); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// checkTraceable asks the kernel the question that attaching asks: a process's memory opens for those who may attach to it.
func checkTraceable(pid int) error {
	file, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	switch {
	case err == nil:
		return file.Close()
	case os.IsPermission(err):
		return &TraceError{PID: pid, Err: unix.EPERM}
	}
	return fmt.Errorf("process %d: %w", pid, err)
}

// Processes returns every process in the index, in no order. Some may have exited a moment ago.
func (s *Supervisor) Processes() []*Process { return s.index.list() }
