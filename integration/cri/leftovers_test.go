package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runtimeRoot is where containerd's shim has runtimes keep the state of CRI's containers.
const runtimeRoot = "/run/containerd/runc/k8s.io"

// assertNothingLeft fails the test if a removed pod has left anything behind. Its cgroup is the test's to remove, as it is the kubelet's on a node;
// that works once those of the containers are gone.
func (p *pod) assertNothingLeft(ctx context.Context) {
	p.t.Helper()
	for {
		left := append(p.left(), problems(removeGroups(p.config.Linux.CgroupParent))...)
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Errorf("left of the pod: %q", left)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func problems(err error) []string {
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}

// left lists states, processes and mounts of the pod's containers.
func (p *pod) left() []string {
	var list []string
	for _, id := range p.ids {
		if _, err := os.Stat(filepath.Join(runtimeRoot, id)); !errors.Is(err, fs.ErrNotExist) {
			list = append(list, fmt.Sprintf("state %s (%v)", id, err))
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	list = append(list, problems(err)...)
	for _, file := range append(processes, "/proc/self/mountinfo") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		for _, id := range p.ids {
			if strings.Contains(string(text), id) {
				list = append(list, file+" names "+id)
			}
		}
	}
	return list
}

// removeGroups removes a cgroup that has no others within, from every hierarchy.
func removeGroups(name string) error {
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + name)
	for _, dir := range dirs {
		if e := unix.Rmdir(dir); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("rmdir %s: %w", dir, e))
		}
	}
	return err
}
