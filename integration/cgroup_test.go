package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

func TestMemoryLimitKills(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "head -c 20000000 /dev/zero | tail -c 20000000 | wc -c; exec tail -c 200000000 /dev/zero")
	b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: pointer(int64(64 << 20)), Swap: pointer(int64(64 << 20))}
	if res := r.runBundle(t, b); res.code != 137 || res.stdout != "20000000\n" {
		t.Error(res)
	}
	assertNothingLeft(t, r, b)
}

func TestProcessLimitHolds(t *testing.T) {
	probeAll(t, []probe{{
		name: "pids",
		change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: pointer(int64(5))}
		},
		script: "sleep 100 & sleep 100 & echo two; (sleep 100 & sleep 100 & sleep 100 & sleep 100 &) 2>/dev/null || echo refused",
		want:   "two\nrefused\n",
	}})
}

func TestCPUSharesAndQuotaAreSet(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	b.spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: pointer(int64(50000)), Period: pointer(uint64(100000))}
	r.start(t, b)
	found := 0
	for path, want := range map[string]string{
		"/sys/fs/cgroup/cpu/sandlock-test/" + b.id + "/cpu.cfs_quota_us": "50000\n",
		"/sys/fs/cgroup/sandlock-test/" + b.id + "/cpu.max":              "50000 100000\n",
	} {
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // the other version of cgroups
		}
		if err != nil || string(content) != want {
			t.Errorf("%s: %q %v", path, content, err)
		}
		found++
	}
	if found == 0 {
		t.Error("the container's cgroup is at neither of the places")
	}
}

// A process of exec can be put into cgroups below the container's, for all controllers or for some.
func TestExecIntoASubCgroup(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	own := cgroupsOf(t, c.id)
	if len(own) == 0 {
		t.Fatal("the container has no cgroup")
	}
	for _, dir := range own {
		if err := os.Mkdir(filepath.Join(dir, "inner"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			// On v1 a new cpuset is empty, and takes no process.
			if content, err := os.ReadFile(filepath.Join(dir, file)); err == nil && strings.Contains(dir, "/cpuset/") {
				if err := os.WriteFile(filepath.Join(dir, "inner", file), content, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, test := range []struct {
		flags []string
		inner func(hierarchy string) bool
	}{
		{nil, func(string) bool { return false }},
		{[]string{"--cgroup", "inner"}, func(string) bool { return true }},
		{[]string{"--cgroup", "pids,freezer:inner"}, func(h string) bool { return h == "pids" || h == "freezer" }},
	} {
		if len(own) == 1 && len(test.flags) > 0 && strings.Contains(test.flags[1], ":") {
			continue // a single hierarchy, without controllers of their own
		}
		pidFile := filepath.Join(c.dir, "inner.pid")
		r.must(t, append(append([]string{"exec", "--detach", "--pid-file", pidFile}, test.flags...), c.id, "/bin/sleep", "2000")...)
		pid := readPid(t, pidFile)
		adopt(pid)
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for line := range strings.Lines(string(content)) {
			fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if !strings.Contains(fields[2], c.id) {
				continue // a hierarchy that is mounted nowhere
			}
			seen++
			if got := strings.HasSuffix(fields[2], "/"+c.id+"/inner"); got != test.inner(fields[1]) {
				t.Errorf("%v: %s", test.flags, line)
			}
		}
		if seen != len(own) {
			t.Errorf("%v: in %d of the container's %d cgroups:\n%s", test.flags, seen, len(own), content)
		}
	}
	for _, bad := range []string{"missing", "../..", "bogus:inner"} {
		r.run(t, "exec", "--cgroup", bad, c.id, "/bin/true").refused(t, "cgroup")
	}
	r.must(t, "delete", "--force", c.id)
	c.wait(t)
	assertNothingLeft(t, r, c.bundle)
}

// A container without a cgroup path and without limits runs on any host.
func TestWithoutCgroupPath(t *testing.T) {
	probeAll(t, []probe{{
		name: "no path, no limits",
		change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.CgroupsPath, b.spec.Linux.Resources = "", nil
		},
		script: "echo ran", want: "ran\n",
	}})
}

// Everything the workload started ends with it, also what does not share its pid namespace.
func TestDeleteEndsEveryProcessOfTheCgroup(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "setsid sleep 1000 & setsid sleep 1000 & echo ready; wait")
	testbundle.RemoveNamespace(b.spec, specs.PIDNamespace)
	c := r.start(t, b)
	c.line(t)
	r.must(t, "delete", "--force", b.id)
	c.wait(t)
	assertNothingLeft(t, r, b)
}
