package monitor

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// ErrStarted means that the container has been started before.
var ErrStarted = errors.New("cannot start a container that has been started")

// Start lets the first process run its program. It returns when that has happened, or why it could not; then the process is gone.
func (m *Monitor) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return ErrStarted
	}
	m.started = true
	if err := m.hooksBeforeStart(); err != nil {
		// As the runtime specification has it, a container whose hooks fail is stopped.
		_ = m.Signal(unix.SIGKILL) // it is the monitor's to signal, and the hook's error is what is told
		return err
	}
	// From here on the process is somebody's program: what says so must be on record before it can do anything.
	if err := m.request.Started(); err != nil {
		return err
	}
	if err := m.proceed(); err != nil {
		return err
	}
	if err := m.hooksAfterStart(); err != nil {
		_ = m.Signal(unix.SIGKILL) // as above
		return err
	}
	return nil
}

// proceed has the parked process run its program. Where the agent of linux.seccomp may have a say in that, nobody waits for it: the agent may well be
// whoever waits for the start.
func (m *Monitor) proceed() error {
	child := m.parked
	m.parked = nil
	if err := child.Proceed(); err != nil {
		child.Close()
		return fmt.Errorf("the container's init has ended before it was started: %w", err)
	}
	if m.request.Plan.SpecNotifies() {
		go func() {
			if err := executed(child); err != nil {
				m.request.Log.Error(err)
			}
		}()
		return nil
	}
	return executed(child)
}

// executed waits until the child has become its program, and lets go of it.
func executed(child *launch.Child) error {
	defer child.Close()
	at, err := child.Wait()
	if err != nil {
		return err
	}
	if at != launch.Done {
		return fmt.Errorf("the container's init stopped at an unexpected point (%d)", at)
	}
	return nil
}
