package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// killRounds bounds how often SignalAll looks for processes that were forked while it killed.
const killRounds = 20

// freezeWait is how long processes may take to be frozen. The library gives up (and thaws) after a thousand looks at a v1 freezer, which on a busy machine is
// sooner than a process that forks or is in the kernel gets to run.
const freezeWait = 5 * time.Second

// Freeze stops every process of the container, and returns when they all have stopped.
func (m *Manager) Freeze() error { return m.freeze(cgroups.Frozen) }

// Thaw lets the processes of a frozen container go on.
func (m *Manager) Thaw() error { return m.freeze(cgroups.Thawed) }

func (m *Manager) freeze(state cgroups.FreezerState) error {
	if m.lib == nil {
		return m.absent
	}
	// The library remembers the state among the limits; that is no part of the configuration.
	kept := m.config.Cgroup.Resources.Freezer
	defer func() { m.config.Cgroup.Resources.Freezer = kept }()
	for deadline := time.Now().Add(freezeWait); ; {
		err := m.lib.Freeze(state)
		if err == nil {
			return nil
		}
		// What the kernel says is final; that the library has given up has no number.
		if errno := unix.Errno(0); errors.As(err, &errno) || !m.lib.Exists() || time.Now().After(deadline) {
			return fmt.Errorf("cgroup freezer: %w", err)
		}
	}
}

// Frozen tells whether the container itself is frozen (and not merely a cgroup above it). It is false without a cgroup
// and after the cgroup's removal.
func (m *Manager) Frozen() (bool, error) {
	if m.lib == nil {
		return false, nil
	}
	state, err := m.lib.GetFreezerState()
	if err != nil {
		return false, fmt.Errorf("unable to get cgroup freezer state: %w", err)
	}
	return state == cgroups.Frozen, nil
}

// PIDs lists the container's processes, those of nested cgroups too, in our pid namespace, in ascending order. A removed cgroup has none.
func (m *Manager) PIDs() ([]int, error) {
	if m.lib == nil {
		return nil, m.absent
	}
	pids, err := m.lib.GetAllPids()
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("unable to get cgroup PIDs: %w", err)
	}
	// The directories are read one after the other: who moves on to the next one meanwhile is in both.
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// SignalAll sends sig to every process of the container. It is for a container without a pid namespace of its own;
// where there is one, killing its init does the job. The processes are frozen meanwhile, so that none forks away. SIGKILL
// thaws a paused container, as it could not die otherwise; any other signal leaves it paused.
//
// With no cgroup, or none any more, the error is ErrAbsent.
func (m *Manager) SignalAll(sig unix.Signal) error {
	if m.lib == nil {
		return m.absent
	}
	if !m.lib.Exists() {
		return ErrAbsent
	}
	// cgroup.kill, where the v2 cgroup surely holds all processes: on a hybrid host it need not.
	if sig == unix.SIGKILL && cgroups.IsCgroup2UnifiedMode() {
		err := cgroups.WriteFile(m.lib.Path(""), "cgroup.kill", "1")
		if err == nil || gone(err) && !m.lib.Exists() {
			return nil
		}
		if !gone(err) {
			return fmt.Errorf("cgroup.kill: %w", err)
		}
		// Linux before 5.14 has no such file.
	}
	return m.signalEach(sig)
}

func (m *Manager) signalEach(sig unix.Signal) (err error) {
	paused, _ := m.Frozen() // not if that cannot be told: then it is not left frozen, either
	frozen := paused || m.Freeze() == nil
	if !paused || sig == unix.SIGKILL {
		defer func() {
			// Without a freezer there is nothing to be thawed, nor without the cgroup, which may be gone with the last process.
			if failed := m.Thaw(); failed != nil && frozen && m.lib.Exists() {
				err = errors.Join(err, failed)
			}
		}()
	}
	sent := make(map[int]bool)
	var errs []error
	for range killRounds {
		pids, err := m.PIDs()
		if err != nil {
			return err
		}
		fresh := false
		for _, pid := range pids {
			if sent[pid] {
				continue
			}
			sent[pid], fresh = true, true
			if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("kill %d: %w", pid, err))
			}
		}
		if frozen || !fresh {
			break
		}
	}
	return errors.Join(errs...)
}
