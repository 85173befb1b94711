package bundle

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestValidateErrors has one case for each refusal; TestValidateAccepts has the
// permitted twins.
func TestValidateErrors(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(*specs.Spec)
	}{
		{"ociVersion: missing", func(s *specs.Spec) { s.Version = "" }},
		{`ociVersion: unknown version "1.4.0", known are 1.0 to 1.3`, func(s *specs.Spec) { s.Version = "1.4.0" }},
		{`ociVersion: unknown version "2.0.0-rc1", known are 1.0 to 1.3`, func(s *specs.Spec) { s.Version = "2.0.0-rc1" }},
		{`ociVersion: "1.0" is not a version`, func(s *specs.Spec) { s.Version = "1.0" }},
		{`ociVersion: "1.0.x" is not a version`, func(s *specs.Spec) { s.Version = "1.0.x" }},

		{"windows: not supported by this version", func(s *specs.Spec) { s.Windows = &specs.Windows{} }},
		{"solaris: not supported by this version", func(s *specs.Spec) { s.Solaris = &specs.Solaris{} }},
		{"vm: not supported by this version", func(s *specs.Spec) { s.VM = &specs.VM{} }},
		{"zos: not supported by this version", func(s *specs.Spec) { s.ZOS = &specs.ZOS{} }},
		{"freebsd: not supported by this version", func(s *specs.Spec) { s.FreeBSD = &specs.FreeBSD{} }},
		{"linux.intelRdt: not supported by this version", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }},
		{`linux.memoryPolicy.mode: unknown mode ""`, func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} }},
		{"linux.memoryPolicy.nodes: MPOL_BIND needs at least one", func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind}
		}},
		{"linux.memoryPolicy.nodes: MPOL_LOCAL takes none", func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Nodes: "0"}
		}},
		{`linux.memoryPolicy.flags[0]: unknown flag "MPOL_F_X"`, func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{"MPOL_F_X"}}
		}},
		{`linux.memoryPolicy.nodes: "0-x" is no list of nodes such as 0-3,5`, func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0-x"}
		}},
		{`linux.personality.domain: unknown domain "", known are LINUX and LINUX32`, func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} }},
		{"linux.netDevices: needs a network namespace", all(without(specs.NetworkNamespace), netDevices(map[string]specs.LinuxNetDevice{"eth0": {}}))},
		{`linux.netDevices: "a/b" is not the name of a network device`, netDevices(map[string]specs.LinuxNetDevice{"a/b": {}})},
		{`linux.netDevices: "sixteen-letters-" is not the name of a network device`, netDevices(map[string]specs.LinuxNetDevice{"sixteen-letters-": {}})},
		{`linux.netDevices[eth0].name: ".." is not the name of a network device`, netDevices(map[string]specs.LinuxNetDevice{"eth0": {Name: ".."}})},
		{`linux.netDevices[eth1].name: "eth0" is that of eth0 already`, netDevices(map[string]specs.LinuxNetDevice{"eth0": {}, "eth1": {Name: "eth0"}})},
		{"linux.mountLabel: not supported by this version", func(s *specs.Spec) { s.Linux.MountLabel = "x" }},
		{"process.scheduler.policy: missing", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{} }},
		{"process.scheduler: invalid scheduler policy: SCHED_X", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_X"} }},
		{"process.scheduler.nice: 20 is not from -20 to 19", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 20}
		}},
		{"process.scheduler.priority: SCHED_OTHER has none, only SCHED_FIFO and SCHED_RR do", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Priority: 1}
		}},
		{"process.scheduler: runtime, deadline and period are SCHED_DEADLINE's alone", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Runtime: 1}
		}},
		{`process.ioPriority.class: unknown class ""`, func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{} }},
		{"process.ioPriority.priority: 8 is not from 0 to 7", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}},
		{`process.execCPUAffinity.final: "1-" is no list of CPUs such as 0-3,5`, func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1-"} }},
		{"annotations: an empty key", func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }},
		{"process.selinuxLabel: not supported by this version", func(s *specs.Spec) { s.Process.SelinuxLabel = "x" }},
		{"process.selinuxLabel: not supported by this version", func(s *specs.Spec) { s.Process.SelinuxLabel = "x" }},

		{"process: missing", func(s *specs.Spec) { s.Process = nil }},
		{"process.args: missing", func(s *specs.Spec) { s.Process.Args = nil }},
		{"process.args[0]: empty, expected the program to run", func(s *specs.Spec) { s.Process.Args = []string{""} }},
		{"process.cwd: missing", func(s *specs.Spec) { s.Process.Cwd = "" }},
		{`process.cwd: "tmp" is not absolute`, func(s *specs.Spec) { s.Process.Cwd = "tmp" }},
		{`process.env[1]: "B" has no "="`, func(s *specs.Spec) { s.Process.Env = []string{"A=1", "B"} }},
		{`process.env[0]: "=1" has no name before "="`, func(s *specs.Spec) { s.Process.Env = []string{"=1"} }},
		{"process.oomScoreAdj: 1001 is not from -1000 to 1000", func(s *specs.Spec) { s.Process.OOMScoreAdj = pointer(1001) }},
		{"process.consoleSize: 80 by 65536 is more than a terminal can have", func(s *specs.Spec) {
			s.Process.Terminal = true
			s.Process.ConsoleSize = &specs.Box{Width: 80, Height: 65536}
		}},
		{"process.user.uid: 4294967295 is reserved and no id", func(s *specs.Spec) { s.Process.User.UID = maxID }},
		{"process.user.gid: 4294967295 is reserved and no id", func(s *specs.Spec) { s.Process.User.GID = maxID }},
		{"process.user.additionalGids[1]: 4294967295 is reserved and no id", func(s *specs.Spec) {
			s.Process.User.AdditionalGids = []uint32{1, maxID}
		}},
		{"process.user.umask: 512 is more than 511 (octal 777)", func(s *specs.Spec) { s.Process.User.Umask = pointer(uint32(512)) }},
		{`process.rlimits[0].type: unknown resource "RLIMIT_FOO"`, func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FOO"}}
		}},
		{"process.rlimits[1].type: RLIMIT_CORE is given twice", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE"}}
		}},
		{"process.rlimits[0].soft: 2 is above the hard limit 1 of RLIMIT_CORE", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}}
		}},

		{"hostname: needs a uts namespace", all(without(specs.UTSNamespace), func(s *specs.Spec) { s.Hostname = "a" })},
		{"domainname: needs a uts namespace", all(without(specs.UTSNamespace), func(s *specs.Spec) { s.Domainname = "a" })},
		{"hostname: longer than 64 bytes", func(s *specs.Spec) { s.Hostname = string(make([]byte, 65)) }},

		{"mounts[0].destination: missing", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Type: "tmpfs"}} }},
		{"mounts[0].type: missing", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/x"}} }},
		{"mounts[0].source: missing", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Options: []string{"rbind"}}}
		}},
		{"mounts[0].uidMappings[0].size: 0, expected at least 1", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Source: "/s", Options: []string{"bind"}, UIDMappings: []specs.LinuxIDMapping{{}}}}
		}},
		{"mounts[0].gidMappings[1]: container ids overlap those of mounts[0].gidMappings[0]", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Source: "/s", Options: []string{"bind"}, UIDMappings: oneToOne, GIDMappings: append(oneToOne, oneToOne...)}}
		}},

		{"hooks.poststop[0].path: missing", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{}}} }},
		{`hooks.createRuntime[1].path: "b" is not absolute`, func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/a"}, {Path: "b"}}}
		}},
		{"hooks.poststart[0].timeout: 0, expected seconds above 0", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/a", Timeout: pointer(0)}}}
		}},
		{`hooks.startContainer[0].env[0]: "A" has no "="`, func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/a", Env: []string{"A"}}}}
		}},

		{"linux.namespaces[6].type: pid is given twice", with(specs.PIDNamespace, "")},
		{"linux.namespaces[6].type: missing", with("", "")},
		{`linux.namespaces[6].type: unknown namespace "net"`, with("net", "")},
		{`linux.namespaces[6].path: "proc/1/ns/user" is not absolute`, with(specs.UserNamespace, "proc/1/ns/user")},

		{"linux.uidMappings: needs a user namespace", mappings(oneToOne, nil)},
		{"linux.gidMappings: needs a user namespace", mappings(nil, oneToOne)},
		{"linux.uidMappings: missing, the new user namespace needs it", with(specs.UserNamespace, "")},
		{"linux.gidMappings: missing, the new user namespace needs it", all(with(specs.UserNamespace, ""), mappings(oneToOne, nil))},
		{"linux.uidMappings[0].size: 0, expected at least 1", all(with(specs.UserNamespace, ""),
			mappings([]specs.LinuxIDMapping{{}}, oneToOne))},
		{"linux.uidMappings: no mapping for container id 0", all(with(specs.UserNamespace, ""),
			mappings([]specs.LinuxIDMapping{{ContainerID: 1, Size: 1}}, oneToOne))},
		{"linux.uidMappings[1]: container ids overlap those of linux.uidMappings[0]", all(with(specs.UserNamespace, ""),
			mappings([]specs.LinuxIDMapping{{Size: 10}, {ContainerID: 9, HostID: 100, Size: 1}}, oneToOne))},
		{"linux.uidMappings[1]: host ids overlap those of linux.uidMappings[0]", all(with(specs.UserNamespace, ""),
			mappings([]specs.LinuxIDMapping{{Size: 10}, {ContainerID: 10, HostID: 9, Size: 1}}, oneToOne))},
		{"linux.uidMappings[0]: host ids run past 4294967294", all(with(specs.UserNamespace, ""),
			mappings([]specs.LinuxIDMapping{{HostID: 2, Size: maxID - 1}}, oneToOne))},
		{"linux.uidMappings: more than 340 mappings", all(with(specs.UserNamespace, ""),
			mappings(make([]specs.LinuxIDMapping, 341), oneToOne))},

		{"linux.timeOffsets: needs a time namespace", func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}},
		{`linux.timeOffsets: unknown clock "realtime", known are monotonic and boottime`, all(with(specs.TimeNamespace, ""), func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {Secs: 1}}
		})},
		{"linux.timeOffsets.boottime.nanosecs: 1000000000 is a second or more", all(with(specs.TimeNamespace, ""), func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Nanosecs: 1e9}}
		})},
		{"linux.timeOffsets: the time namespace /proc/1/ns/time has offsets already", all(with(specs.TimeNamespace, "/proc/1/ns/time"), func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		})},

		{`linux.maskedPaths[0]: "proc/x" is not absolute`, func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"proc/x"} }},
		{`linux.readonlyPaths[1]: "" is not absolute`, func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/x", ""} }},
		{"linux.maskedPaths: needs a mount namespace", all(without(specs.MountNamespace), func(s *specs.Spec) {
			s.Linux.MaskedPaths = []string{"/x"}
		})},
		{`linux.rootfsPropagation: unknown value "public", known are private, slave, shared, unbindable, each also with r before it`,
			func(s *specs.Spec) { s.Linux.RootfsPropagation = "public" }},

		{`linux.sysctl["vm.swappiness"]: belongs to no namespace, it would change the host`, sysctl("vm.swappiness", "1")},
		{`linux.sysctl["kernel.hostname"]: set the field hostname instead`, sysctl("kernel.hostname", "1")},
		{`linux.sysctl: "net.ipv4..x" is not the name of a sysctl`, sysctl("net.ipv4..x", "1")},
		{`linux.sysctl: "net/../kernel/core_pattern" is not the name of a sysctl`, sysctl("net/../kernel/core_pattern", "1")},
		{`linux.sysctl: "net.//.kernel.core_pattern" is not the name of a sysctl`, sysctl("net.//.kernel.core_pattern", "1")},
		{`linux.sysctl["kernel.msgmax"]: needs an ipc namespace`, all(without(specs.IPCNamespace), sysctl("kernel.msgmax", "1"))},
		{`linux.sysctl["fs.mqueue.msg_max"]: needs an ipc namespace`, all(without(specs.IPCNamespace), sysctl("fs.mqueue.msg_max", "1"))},
		{`linux.sysctl["kernel.domainname"]: needs a uts namespace`, all(without(specs.UTSNamespace), sysctl("kernel.domainname", "1"))},
		{`linux.sysctl["user.max_user_namespaces"]: needs a user namespace`, sysctl("user.max_user_namespaces", "1")},
		{`linux.sysctl["net.ipv4.ip_forward"]: needs a network namespace`, all(without(specs.NetworkNamespace), sysctl("net.ipv4.ip_forward", "1"))},
		{`linux.sysctl["net.ipv4.ip_forward"]: the network namespace is the host's`,
			all(without(specs.NetworkNamespace), with(specs.NetworkNamespace, "/proc/self/ns/net"), sysctl("net.ipv4.ip_forward", "1"))},
		{`linux.sysctl["net.ipv4.ip_forward"]: stat /nonexistent: no such file or directory`,
			all(without(specs.NetworkNamespace), with(specs.NetworkNamespace, "/nonexistent"), sysctl("net.ipv4.ip_forward", "1"))},

		{"linux.devices[0].path: missing", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Type: "c"}} }},
		{`linux.devices[0].path: "dev/x" is not absolute`, func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "dev/x", Type: "c"}} }},
		{"linux.devices[0].type: missing", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x"}} }},
		{`linux.devices[0].type: unknown device type "d", known are c, u, b, p`, func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "d"}}
		}},
		{"linux.devices[0].major: -1 is not a device number", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "b", Major: -1}}
		}},
		{"linux.resources.devices[0].access: missing", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{}}}
		}},
		{`linux.resources.devices[0].access: "rwx" has letters other than r, w and m`, func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwx"}}}
		}},
		{`linux.resources.devices[0].type: unknown device type "u", known are a, b, c`, func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "u", Access: "r"}}}
		}},
		{"linux.resources.devices[0].minor: -2 is not a device number", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "r", Minor: pointer(int64(-2))}}}
		}},
		{"linux.resources.memory.swappiness: 101 is above 100", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: pointer(uint64(101))}}
		}},
		{`linux.resources.cpu.cpus: "3-1" is not a list like 0-3,5`, func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "3-1"}}
		}},
		{`linux.resources.cpu.mems: "a" is not a list like 0-3,5`, func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Mems: "a"}}
		}},
		{`linux.resources.unified: "../memory.max" is not the name of a cgroup file`, func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Unified: map[string]string{"../memory.max": "1"}}
		}},

		{"linux.seccomp.listenerMetadata: given without listenerPath", seccomp(func(p *specs.LinuxSeccomp) { p.ListenerMetadata = "x" })},
		{"linux.seccomp.defaultAction: missing", seccomp(func(p *specs.LinuxSeccomp) { p.DefaultAction = "" })},
		{`linux.seccomp.defaultAction: unknown action "DENY"`, seccomp(func(p *specs.LinuxSeccomp) { p.DefaultAction = "DENY" })},
		{"linux.seccomp.defaultErrnoRet: 4096 is above 4095", seccomp(func(p *specs.LinuxSeccomp) { p.DefaultErrnoRet = pointer(uint(4096)) })},
		{`linux.seccomp.architectures[0]: unknown architecture "amd64"`, seccomp(func(p *specs.LinuxSeccomp) { p.Architectures = []specs.Arch{"amd64"} })},
		{`linux.seccomp.flags[0]: unknown flag "X"`, seccomp(func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{"X"} })},
		{"linux.seccomp.syscalls[0].names: missing", seccomp(func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = nil })},
		{"linux.seccomp.syscalls[0].names[1]: empty", seccomp(func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = []string{"a", ""} })},
		{"linux.seccomp.syscalls[0].action: missing", seccomp(func(p *specs.LinuxSeccomp) { p.Syscalls[0].Action = "" })},
		{"linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY: needs linux.seccomp.listenerPath", seccomp(func(p *specs.LinuxSeccomp) {
			p.Syscalls[0].Action = specs.ActNotify
		})},
		{"linux.seccomp.syscalls[0].errnoRet: 5000 is above 4095", seccomp(func(p *specs.LinuxSeccomp) { p.Syscalls[0].ErrnoRet = pointer(uint(5000)) })},
		{"linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_KILL_PROCESS has no error number", seccomp(func(p *specs.LinuxSeccomp) {
			p.Syscalls[0].Action, p.Syscalls[0].ErrnoRet = specs.ActKillProcess, pointer(uint(1))
		})},
		{"linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW has no error number", seccomp(func(p *specs.LinuxSeccomp) {
			p.DefaultAction, p.DefaultErrnoRet = specs.ActAllow, pointer(uint(1))
		})},
		{"linux.seccomp.syscalls[0].args[0].index: 6, expected 0 to 5", seccomp(func(p *specs.LinuxSeccomp) {
			p.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}
		})},
		{`linux.seccomp.syscalls[0].args[0].op: unknown operator "=="`, seccomp(func(p *specs.LinuxSeccomp) {
			p.Syscalls[0].Args = []specs.LinuxSeccompArg{{Op: "=="}}
		})},
	} {
		t.Run(test.want, func(t *testing.T) {
			_, err := Validate(parsed(t, test.change))
			wantError(t, err, test.want)
		})
	}
}

