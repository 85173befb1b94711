package integration

import (
	"os"
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
	}
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
