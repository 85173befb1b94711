package monitor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// watchPaths makes the set of paths that the agent can deny, and has its handlers serve the container. It belongs between the making of the
// container's tree and its start.
func (m *Monitor) watchPaths(table *seccompnotif.TableBuilder) error {
	if !m.request.Plan.DeniesPaths() {
		return nil
	}
	root, err := m.openOfInit("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	m.places = append(m.places, root)
	namespace, err := m.openOfInit("ns/mnt", unix.O_RDONLY)
	if err != nil {
		return err
	}
	m.places = append(m.places, namespace)
	config := chroot.DeniedConfig{
		Root: int(root.Fd()), MountNamespace: int(namespace.Fd()),
		Confine: m.confine, Denied: m.deniedPath, Log: m.request.Log.Warnf,
	}
	if m.ports != nil {
		config.Presenter, config.Viewer = m.ports, m.views
	}
	m.denied, err = chroot.NewDeniedPaths(config)
	if err != nil {
		return fmt.Errorf("policy.socket: %w", err)
	}
	m.denied.Register(table)
	m.denied.RegisterExec(table)
	return nil
}

// openOfInit opens a file of the first process's directory in /proc. The process is parked, or the container would have to be believed.
func (m *Monitor) openOfInit(name string, flags int) (*os.File, error) {
	path := fmt.Sprintf("/proc/%d/%s", m.pid, name)
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// confine puts the calling thread under what confines the container's processes beyond their users and capabilities, so that what it opens for them is
// what they may open.
func (m *Monitor) confine() error {
	if err := m.confineLabel(); err != nil {
		return err
	}
	if m.ruleset == nil {
		return nil
	}
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, m.ruleset.Fd(), 0, 0)
	if errno == unix.EPERM { // without CAP_SYS_ADMIN it takes this, which is the thread's own, too
		if err := noNewPrivileges(); err != nil {
			return err
		}
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, m.ruleset.Fd(), 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}

// confineLabel is confine without Landlock.
func (m *Monitor) confineLabel() error {
	label := m.request.Plan.Process.AppArmor
	if label == "" {
		return nil
	}
	if err := changeLabel(label); err != nil {
		return fmt.Errorf("AppArmor profile %q: %w", label, err)
	}
	return nil
}

func noNewPrivileges() error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	return nil
}

// changeLabel puts the calling thread under an AppArmor profile.
func changeLabel(profile string) error {
	const current, old = "/proc/thread-self/attr/apparmor/current", "/proc/thread-self/attr/current"
	file, err := os.OpenFile(current, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		file, err = os.OpenFile(old, os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString("changeprofile " + profile)
	return errors.Join(err, file.Close())
}

// deniedPath puts on record that a call was refused because of a path that the agent has denied.
func (m *Monitor) deniedPath(c *seccompnotif.Call, path string) {
	if m.request.Denials == nil {
		return
	}
	name, _ := seccompnotif.SyscallName(c.Syscall())
	m.request.Denials.Record(AuditRecord{
		Verdict: Denied, PID: c.PID(), Comm: comm(c), Syscall: name, Target: path,
		Source: "agent", Reason: "the path is denied",
	})
}
