package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// held is what a long-lived process holds.
type held struct {
	descriptors, threads, children int
	private                        int // KiB of memory
}

func (h held) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d children, %d KiB private", h.descriptors, h.threads, h.children, h.private)
}

// spareThreads is how many more threads a Go process may have at the end: one for each call that blocked while another did, which
// are kept, and are far fewer than the calls it served.
const spareThreads = 16

// sparePrivate is how much more private memory it may have, in KiB.
const sparePrivate = 4 << 10

// grown tells what a process holds more of than it did before.
func (h held) grown(id string, after held) []string {
	var list []string
	for _, part := range []struct {
		name          string
		before, after int
		spare         int
	}{
		{"descriptors", h.descriptors, after.descriptors, 0},
		{"threads", h.threads, after.threads, spareThreads},
		{"children", h.children, after.children, 0},
		{"KiB of private memory", h.private, after.private, sparePrivate},
	} {
		if part.after > part.before+part.spare {
			list = append(list, fmt.Sprintf("monitor of %s: %d %s, %d before", id, part.after, part.name, part.before))
		}
	}
	return list
}

// settled is what a process holds once that has been the same for a while.
func settled(pid int) (held, error) {
	const reads, apart, tries = 10, 100 * time.Millisecond, 300
	var last held
	for same, try := 0, 0; ; try++ {
		now, err := holds(pid)
		if err != nil {
			return held{}, err
		}
		if same++; now != last {
			last, same = now, 0
		}
		if same == reads || try == tries {
			return now, nil
		}
		time.Sleep(apart)
	}
}

func holds(pid int) (held, error) {
	var h held
	proc := fmt.Sprintf("/proc/%d", pid)
	for _, part := range []struct {
		dir   string
		count *int
	}{{"fd", &h.descriptors}, {"task", &h.threads}} {
		entries, err := os.ReadDir(filepath.Join(proc, part.dir))
		if err != nil {
			return held{}, err
		}
		*part.count = len(entries)
	}
	h.children = len(children(pid))
	rollup, err := os.ReadFile(filepath.Join(proc, "smaps_rollup"))
	if err != nil {
		return held{}, err
	}
	for line := range strings.Lines(string(rollup)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "Private_Dirty: %d kB", &kib); n == 1 {
			h.private = kib
		}
	}
	return h, nil
}

// leftovers lists the state directories, bundles, mounts and cgroups that are there after all was deleted. What a killed create has left to its monitor may
// take a moment.
func (h *harness) leftovers() []string {
	var left []string
	for deadline := time.Now().Add(grace); ; time.Sleep(100 * time.Millisecond) {
		left = h.lookForLeftovers()
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	return append(left, h.removeCgroups()...)
}

func (h *harness) lookForLeftovers() []string {
	var left []string
	for _, dir := range []string{h.state, filepath.Join(h.dir, "bundles")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			left = append(left, err.Error())
		}
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), "@") { // what is kept for all containers
				left = append(left, filepath.Join(dir, entry.Name()))
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.dir) || strings.Contains(line, h.cgroup) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	for _, parent := range h.cgroups() {
		_ = filepath.WalkDir(parent, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && path != parent {
				left = append(left, "cgroup "+path)
			}
			return nil // one that goes away meanwhile is none that is left
		})
	}
	return left
}

// cgroups are the parents of the containers' cgroups in all trees.
func (h *harness) cgroups() []string {
	var all []string
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, _ := filepath.Glob(pattern + h.cgroup) // the pattern is well-formed
		all = append(all, found...)
	}
	return all
}

// removeCgroups removes the parents, which were made for the containers' sake.
func (h *harness) removeCgroups() []string {
	var left []string
	for _, parent := range h.cgroups() {
		if err := os.Remove(parent); err != nil && !os.IsNotExist(err) {
			left = append(left, err.Error())
		}
	}
	return left
}
