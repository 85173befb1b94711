package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Start lets the program of a created container run. It returns when it does.
func (r *Runtime) Start(id string) error {
	dir, record, status, err := r.open(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	switch status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	case specs.StateCreating:
		return errors.New("cannot start a container that is still being created")
	case state.StatePaused:
		return errors.New("cannot start a container in the paused state")
	default:
		return errors.New("cannot start an already running container")
	}
	ready, err := newNotifier(dir, os.Getpid())
	if err != nil {
		return err
	}
	defer ready.close()
	err = client(dir).Start()
	if errors.Is(err, state.ErrNoMonitor) {
		return fmt.Errorf("cannot start the container: its monitor (pid %d) is gone: delete it", record.Monitor.PID)
	}
	if err != nil || ready == nil {
		return err
	}
	init, err := openProcess(record.Init)
	if err != nil || init == nil {
		return err
	}
	go func() {
		monitor.Ended(init)
		ready.close()
	}()
	return ready.forward(record.Init.PID)
}

// client speaks to the monitor of the container in dir.
func client(dir *state.Dir) monitor.Client {
	return monitor.Client{Connect: func() (*net.UnixConn, error) { return dir.Dial(context.Background()) }}
}
