package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// leftovers lists what the system still holds of a container: processes, mounts and cgroups that bear its id.
func leftovers(t testing.TB, id string) []string {
	t.Helper()
	return append(append(processesOf(id), mountsOf(t, id)...), cgroupsOf(t, id)...)
}

// assertNothingLeft fails the test if anything of the container is still there.
func assertNothingLeft(t testing.TB, r *ociRuntime, b *bundle) {
	t.Helper()
	for _, id := range r.ids(t) {
		if id == b.id {
			t.Errorf("left: the state directory of %s", id)
		}
	}
	// The last process may be dying still: its end is no event that anyone but its parent gets.
	var left []string
	for range 200 {
		if left = leftovers(t, b.id); len(left) == 0 {
			return
		}
		pause()
	}
	t.Errorf("left of %s: %q", b.id, left)
}

// processesOf lists the live processes that have id on their command line or in their cgroup's path.
func processesOf(id string) []string {
	var list []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !alive(pid) {
			continue
		}
		for _, name := range []string{"cmdline", "cgroup"} {
			content, err := os.ReadFile(filepath.Join("/proc", e.Name(), name))
			if err == nil && strings.Contains(string(content), id) {
				cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // only for the message
				list = append(list, fmt.Sprintf("process %d (%s)", pid, strings.ReplaceAll(string(cmdline), "\x00", " ")))
				break
			}
		}
	}
	return list
}

func mountsOf(t testing.TB, id string) []string {
	t.Helper()
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(content)) {
		if strings.Contains(line, id) {
			list = append(list, "mount "+strings.TrimSpace(line))
		}
	}
	return list
}

func cgroupsOf(t testing.TB, id string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"/sys/fs/cgroup/sandlock-test/", "/sys/fs/cgroup/*/sandlock-test/"} {
		found, err := filepath.Glob(pattern + id)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	return list
}
