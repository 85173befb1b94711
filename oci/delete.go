package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/hooks"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

const (
	// lockWait is how long a delete waits for another verb that changes the container.
	lockWait = 10 * time.Second
	// endWait is how long a process that has been killed may take to be gone.
	endWait = 10 * time.Second
)

// Delete removes a container that has stopped, or was never started. With force it ends one that runs, and clears whatever a crash has
// left; that there is no such container is no error then.
func (r *Runtime) Delete(id string, force bool) error {
	dir, err := state.Open(r.Root, id)
	if errors.Is(err, state.ErrNotExist) && force {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	unlock, err := dir.Lock(ctx)
	if errors.Is(err, state.ErrNotExist) && force {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }() // the directory is gone by then
	record, err := dir.Load()
	if errors.Is(err, state.ErrNoRecord) {
		if !force {
			return err
		}
		// Nothing was made yet that would have to be recorded.
		return dir.Remove()
	}
	if err != nil {
		return err
	}
	return r.remove(dir, record, force)
}

func (r *Runtime) remove(dir *state.Dir, record *state.Record, force bool) error {
	group, status, err := loadStatus(record)
	if err != nil {
		return err
	}
	switch {
	case status == specs.StateStopped, status == specs.StateCreated, force:
	default:
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", record.ID, status)
	}
	// Without it a run in the foreground would wait for this delete with removing the container, and this delete for the run.
	if err := dir.MarkDeleting(); err != nil && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	if status == specs.StateCreating {
		// Its creator is at work. The child that it is making dies with it; but it may have come further than the record says.
		if err := end(record.Monitor); err != nil {
			return fmt.Errorf("monitor: %w", err)
		}
		if record, err = dir.Load(); err != nil {
			return err
		}
	}
	if status == state.StatePaused {
		// The frozen die when they are thawed (cgroup v1), and this kills them first.
		if err := group.SignalAll(unix.SIGKILL); err != nil && !errors.Is(err, cgroup.ErrAbsent) {
			return err
		}
	}
	if err := end(record.Init); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := endRest(group); err != nil {
		return err
	}
	if err := waitMonitor(record.Monitor); err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	if err := destroy(group); err != nil {
		return err
	}
	r.poststop(dir, record)
	return dir.Remove()
}

// endRest kills what shared no PID namespace of its own with init and is still there. Mostly nobody is, and then nobody is frozen for it; who hides from one look by moving
// about between cgroups is seen by destroy.
func endRest(group *cgroup.Manager) error {
	if pids, err := group.PIDs(); err == nil && len(pids) == 0 {
		return nil
	}
	if err := group.SignalAll(unix.SIGKILL); err != nil && !errors.Is(err, cgroup.ErrAbsent) {
		return err
	}
	return nil
}

// destroy removes the cgroup of a container whose processes have all been killed. On a busy machine it takes the killed a while to be gone. And the child that a
// killed creator was making may enter one hierarchy after the other still, before it finds that it is alone and ends: of the first ones, nobody who looks for
// processes in another knows, so that no error of the removal is final before the time is over.
func destroy(group *cgroup.Manager) error {
	for deadline := time.Now().Add(endWait); ; {
		err := group.Destroy() // which itself waits for processes to be gone
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := group.SignalAll(unix.SIGKILL); err != nil && !errors.Is(err, cgroup.ErrAbsent) {
			return err
		}
	}
}

// poststop runs the poststop hooks; what they say is for the log.
func (r *Runtime) poststop(dir *state.Dir, record *state.Record) {
	list, err := loadHooks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return // the creation did not get that far
	}
	if err != nil {
		r.Log.Warn(err)
		return
	}
	r.runPoststop(list, record)
}

func (r *Runtime) runPoststop(all *specs.Hooks, record *state.Record) {
	list := hooks.Poststop.Of(all)
	if len(list) == 0 {
		return
	}
	if err := closeInherited(); err != nil {
		r.Log.Warn(err)
	}
	if err := hooks.Run(context.Background(), hooks.Poststop, list, record.OCIState(specs.StateStopped)); err != nil {
		r.Log.Warn(err)
	}
}

// end kills a process and waits until it is gone, or a zombie that waits for its parent.
func end(p state.Process) error {
	pidfd, err := openProcess(p)
	if err != nil || pidfd == nil {
		return err
	}
	defer pidfd.Close()
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill: %w", err)
	}
	return waitEnd(pidfd)
}

// waitMonitor waits for the monitor to finish what it has to do once, and ends it if it does not come to an end.
func waitMonitor(p state.Process) error {
	pidfd, err := openProcess(p)
	if err != nil || pidfd == nil {
		return err
	}
	defer pidfd.Close()
	if err := waitEnd(pidfd); err == nil {
		return nil
	}
	return end(p)
}

// openProcess returns a pidfd of p, or nil if p is no more.
func openProcess(p state.Process) (*os.File, error) {
	if p.PID <= 0 {
		return nil, nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	// The pidfd holds whoever has the number now; that is p if the start time, read after, is p's.
	file := os.NewFile(uintptr(fd), "pidfd")
	facts, err := state.ObserveProcess(p.PID)
	if err != nil || !facts.Is(p) {
		file.Close()
		return nil, err
	}
	return file, nil
}

func waitEnd(pidfd *os.File) error {
	deadline := time.Now().Add(endWait)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("still there after %v", endWait)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}
