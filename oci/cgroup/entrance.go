package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Entrance is the open door to a prepared cgroup: descriptors with which a child is placed without the kernel stopping
// every fork on the machine, which writing its pid into cgroup.procs would do.
//
// The kernel excludes forks and exits (cgroup_threadgroup_rwsem) to keep a thread group together while it moves; taking
// that lock for writing costs an RCU grace period. It is not taken when a task moves only itself: "0" written to a v1
// tasks file (kernel/cgroup/cgroup.c, cgroup_procs_write_start), and not for a child that is born in a v2 cgroup
// (CLONE_INTO_CGROUP). A single-threaded child that does the former has moved its whole thread group.
//
// So: hand Into to clone3 where it is not -1, and let the child, as its first act, write [JoinText] to each of Tasks.
// Both count from the child's first instruction on. A cgroup namespace must be unshared after the writes, since its root
// is where the task is at that moment. All descriptors are close-on-exec; permission is checked against who opened them,
// so the child may be in a user namespace already.
//
// clone3 refuses Into with EBUSY when the v2 cgroup has become an inner node, and with EACCES when the caller may not move
// processes; start the child without it then and use [Manager.AddPID].
type Entrance struct {
	Into  int   // v2 directory for CLONE_INTO_CGROUP, or -1
	Tasks []int // v1 tasks files
}

// JoinText is what the child writes to each of [Entrance.Tasks]: "the writing task".
const JoinText = "0"

// Enter opens the entrance of the cgroup, which must exist (see [Manager.Prepare]). It is empty, and still right to use,
// for a container without a cgroup. The caller closes it when the child has been made.
func (m *Manager) Enter() (*Entrance, error) {
	e := &Entrance{Into: -1}
	// Where the child's pid is needed the library places it, and says what of that may fail.
	if m.lib == nil || m.NeedsPID() {
		return e, nil
	}
	paths := m.lib.GetPaths()
	if err := e.open(paths); err != nil {
		_ = e.Close() // opened to be entered, not written to
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return e, nil
}

// EnterBeside opens the entrance of the v2 cgroup that process pid is in at the moment. An init such as systemd moves
// itself below the container's cgroup, which then takes no process any more; exec goes where init is, as runc does. On v1
// it is the same as [Manager.Enter].
func (m *Manager) EnterBeside(pid int) (*Entrance, error) {
	if m.lib == nil || m.NeedsPID() || !cgroups.IsCgroup2UnifiedMode() {
		return m.Enter()
	}
	own, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("cgroup of init: %w", err)
	}
	into, err := openCgroup(filepath.Join("/sys/fs/cgroup", own[""]), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("cgroup of init: %w", err)
	}
	return &Entrance{Into: into}, nil
}

// EnterBelow opens the entrance of cgroups below the container's, which must exist: below names one for each controller, or by "" one for
// all. Controllers that are not named have the container's own.
func (m *Manager) EnterBelow(below map[string]string) (*Entrance, error) {
	paths, err := m.pathsBelow(below)
	if err != nil {
		return nil, err
	}
	e := &Entrance{Into: -1}
	if m.NeedsPID() {
		return e, nil
	}
	if err := e.open(paths); err != nil {
		_ = e.Close() // opened to be entered, not written to
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return e, nil
}

// pathsBelow is like [Manager.Paths], with the directories that below leads to. All that are named are there.
func (m *Manager) pathsBelow(below map[string]string) (map[string]string, error) {
	if m.lib == nil {
		return nil, m.absent
	}
	paths := m.Paths()
	for controller := range below {
		if _, known := paths[controller]; !known && controller != "" {
			return nil, fmt.Errorf("cgroup: the container has none of controller %q", controller)
		}
	}
	for controller, base := range paths {
		inner, named := below[controller]
		if !named {
			if inner, named = below[""]; !named {
				continue
			}
		}
		path := filepath.Join(base, inner)
		if path != base && !strings.HasPrefix(path, base+"/") {
			return nil, fmt.Errorf("cgroup: bad sub cgroup path: %s", inner)
		}
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		paths[controller] = path
	}
	return paths, nil
}

func (e *Entrance) open(paths map[string]string) error {
	v1 := make(map[string]string, len(paths))
	for name, dir := range paths {
		if name == "" {
			into, err := openCgroup(dir, unix.O_RDONLY|unix.O_DIRECTORY)
			if errors.Is(err, unix.ENOENT) && len(paths) > 1 {
				continue // hybrid: the library does not insist on the v2 hierarchy, where nothing is controlled
			}
			if err != nil {
				return err
			}
			e.Into = into
			continue
		}
		v1[name] = dir
	}
	for _, dir := range distinct(v1) {
		fd, err := openCgroup(filepath.Join(dir, "tasks"), unix.O_WRONLY)
		if errors.Is(err, unix.ENOENT) && optional(v1, dir) {
			continue
		}
		if err != nil {
			return err
		}
		e.Tasks = append(e.Tasks, fd)
	}
	return nil
}

// optional tells that dir belongs to one of the hierarchies without a controller that the library may have failed to
// join without calling it an error.
func optional(paths map[string]string, dir string) bool {
	return paths["name=systemd"] == dir || paths["misc"] == dir
}

// Close closes the descriptors.
func (e *Entrance) Close() error {
	var errs []error
	if e.Into >= 0 {
		errs = append(errs, unix.Close(e.Into))
	}
	for _, fd := range e.Tasks {
		errs = append(errs, unix.Close(fd))
	}
	e.Into, e.Tasks = -1, nil
	return errors.Join(errs...)
}

// openCgroup opens path and makes sure that it lies on a cgroup file system and nowhere else.
func openCgroup(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		_ = unix.Close(fd) // nothing was written
		return -1, &os.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	if st.Type != unix.CGROUP_SUPER_MAGIC && st.Type != unix.CGROUP2_SUPER_MAGIC {
		_ = unix.Close(fd) // nothing was written
		return -1, &os.PathError{Op: "open", Path: path, Err: errors.New("not a cgroup file")}
	}
	return fd, nil
}
