package oci

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Kill sends a signal to the container's first process. In a container without a PID namespace of its own, SIGKILL goes to all
// processes, and so does every signal with all set; where there is such a namespace, the death of the first process is the death of
// all. SIGKILL ends a paused container too. A container that waits to be started is ended by what ends programs without handlers, as with runc.
//
// The error is [ErrNotRunning] when the first process has ended; with all set that is none.
func (r *Runtime) Kill(id string, signal unix.Signal, all bool) error {
	dir, record, status, err := r.open(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	group, err := loadCgroup(record)
	if err != nil {
		return err
	}
	if !ownPIDNamespace(record) && (all || signal == unix.SIGKILL) {
		err = group.SignalAll(signal)
		// Without a cgroup nobody knows which processes those are: the first one remains.
		if !errors.Is(err, cgroup.ErrAbsent) {
			return err
		}
	}
	sent := signal
	if !record.Started && ownPIDNamespace(record) && endsWaiting(signal) {
		sent = unix.SIGKILL
	}
	err = signalInit(record, status, sent)
	if errors.Is(err, ErrNotRunning) && all {
		return nil
	}
	if err != nil {
		return err
	}
	if signal == unix.SIGKILL && status == state.StatePaused {
		// In the freezer of cgroup v1 the signal waits.
		return group.Thaw()
	}
	return nil
}

// endsWaiting says whether a signal ends a process that waits to be started. The process has no handlers yet, and the kernel keeps from the first process of a PID
// namespace all signals that it has no handler for, see pid_namespaces(7). With runc it is a Go program that waits, which these end.
func endsWaiting(signal unix.Signal) bool {
	switch signal {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGTERM:
		return true
	}
	return false
}

// signalInit sends a signal to the container's first process, and never to another one that has its number by now.
func signalInit(record *state.Record, status specs.ContainerState, signal unix.Signal) error {
	if status == specs.StateStopped || status == specs.StateCreating {
		return ofContainer(ErrNotRunning, record.ID)
	}
	pidfd, err := openProcess(record.Init)
	if err != nil {
		return err
	}
	if pidfd == nil {
		return ofContainer(ErrNotRunning, record.ID)
	}
	defer pidfd.Close()
	err = unix.PidfdSendSignal(int(pidfd.Fd()), signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ofContainer(ErrNotRunning, record.ID)
	}
	if err != nil {
		return fmt.Errorf("unable to signal init: pidfd_send_signal: %w", err)
	}
	return nil
}

// ownPIDNamespace says whether the container was given a PID namespace of its own, in which its first process is init.
func ownPIDNamespace(record *state.Record) bool {
	return record.Namespaces[specs.PIDNamespace] == "/proc/"+strconv.Itoa(record.Init.PID)+"/ns/pid"
}
