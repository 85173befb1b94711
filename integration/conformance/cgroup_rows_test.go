package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// unified tells that the host has control groups of version 2 alone.
func unified() bool { return exists(filepath.Join(cgroupMount, "cgroup.controllers")) }

func needsUnified() string {
	if !unified() {
		return "control groups of version 1"
	}
	return ""
}

// needsController says what is missing for the tests of a controller of version 1.
func needsController(name string) func() string {
	return func() string {
		if !unified() && !exists(filepath.Join(cgroupMount, name)) {
			return "no controller " + name + " mounted"
		}
		if unified() {
			return "control groups of version 2"
		}
		return ""
	}
}

// cgroupFile reads a file of the container's control group.
func (x *trial) cgroupFile(b *bundle, name string) string {
	for _, dir := range cgroupsOf(b) {
		if path := filepath.Join(dir, name); exists(path) {
			return strings.TrimSpace(x.read(path))
		}
	}
	x.fatalf("no control group has the file %s", name)
	return ""
}

// cgroupSections are the rows of config-linux.md about control groups.
func cgroupSections() []section {
	const document = "config-linux.md"
	return []section{
		{document, "Control groups", []requirement{
			{lines: "303", says: "a control group that is not fit for use is an error: one that is frozen", test: frozenCgroup},
		}},
		{document, "Cgroups Path", []requirement{
			{lines: "315", says: "`cgroupsPath` is an absolute or a relative path", test: func(x *trial) {
				for _, path := range []string{"/sandlock-test/absolute-", "sandlock-test-relative-"} {
					b := x.bundle("echo ran")
					b.spec.Linux.CgroupsPath = path + b.id
					x.prints(b, "ran\n")
				}
			}},
			{lines: "317", says: "an absolute path is relative to where control groups are mounted", test: cgroupPlace},
			{lines: "320", says: "the same path is the same place", test: func(x *trial) {
				b := x.bundle(sleeps)
				for range 2 {
					c := x.create(b)
					first := x.read(fmt.Sprintf("/proc/%d/cgroup", c.pid))
					if !strings.Contains(first, b.spec.Linux.CgroupsPath) {
						x.errorf("the control groups are %q", first)
					}
					x.must("delete", "--force", b.id)
					x.end(c)
				}
			}},
			{lines: "322", says: "a path that is not valid is an error", test: refusesWith(func(b *bundle) {
				b.spec.Linux.CgroupsPath = "/sandlock-test/" + strings.Repeat("x", unix.PathMax)
			})},
		}},
		{document, "Cgroup ownership", []requirement{
			{lines: "368", says: "files to hand over that a control group does not have are no error", host: needsUnified, test: delegated},
			{lines: "372", says: "the files to hand over, where the kernel does not list them", host: needsUnified, test: delegated},
		}},
		{document, "Allowed Device list", []requirement{
			{lines: "405", says: "entries are applied in the listed order: of two about a device the last one counts", test: func(x *trial) {
				x.deviceOpens([]bool{true, false}, "refused\n")
				x.deviceOpens([]bool{false, true}, "opened\n")
			}},
			{lines: "409", says: "`allow` says whether the device is allowed or denied", test: func(x *trial) {
				x.deviceOpens([]bool{true}, "opened\n")
				x.deviceOpens([]bool{false}, "refused\n")
			}},
		}},
		{document, "Memory", []requirement{
			skipped("466", "`checkBeforeUpdate` rejects a limit below what is used", "a check that a runtime may make when a limit is changed, which is no operation of the specification: at create nothing is used"),
		}},
		{document, "CPU", []requirement{
			{lines: "494,496", says: "`burst` is no larger than `quota`, which the kernel sees to: that is an error", since: "1.1.0", test: refusesWith(func(b *bundle) {
				b.spec.Linux.Resources.CPU = &specs.LinuxCPU{Period: pointer(uint64(100000)), Quota: pointer(int64(20000)), Burst: pointer(uint64(50000))}
			})},
		}},
		{document, "Block IO", []requirement{
			skipped("533,538", "weights of devices", "needs a disk under the scheduler BFQ, which no machine of the tests has"),
			{lines: "542,544,548,550", says: "rates are set for the device of `major` and `minor`", host: needsDisk, test: throttled},
		}},
		{document, "Huge page limits", []requirement{
			{lines: "608,614", says: "`limit` is set for `pageSize`", host: needsController("hugetlb"), test: func(x *trial) {
				b := x.bundle(sleeps)
				b.spec.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
				x.create(b)
				x.equal("limit", x.cgroupFile(b, "hugetlb.2MB.limit_in_bytes"), fmt.Sprint(4<<20))
			}},
		}},
		{document, "Network", []requirement{
			{lines: "641,642", says: "`priority` is set for the interface `name`", host: needsController("net_prio"), test: func(x *trial) {
				b := x.bundle(sleeps)
				b.spec.Linux.Resources.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}
				x.create(b)
				if text := x.cgroupFile(b, "net_prio.ifpriomap"); !strings.Contains(text, "lo 5") {
					x.errorf("priorities are %q", text)
				}
			}},
		}},
		{document, "RDMA", []requirement{
			skipped("692", "an entry has `hcaHandles` or `hcaObjects`", "needs an RDMA adapter, which no machine of the tests has"),
		}},
		{document, "Unified", []requirement{
			{lines: "717,719", says: "controllers are enabled, and keys that the runtime does not know are written", host: needsUnified, test: func(x *trial) {
				b := x.bundle(sleeps)
				b.spec.Linux.Resources.Unified = map[string]string{"memory.high": "67108864", "pids.max": "77"}
				x.create(b)
				x.equal("memory.high", x.cgroupFile(b, "memory.high"), "67108864")
				x.equal("pids.max", x.cgroupFile(b, "pids.max"), "77")
			}},
			{lines: "721", says: "a controller that is not there is an error", test: refusesWith(func(b *bundle) {
				b.spec.Linux.Resources.Unified = map[string]string{"nosuchcontroller.max": "1"}
			})},
			{lines: "734", says: "what cannot be converted from version 1 is an error", host: needsUnified, test: refusesWith(func(b *bundle) {
				b.spec.Linux.Resources.Network = &specs.LinuxNetwork{ClassID: pointer(uint32(1))}
			})},
		}},
	}
}

