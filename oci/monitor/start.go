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
		_ = m.Signal(unix.SIGKILL)
		return err
	}
	// From here on the process is somebody's program: what says so must be on record before it can do anything.
	if err := m.request.Started(); err != nil {
		return err
	}
	defer func() {
		m.parked.Close()
		m.parked = nil
	}()
	if err := m.parked.Proceed(); err != nil {
		return fmt.Errorf("the container's init has ended before it was started: %w", err)
	}
	at, err := m.parked.Wait()
	if err != nil {
		return err
	}
	if at != launch.Done {
		return fmt.Errorf("the container's init stopped at an unexpected point (%d)", at)
	}
	if err := m.hooksAfterStart(); err != nil {
		_ = m.Signal(unix.SIGKILL)
		return err
	}
	return nil
}
