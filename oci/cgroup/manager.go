package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // hooks the device rules into the managers
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrAbsent is what an operation gets that needs a cgroup where the container has none.
var ErrAbsent = errors.New("container has no cgroup")

// Manager is one container's cgroup. Make it with [New] or [Load].
type Manager struct {
	lib    cgroups.Manager // nil: the container runs without a cgroup
	config Config
	absent error // why lib is nil

	others bool // Check has found that the cgroup is somebody else's
}

// New finds out where the cgroup will be; it changes nothing on the host, so that [Manager.Paths] can be written to the
// state file before the first directory is made. Where the host has no usable cgroups and none is required, the Manager
// is one that does nothing, see [Manager.Absent].
func New(c Config) (*Manager, error) {
	if c.Disabled {
		return without(c, errors.New("--cgroup-manager disabled"))
	}
	paths, err := knownPaths(c.Cgroup)
	if err != nil {
		return without(c, err)
	}
	lib, err := manager.NewWithPaths(c.Cgroup, paths)
	if err != nil {
		return without(c, err)
	}
	return &Manager{lib: lib, config: c}, nil
}

// Load makes the Manager of an existing container from what [Manager.Config], or of its JSON [DecodePlace], and [Manager.Paths] gave when it was made.
func Load(c Config, paths map[string]string) (*Manager, error) {
	if c.Cgroup == nil || len(paths) == 0 {
		return &Manager{config: c, absent: ErrAbsent}, nil
	}
	if c.Cgroup.Resources == nil { // lost in JSON when all of it was zero; the v1 managers want it
		c.Cgroup.Resources = &cgroups.Resources{}
	}
	lib, err := manager.NewWithPaths(c.Cgroup, maps.Clone(paths))
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return &Manager{lib: lib, config: c}, nil
}

// without is the Manager that does nothing, or the error where the container requires a cgroup.
func without(c Config, why error) (*Manager, error) {
	if c.Required != "" {
		return nil, fmt.Errorf("%s: no cgroup can be made: %w", c.Required, why)
	}
	return &Manager{config: c, absent: fmt.Errorf("%w: %w", ErrAbsent, why)}, nil
}

// Absent says why the container runs without a cgroup. Nil: it has one.
func (m *Manager) Absent() error { return m.absent }

// Config is what the Manager was made with, for the state file.
func (m *Manager) Config() Config { return m.config }

// Paths maps controller to directory (v1; "" is the v2 hierarchy of a hybrid host) or "" to the one directory (v2), for
// the state file. It is empty without a cgroup.
func (m *Manager) Paths() map[string]string {
	if m.lib == nil {
		return nil
	}
	return maps.Clone(m.lib.GetPaths())
}

// Exists tells whether the cgroup's directory is there. As in runc, on v1 only the devices hierarchy is asked.
func (m *Manager) Exists() bool { return m.lib != nil && m.lib.Exists() }

// Check refuses a cgroup that somebody else is using: one that has processes, or is frozen. A new container's child would
// be counted with strangers, or never run; and the strangers would be killed with the container. After an error Destroy
// leaves the cgroup alone.
func (m *Manager) Check() error {
	if m.lib == nil {
		return nil
	}
	err := m.check()
	m.others = err != nil
	return err
}

func (m *Manager) check() error {
	if m.lib.Exists() {
		pids, err := m.lib.GetAllPids()
		if err != nil && !gone(err) {
			return fmt.Errorf("unable to get cgroup PIDs: %w", err)
		}
		if len(pids) != 0 {
			return fmt.Errorf("container's cgroup is not empty: %d process(es) found", len(pids))
		}
	}
	state, err := m.lib.GetFreezerState()
	if err != nil {
		return fmt.Errorf("unable to get cgroup freezer state: %w", err)
	}
	if state == cgroups.Frozen {
		return errors.New("container's cgroup unexpectedly frozen")
	}
	return nil
}

// NeedsPID tells that the cgroup cannot be prepared without the container's first process: systemd starts no scope
// without one, and an unprivileged caller may place only a process it can show. Prepare and Enter have nothing to do
// then; call [Manager.Apply] with the child's pid while the child waits.
func (m *Manager) NeedsPID() bool {
	return m.lib != nil && (m.config.Cgroup.Systemd || m.config.Cgroup.Rootless)
}

// Prepare makes the cgroup and writes its limits, before there is a process to put in. What it made is removed again when
// it fails. Where no cgroup can be made and none is required the Manager becomes one that does nothing (no error).
func (m *Manager) Prepare() error {
	if err := m.Make(); err != nil {
		return err
	}
	return m.Limit()
}

// Make is the first half of [Manager.Prepare]: after it the cgroup can be entered.
func (m *Manager) Make() error {
	if m.lib == nil || m.NeedsPID() {
		return nil
	}
	const noProcess = -1 // the library's word for "make it only"
	return m.join(noProcess)
}

// Limit is the second half of [Manager.Prepare]: it writes the limits. Whoever is in the cgroup must not run anybody's program before it has returned.
func (m *Manager) Limit() error {
	if m.lib == nil || m.NeedsPID() {
		return nil
	}
	return m.limit()
}

// Apply makes the cgroup if need be, moves the process in and writes the limits. It is the slow way, for the drivers
// that need it (see [Manager.NeedsPID]) and for a child that could not use an [Entrance]; pid counts in our pid namespace.
// The process must not run on before Apply has returned.
func (m *Manager) Apply(pid int) error {
	if m.lib == nil {
		return nil
	}
	if err := m.join(pid); err != nil {
		return err
	}
	if m.lib == nil {
		return nil // given up
	}
	return m.limit()
}

