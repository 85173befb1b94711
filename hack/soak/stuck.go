package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// stuck tells what the processes of a step that hangs are waiting for: those of the command, and all others that have to do with the container.
func (c *container) stuck(step string, pid int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s hangs\n", c.id, step)
	pids := c.processes()
	if pid > 0 {
		pids = append(append([]int{pid}, descendants(pid)...), pids...)
	}
	slices.Sort(pids)
	for _, pid := range slices.Compact(pids) {
		text.WriteString(describe(pid))
	}
	return text.String()
}

// processes are those that have the container's id on their command line or in their cgroup's path.
func (c *container) processes() []int {
	var pids []int
	for _, pid := range allProcesses() {
		if pid == os.Getpid() {
			continue
		}
		for _, name := range []string{"cmdline", "cgroup"} {
			content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err == nil && bytes.Contains(content, []byte(c.id)) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func allProcesses() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// children are the children of all threads of a process.
func children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
	var pids []int
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		for _, field := range strings.Fields(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func descendants(pid int) []int {
	all := children(pid)
	for _, child := range slices.Clone(all) {
		all = append(all, descendants(child)...)
	}
	return all
}

// describe tells of each thread of a process its state, the call it is in, and its way through the kernel.
func describe(pid int) string {
	proc := fmt.Sprintf("/proc/%d", pid)
	read := func(path string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			return "-"
		}
		return strings.TrimSpace(strings.ReplaceAll(string(content), "\x00", " "))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "  %d %s: %s\n", pid, read(proc+"/comm"), read(proc+"/cmdline"))
	threads, _ := filepath.Glob(proc + "/task/*") // the pattern is well-formed
	for _, thread := range threads {
		state := "-"
		for line := range strings.Lines(read(thread + "/status")) {
			if rest, found := strings.CutPrefix(line, "State:"); found {
				state = strings.TrimSpace(rest)
			}
		}
		stack := strings.Join(strings.Fields(read(thread+"/stack")), " ")
		fmt.Fprintf(&text, "    thread %s: %s, in %s, syscall %s, stack %s\n", filepath.Base(thread), state, read(thread+"/wchan"), read(thread+"/syscall"), stack)
	}
	return text.String()
}

func load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	one, _, _ := strings.Cut(string(content), " ")
	return one
}