// deviceOpens opens a device that no container has by itself, the kernel's log, which everybody may open for writing, under one rule for it after the other.
func (x *trial) deviceOpens(allow []bool, want string) {
	b := x.bundle("(exec 3>/dev/x) 2>/dev/null && echo opened || echo refused")
	b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 1, Minor: 11, FileMode: pointer(os.FileMode(0o666))}}
	for _, allowed := range allow {
		b.spec.Linux.Resources.Devices = append(b.spec.Linux.Resources.Devices,
			specs.LinuxDeviceCgroup{Allow: allowed, Type: "c", Major: pointer(int64(1)), Minor: pointer(int64(11)), Access: "rwm"})
	}
	x.prints(b, want)
}

// frozenCgroup makes the control group beforehand, as somebody else might.
func frozenCgroup(x *trial) {
	b := x.bundle(sleeps)
	dir, file, frozen, thawed := filepath.Join(cgroupMount, "freezer", b.spec.Linux.CgroupsPath), "freezer.state", "FROZEN", "THAWED"
	if unified() {
		dir, file, frozen, thawed = filepath.Join(cgroupMount, b.spec.Linux.CgroupsPath), "cgroup.freeze", "1", "0"
	}
	x.noError(os.MkdirAll(dir, 0o755))
	x.noError(os.WriteFile(filepath.Join(dir, file), []byte(frozen), 0))
	x.cleanup(func() {
		if path := filepath.Join(dir, file); exists(path) {
			x.noError(os.WriteFile(path, []byte(thawed), 0))
			x.run("delete", "--force", b.id)
			_ = os.Remove(dir) // the runtime may have done it
		}
	})
	x.store(b)
	if res := x.run("create", "--bundle", b.dir, b.id); res.code == 0 {
		x.errorf("no error: %v", res)
	}
}

func cgroupPlace(x *trial) {
	b := x.bundle(sleeps)
	c := x.create(b)
	dir := filepath.Join(cgroupMount, "memory", b.spec.Linux.CgroupsPath)
	if unified() {
		dir = filepath.Join(cgroupMount, b.spec.Linux.CgroupsPath)
	}
	x.equal("processes in "+dir, strings.TrimSpace(x.read(filepath.Join(dir, "cgroup.procs"))), fmt.Sprint(c.pid))
}

// delegated gives a container with a user namespace its own control group, writable.
func delegated(x *trial) {
	b := x.mapped("stat -c %u /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/cgroup.threads /sys/fs/cgroup/cgroup.subtree_control")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	for i := range b.spec.Mounts {
		if b.spec.Mounts[i].Type == "cgroup" {
			b.spec.Mounts[i].Options = []string{"nosuid", "noexec", "nodev", "rw"}
		}
	}
	x.prints(b, "0\n0\n0\n")
}

// disk is the number of a block device that has a driver, as throttling needs.
func disk() string {
	numbers, _ := filepath.Glob("/sys/block/*/dev") // the pattern is fine
	for _, path := range numbers {
		if number, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(number))
		}
	}
	return ""
}

func needsDisk() string {
	if disk() == "" {
		return "no disk"
	}
	return needsController("blkio")()
}

func throttled(x *trial) {
	b := x.bundle(sleeps)
	var device specs.LinuxThrottleDevice
	_, err := fmt.Sscanf(disk(), "%d:%d", &device.Major, &device.Minor)
	x.noError(err)
	device.Rate = 1 << 30
	list := []specs.LinuxThrottleDevice{device}
	b.spec.Linux.Resources.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: list, ThrottleWriteBpsDevice: list, ThrottleReadIOPSDevice: list, ThrottleWriteIOPSDevice: list}
	x.create(b)
	for _, name := range []string{"read_bps", "write_bps", "read_iops", "write_iops"} {
		x.equal(name, x.cgroupFile(b, "blkio.throttle."+name+"_device"), fmt.Sprintf("%s %d", disk(), device.Rate))
	}
}
