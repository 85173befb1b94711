package integration

import (
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// withResources changes linux.resources.
func withResources(change func(r *specs.LinuxResources)) func(*testing.T, *bundle) {
	return func(_ *testing.T, b *bundle) { change(b.spec.Linux.Resources) }
}

// What the container's own cgroup files tell of limits. Block I/O, huge pages and the unified hierarchy are among the conformance tests.
func TestResources(t *testing.T) {
	if _, err := os.Stat("/sys/fs/cgroup/cpu"); err != nil {
		t.Skip("the files are those of cgroup v1, which this host does not have")
	}
	read := func(files ...string) string { return "cd /sys/fs/cgroup; cat " + strings.Join(files, " ") }
	probeAll(t, []probe{
		{name: "CPU burst", change: withResources(func(r *specs.LinuxResources) {
			r.CPU = &specs.LinuxCPU{Period: pointer(uint64(100000)), Quota: pointer(int64(50000)), Burst: pointer(uint64(20000))}
		}), script: read("cpu/cpu.cfs_period_us", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_burst_us"), want: "100000\n50000\n20000\n"},
		{name: "idle CPU", change: withResources(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Idle: pointer(int64(1))} }), script: read("cpu/cpu.idle"), want: "1\n"},
		{name: "CPUs and memory nodes", change: withResources(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Cpus: "0", Mems: "0"} }),
			script: read("cpuset/cpuset.cpus", "cpuset/cpuset.mems"), want: "0\n0\n"},
		{name: "memory", change: withResources(func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Limit: pointer(int64(64 << 20)), Reservation: pointer(int64(32 << 20)), Swap: pointer(int64(96 << 20)), Swappiness: pointer(uint64(10)), DisableOOMKiller: pointer(true)}
		}), script: read("memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.swappiness") + "; grep oom_kill_disable memory/memory.oom_control",
			want: "67108864\n33554432\n100663296\n10\noom_kill_disable 1\n"},
	})
}

// What the host's cgroups do not have is an error.
func TestRefusedResources(t *testing.T) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("this host has cgroup v2, and with it more than is refused here")
	}
	for name, change := range map[string]func(r *specs.LinuxResources){
		"unified": func(r *specs.LinuxResources) { r.Unified = map[string]string{"memory.high": "100000000"} },
		"huge pages": func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 2 << 20}}
		},
		"RDMA": func(r *specs.LinuxResources) {
			r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: pointer(uint32(1))}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, "echo ran")
			change(b.spec.Linux.Resources)
			res := r.runBundle(t, b)
			if res.stdout != "" {
				t.Errorf("it ran: %v", res)
			}
			res.refused(t)
			assertNothingLeft(t, r, b)
		})
	}
}