func TestValidateAccepts(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"1.0.0-rc5":    func(s *specs.Spec) { s.Version = "1.0.0-rc5" },
		"1.0.2-dev":    func(s *specs.Spec) { s.Version = "1.0.2-dev" },
		"1.3.0+dev":    func(s *specs.Spec) { s.Version = "1.3.0+dev" },
		"no linux":     func(s *specs.Spec) { s.Linux = nil },
		"names":        func(s *specs.Spec) { s.Hostname, s.Domainname = "a", "b" },
		"console size": func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 1 << 20} },
		"env":          func(s *specs.Spec) { s.Process.Env = []string{"A=", "B=c=d"} },
		"rlimit": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 1}}
		},
		"net devices {}": func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{} },
		"user namespace": all(with(specs.UserNamespace, ""), mappings(oneToOne, oneToOne)),
		"all ids": all(with(specs.UserNamespace, ""),
			mappings([]specs.LinuxIDMapping{{Size: maxID}}, oneToOne)),
		"joined user namespace": with(specs.UserNamespace, "/proc/1/ns/user"),
		"time namespace": all(with(specs.TimeNamespace, ""), func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: -5, Nanosecs: 999_999_999}}
		}),
		"masked":         func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/proc/kcore"} },
		"propagation":    func(s *specs.Spec) { s.Linux.RootfsPropagation = "rslave" },
		"sysctl net":     sysctl("net.ipv4.conf.eth0/1.rp_filter", "1"),
		"sysctl slashes": sysctl("net/ipv4/ip_forward", "1"),
		"sysctl mqueue":  sysctl("fs.mqueue.msg_max", "1"),
		"sysctl sem":     sysctl("kernel.sem", "1 2 3 4"),
		"sysctl domain":  sysctl("kernel.domainname", "x"),
		"sysctl user":    all(with(specs.UserNamespace, ""), mappings(oneToOne, oneToOne), sysctl("user.max_user_namespaces", "1")),
		"fifo":           func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/p", Type: "p"}} },
		"cpus": func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-3,5,8-15:2/4"}}
		},
		"unified": func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}
		},
		"empty seccomp": func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{} },
		"seccomp errno": seccomp(func(p *specs.LinuxSeccomp) {
			p.Syscalls[0].Action, p.Syscalls[0].ErrnoRet = specs.ActErrno, pointer(uint(38))
		}),
		"seccomp without an errno": seccomp(func(p *specs.LinuxSeccomp) { p.Syscalls[0].ErrnoRet = pointer(uint(0)) }),
		"seccomp flag":             seccomp(func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{flagTsync} }),
		"hook": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/a", Timeout: pointer(1)}}}
		},
		"remount no type": func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/", Options: []string{"remount", "ro"}}} },
	} {
		t.Run(name, func(t *testing.T) {
			warnings, err := Validate(parsed(t, change))
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != 0 {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

func TestValidateWarnings(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(*specs.Spec)
	}{
		{`mounts[0].destination: "tmp/../x" is not absolute, taken from the container's root`, func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "tmp/../x", Type: "tmpfs"}}
		}},
		{"linux.resources.memory: kernel memory limits are ignored, as the kernel does", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{KernelTCP: pointer(int64(1))}}
		}},
		{"linux.gidMappings: ignored, the user namespace /proc/1/ns/user has mappings already",
			all(with(specs.UserNamespace, "/proc/1/ns/user"), mappings(nil, oneToOne))},
		{`process.capabilities.bounding[1]: unknown capability "CAP_FUTURE": left out`, func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_FUTURE"}, Effective: []string{"CAP_FUTURE"}}
		}},
		{`process.capabilities.bounding[0]: unknown capability "cap_kill": left out`, func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"cap_kill"}}
		}},
	} {
		t.Run(test.want, func(t *testing.T) {
			spec := parsed(t, test.change)
			warnings, err := Validate(spec)
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != 1 || warnings[0] != test.want {
				t.Errorf("warnings %q", warnings)
			}
			for _, mount := range spec.Mounts {
				if mount.Destination != "/x" {
					t.Errorf("destination %q was not made absolute", mount.Destination)
				}
			}
		})
	}
}