func (m *Manager) join(pid int) error {
	err := m.lib.Apply(pid)
	if errors.Is(err, cgroups.ErrRootless) {
		return m.settle(err)
	}
	if err != nil {
		return m.giveUp(fmt.Errorf("unable to apply cgroup configuration: %w", err))
	}
	return nil
}

// settle goes on with what an ordinary user could make of the cgroup. Most of the hierarchies that refused us have left the library's paths, and a limit in one of
// them fails in Set; the one without controllers on a hybrid host stays among them, there or not.
func (m *Manager) settle(why error) error {
	made := m.lib.GetPaths()
	maps.DeleteFunc(made, func(_, dir string) bool { return !cgroups.PathExists(dir) })
	if len(made) == 0 {
		return m.giveUp(why)
	}
	lib, err := manager.NewWithPaths(m.config.Cgroup, made)
	if err != nil {
		return m.giveUp(err)
	}
	m.lib = lib
	return nil
}

func (m *Manager) limit() error {
	if err := m.lib.Set(m.config.Cgroup.Resources); err != nil {
		_ = m.lib.Destroy() // it fails while somebody is in it; then its maker removes it
		return fmt.Errorf("error setting cgroup config: %w", err)
	}
	return nil
}

// giveUp removes what was made, and goes on without a cgroup where none is required.
func (m *Manager) giveUp(why error) error {
	_ = m.lib.Destroy() // why is what is told; what this user could not make he may be unable to remove as well
	if m.config.Required != "" {
		return fmt.Errorf("%s: %w", m.config.Required, why)
	}
	m.lib, m.absent = nil, fmt.Errorf("%w: %w", ErrAbsent, why)
	return nil
}

// AddPID moves a further process into the existing cgroup, or into those below it that [Manager.EnterBelow] would enter. It is the slow way, see
// [Entrance].
func (m *Manager) AddPID(below map[string]string, pid int) error {
	if m.lib == nil {
		if len(below) != 0 {
			return m.absent
		}
		return nil
	}
	inner, same := below[""]
	if same || len(below) == 0 {
		if err := m.lib.AddPid(inner, pid); err != nil && !errors.Is(err, cgroups.ErrRootless) {
			return fmt.Errorf("cgroup: %w", err)
		}
		return nil
	}
	// The library has no word for this.
	paths, err := m.pathsBelow(below)
	if err != nil {
		return err
	}
	for _, dir := range distinct(paths) {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil && !m.config.Cgroup.Rootless {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// Update replaces the limits by those of r, device rules excepted: they stay as they are. When the kernel refuses one of
// the new limits, the old ones are written again. The caller saves [Manager.Config] afterwards.
func (m *Manager) Update(r *specs.LinuxResources) error {
	if m.lib == nil {
		return m.absent
	}
	if m.config.placeOnly {
		return errPlaceOnly
	}
	planned, err := Plan(&specs.Spec{Linux: &specs.Linux{Resources: r}}, Options{ID: "update"})
	if err != nil {
		return err
	}
	old := m.config.Cgroup.Resources
	next := planned.Cgroup.Resources
	next.Devices, next.SkipDevices = old.Devices, true
	if err := m.lib.Set(next); err != nil {
		back := *old
		back.SkipDevices = true
		if again := m.lib.Set(&back); again != nil {
			return fmt.Errorf("set: %w (and the former limits could not be restored: %w)", err, again)
		}
		return fmt.Errorf("set: %w", err)
	}
	next.SkipDevices = false
	m.config.Cgroup.Resources = next
	return nil
}

// Stats reads the counters of all controllers.
func (m *Manager) Stats() (*cgroups.Stats, error) {
	if m.lib == nil {
		return nil, m.absent
	}
	return m.lib.GetStats()
}

// OOMKills is how many processes of the container the kernel has killed for want of memory.
func (m *Manager) OOMKills() (uint64, error) {
	if m.lib == nil {
		return 0, m.absent
	}
	return m.lib.OOMKillCount()
}

// Destroy removes the cgroup and those inside it. It waits about a second for processes that are still going away; with
// others in it, it fails with EBUSY. A cgroup that is gone already is no error. One that Check refused is left alone.
func (m *Manager) Destroy() error {
	if m.lib == nil || m.others {
		return nil
	}
	// Systemd is left to end what is in its unit.
	if !m.config.Cgroup.Systemd {
		if m.removeEmpty() {
			return nil
		}
		// Without this the library would wait a second in each hierarchy.
		if err := m.waitEmpty(); err != nil {
			return fmt.Errorf("unable to remove container's cgroup: %w", err)
		}
	}
	if err := m.lib.Destroy(); err != nil {
		return fmt.Errorf("unable to remove container's cgroup: %w", err)
	}
	return nil
}

// removeEmpty removes the directories where that is all there is to do, as it mostly is: nothing is in them.
func (m *Manager) removeEmpty() bool {
	all := true
	for _, dir := range distinct(m.lib.GetPaths()) {
		if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
			all = false
		}
	}
	return all
}

// waitEmpty waits until no process is left, with delays that double from one millisecond to about a second in sum.
func (m *Manager) waitEmpty() error {
	const longest = 512 * time.Millisecond
	for delay := time.Millisecond; ; delay *= 2 {
		pids, err := m.PIDs()
		if err != nil || len(pids) == 0 {
			return err
		}
		if delay > longest {
			return fmt.Errorf("%d process(es) still in it: %w", len(pids), unix.EBUSY)
		}
		time.Sleep(delay) // cgroup v1 has no event for this
	}
}

// gone recognises the two errors of a cgroup that is being removed while we look at it.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
