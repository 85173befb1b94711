package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
)

// memoryController is the name of the controller on cgroup v1.
const memoryController = "memory"

// oomWatch tells when processes of a cgroup are killed for want of memory.
type oomWatch struct {
	group *cgroup.Manager
	file  *os.File // eventfd (v1) or inotify instance (v2); closing it ends the watch
	event *os.File // v1: the file that the eventfd was registered for
	kills uint64   // v2: how many have been told of
	v2    bool
}

// watchOOM starts a watch. There is none where the container has no memory controller: nil without an error.
func watchOOM(group *cgroup.Manager) (*oomWatch, error) {
	paths := group.Paths()
	if dir, v1 := paths[memoryController]; v1 {
		return watchOOMv1(group, dir)
	}
	dir := paths[""]
	if _, err := os.Stat(filepath.Join(dir, "memory.events")); dir == "" || err != nil {
		return nil, nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	w := &oomWatch{group: group, file: os.NewFile(uintptr(fd), "inotify"), v2: true}
	// See "cgroup.events" and "memory.events" in the kernel's cgroup-v2.rst: a change of the file is a modification.
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, "memory.events"), unix.IN_MODIFY); err != nil {
		w.close()
		return nil, fmt.Errorf("memory.events: %w", err)
	}
	w.kills, err = group.OOMKills()
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// watchOOMv1 registers an eventfd for memory.oom_control, see section 9 of the kernel's cgroup-v1/memory.rst.
func watchOOMv1(group *cgroup.Manager, dir string) (*oomWatch, error) {
	event, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		event.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &oomWatch{group: group, file: os.NewFile(uintptr(fd), "eventfd"), event: event}
	control := filepath.Join(dir, "cgroup.event_control")
	if err := os.WriteFile(control, fmt.Appendf(nil, "%d %d", fd, event.Fd()), 0); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// run calls told for each kill, until the watch is closed or the cgroup gone.
func (w *oomWatch) run(told func()) {
	// Room for many inotify events; an eventfd gives eight bytes.
	buffer := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buffer); err != nil {
			return
		}
		if !w.v2 {
			// The removal of the cgroup is an event too.
			if _, err := w.group.OOMKills(); err != nil {
				return
			}
			told()
			continue
		}
		kills, err := w.group.OOMKills()
		if err != nil {
			return
		}
		for ; w.kills < kills; w.kills++ {
			told()
		}
	}
}

func (w *oomWatch) close() {
	w.file.Close()
	if w.event != nil {
		w.event.Close()
	}
}