func TestSysctlPath(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.conf.eno2/100.rp_filter": "net/ipv4/conf/eno2.100/rp_filter",
		"net/ipv4/conf/eno2.100/rp_filter": "net/ipv4/conf/eno2.100/rp_filter",
		"kernel.sem":                       "kernel/sem",
		"x":                                "x",
		"":                                 "", "/x": "", "net/..": "", ".": "", "net..x": "",
	} {
		got, err := SysctlPath(name)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestCapability(t *testing.T) {
	if c, known := Capability("CAP_SYS_ADMIN"); !known || int(c) != 21 {
		t.Errorf("CAP_SYS_ADMIN is %d, %t", c, known)
	}
	if _, known := Capability("SYS_ADMIN"); known {
		t.Error("SYS_ADMIN is known without its prefix")
	}
}

func TestLoadProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "process.json")
	for _, test := range []struct{ content, want string }{
		{`{"args": ["sh"], "cwd": "/", "user": {}}`, ""},
		{`{"args": "sh"}`, "args: expected array, found string"},
		{`{"args": ["sh"], "cwd": "tmp"}`, `cwd: "tmp" is not absolute`},
		{`{"args": []}`, "args: missing"},
		{`null`, "expected object, found null"},
	} {
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		process, _, err := LoadProcess(file)
		if test.want == "" {
			if err != nil || process.Args[0] != "sh" {
				t.Errorf("%s: %v, %v", test.content, process, err)
			}
			continue
		}
		wantError(t, err, file+": "+test.want)
	}
}

// Whatever a sysctl is called, its file is beneath /proc/sys, and is the same file when it is written with slashes.
func FuzzSysctlPath(f *testing.F) {
	for _, name := range []string{"net.ipv4.ip_forward", "net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter", "..", "a/../b", ".", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		file, err := SysctlPath(name)
		if err != nil {
			return
		}
		if !filepath.IsLocal(file) || path.Clean(file) != file {
			t.Errorf("%q: %q", name, file)
		}
		if again, err := SysctlPath(file); strings.Contains(file, "/") && strings.IndexAny(file, "./") == strings.IndexByte(file, '/') && (err != nil || again != file) {
			t.Errorf("%q: %q, then %q (%v)", name, file, again, err)
		}
	})
}
