package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// linuxSections are the rows of config-linux.md.
func linuxSections() []section {
	const document = "config-linux.md"
	sections := []section{
		{document, "Namespaces", []requirement{
			{lines: "29", says: "a namespace needs a type that there is", test: func(x *trial) {
				addNamespace := func(kind specs.LinuxNamespaceType) func(b *bundle) {
					return func(b *bundle) {
						b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
					}
				}
				refusesWith(addNamespace(""))(x)
				refusesWith(addNamespace("nonsense"))(x)
			}},
			{lines: "39", says: "a namespace's path is absolute: a relative one is an error", test: refusesWith(func(b *bundle) {
				b.spec.Linux.Namespaces[1].Path = "proc/self/ns/net"
			})},
			{lines: "40", says: "the container is placed in the namespace of the path", test: joinsNamespaces},
			{lines: "41", says: "a path to a namespace of another type is an error", test: refusesWith(func(b *bundle) {
				b.spec.Linux.Namespaces[1].Path = "/proc/self/ns/uts"
			})},
			{lines: "43", says: "without a path the namespace is new", test: newNamespaces(false)},
			{lines: "43", says: "without a path the namespace is new: that of time", since: "1.1.0", test: newNamespaces(true)},
			{lines: "45", says: "namespaces that are not listed are inherited", test: inheritsNamespaces},
			{lines: "46", says: "a type that is listed twice is an error", test: refusesWith(func(b *bundle) {
				b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace})
			})},
		}},
		{document, "User namespace mappings", []requirement{
			{lines: "88,89,90", says: "`containerID`, `hostID` and `size` are those of the mapping", test: func(x *trial) {
				b := x.mapped("tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map")
				b.spec.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 10, HostID: 200000, Size: 20}}
				x.prints(b, " 0 100000 65536\n 0 100000 10\n 10 200000 20\n")
			}},
		}},
		{document, "Devices", deviceRows()},
		{document, "Default Devices", defaultDeviceRows()},
		{document, "Network Devices", netDeviceRows()},
	}
	sections = append(sections, cgroupSections()...)
	sections = append(sections, section{document, "IntelRdt", rdtRows()},
		section{document, "Memory policy", []requirement{
			{lines: "826", says: "`mode` is needed, and one that there is", since: "1.3.0", test: func(x *trial) {
				for _, mode := range []specs.MemoryPolicyModeType{"", "MPOL_NONSENSE"} {
					b := x.bundle(sleeps)
					b.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode}
					x.refusesToRun(b)
				}
				b := x.bundle("echo ran")
				b.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "MPOL_DEFAULT"}
				x.prints(b, "ran\n")
			}},
		}})
	sections = append(sections, seccompSections()...)
	return append(sections,
		section{document, "Masked Paths", []requirement{
			{lines: "1068", says: "masked paths cannot be read", test: func(x *trial) {
				b := x.bundle("cat /etc/passwd; ls /var/www")
				b.spec.Linux.MaskedPaths = []string{"/etc/passwd", "/var/www"}
				x.prints(b, "")
			}},
			{lines: "1068", says: "masked paths are absolute: a relative one is an error", test: refusesWith(func(b *bundle) { b.spec.Linux.MaskedPaths = []string{"etc/passwd"} })},
		}},
		section{document, "Readonly Paths", []requirement{
			{lines: "1081", says: "read-only paths cannot be written", test: func(x *trial) {
				b := x.bundle("echo x 2>/dev/null > /var/www/x || echo refused; echo x > /tmp/x && echo fine")
				b.spec.Linux.ReadonlyPaths = []string{"/var/www"}
				x.prints(b, "refused\nfine\n")
			}},
			{lines: "1081", says: "read-only paths are absolute: a relative one is an error", test: refusesWith(func(b *bundle) { b.spec.Linux.ReadonlyPaths = []string{"var/www"} })},
		}},
		section{document, "Personality", []requirement{
			{lines: "1108", says: "`domain` is needed, and one that there is", since: "1.1.0", test: func(x *trial) {
				for _, domain := range []specs.LinuxPersonalityDomain{"", "NONSENSE"} {
					b := x.bundle(sleeps)
					b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: domain}
					x.refusesToRun(b)
				}
				b := x.bundle("cat /proc/self/personality")
				b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
				x.prints(b, "00000008\n")
			}},
		}})
}

// kindsOfNamespace are the types with the names that /proc has for them.
var kindsOfNamespace = []struct {
	kind specs.LinuxNamespaceType
	file string
}{
	{specs.NetworkNamespace, "net"}, {specs.IPCNamespace, "ipc"}, {specs.UTSNamespace, "uts"}, {specs.PIDNamespace, "pid"},
	{specs.CgroupNamespace, "cgroup"}, {specs.MountNamespace, "mnt"}, {specs.UserNamespace, "user"},
}

// joinsNamespaces leaves mount and user out, which cannot be joined like that.
func joinsNamespaces(x *trial) {
	owner := x.start(x.bundle(sleeps))
	for _, k := range kindsOfNamespace[:4] {
		b := x.bundle("readlink /proc/self/ns/" + k.file)
		b.spec.Linux.Sysctl = nil
		if k.kind == specs.UTSNamespace {
			b.spec.Hostname = ""
		}
		for i := range b.spec.Linux.Namespaces {
			if b.spec.Linux.Namespaces[i].Type == k.kind {
				b.spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", owner.pid, k.file)
			}
		}
		x.prints(b, x.namespace(owner.pid, k.file)+"\n")
	}
}

func newNamespaces(timed bool) func(x *trial) {
	return func(x *trial) {
		kinds := kindsOfNamespace
		b := x.mapped(sleeps)
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		if timed {
			kinds = kinds[:0:0]
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		}
		c := x.start(b)
		for _, k := range kinds {
			if x.namespace(c.pid, k.file) == x.namespace("self", k.file) {
				x.errorf("the %s namespace is not new", k.kind)
			}
		}
		if timed && x.namespace(c.pid, "time") == x.namespace("self", "time") {
			x.errorf("the time namespace is not new")
		}
	}
}

func inheritsNamespaces(x *trial) {
	b := x.bundle(sleeps)
	b.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	b.spec.Hostname, b.spec.Linux.Sysctl = "", nil
	c := x.start(b)
	for _, file := range []string{"net", "ipc", "uts", "cgroup", "user", "time"} {
		x.equal(file+" namespace", x.namespace(c.pid, file), x.namespace("self", file))
	}
}

func deviceRows() []requirement {
	device := func(b *bundle, d specs.LinuxDevice) { b.spec.Linux.Devices = append(b.spec.Linux.Devices, d) }
	return []requirement{
		{lines: "127,134", says: "devices are there at their paths, also outside of /dev", test: func(x *trial) {
			b := x.bundle("stat -c '%F %a %u %g' /dev/one /deep/two; head -c 3 /dev/one | wc -c")
			device(b, specs.LinuxDevice{Path: "/dev/one", Type: "c", Major: 1, Minor: 5, FileMode: pointer(os.FileMode(0o640)), UID: pointer(uint32(10)), GID: pointer(uint32(20))})
			device(b, specs.LinuxDevice{Path: "/deep/two", Type: "c", Major: 1, Minor: 3, FileMode: pointer(os.FileMode(0o666))})
			x.prints(b, "character special file 640 10 20\ncharacter special file 666 0 0\n3\n")
		}},
		{lines: "132", says: "`type` is c, b, u or p: another is an error", test: func(x *trial) {
			b := x.bundle("stat -c %F /dev/c /dev/u /dev/b /dev/p")
			mode := pointer(os.FileMode(0o666))
			device(b, specs.LinuxDevice{Path: "/dev/c", Type: "c", Major: 1, Minor: 3, FileMode: mode})
			device(b, specs.LinuxDevice{Path: "/dev/u", Type: "u", Major: 1, Minor: 5, FileMode: mode})
			device(b, specs.LinuxDevice{Path: "/dev/b", Type: "b", Major: 7, Minor: 200, FileMode: mode})
			device(b, specs.LinuxDevice{Path: "/dev/p", Type: "p", FileMode: mode})
			x.prints(b, "character special file\ncharacter special file\nblock special file\nfifo\n")
			refusesWith(func(b *bundle) {
				device(b, specs.LinuxDevice{Path: "/dev/x", Type: "x", Major: 1, Minor: 3, FileMode: mode})
			})(x)
		}},
		{lines: "134", says: "a device needs a path", test: refusesWith(func(b *bundle) {
			device(b, specs.LinuxDevice{Type: "c", Major: 1, Minor: 3})
		})},
		{lines: "135", says: "a file at the path that is not that device is an error", test: func(x *trial) {
			b := x.bundle(sleeps)
			x.write(filepath.Join(b.root, "taken"), "")
			device(b, specs.LinuxDevice{Path: "/taken", Type: "c", Major: 1, Minor: 3, FileMode: pointer(os.FileMode(0o666))})
			x.refuses(b)
		}},
		{lines: "137", says: "`major` and `minor` are the device's", test: func(x *trial) {
			b := x.bundle("stat -c '%t %T' /dev/one")
			device(b, specs.LinuxDevice{Path: "/dev/one", Type: "c", Major: 10, Minor: 200, FileMode: pointer(os.FileMode(0o666))})
			x.prints(b, "a c8\n")
		}},
	}
}

func defaultDeviceRows() []requirement {
	var rows []requirement
	for _, d := range []struct{ name, number string }{{"null", "1 3"}, {"zero", "1 5"}, {"full", "1 7"}, {"random", "1 8"}, {"urandom", "1 9"}, {"tty", "5 0"}} {
		rows = append(rows, requirement{lines: "180", says: "/dev/" + d.name, test: func(x *trial) {
			x.prints(x.bundle("stat -c '%F, %t %T' /dev/"+d.name), "character special file, "+d.number+"\n")
		}})
	}
	return append(rows,
		requirement{lines: "180", says: "/dev/console, the terminal, if there is to be one", test: func(x *trial) {
			said := x.onTerminal("stat -c %F /dev/console; echo written > /dev/console", func(*specs.Process) {})
			x.equal("output", said, "character special file\nwritten\n")
		}},
		requirement{lines: "180", says: "/dev/ptmx, that of the container's /dev/pts", test: func(x *trial) {
			x.prints(x.bundle("test /dev/ptmx -ef /dev/pts/ptmx && echo same"), "same\n")
		}})
}

// devLinks are the rows of runtime-linux.md.
func devLinks() section {
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
	s := section{document: "runtime-linux.md", title: "Dev symbolic links"}
	for _, name := range []string{"fd", "stdin", "stdout", "stderr"} {
		s.rows = append(s.rows, requirement{lines: "11", says: "/dev/" + name + " leads to " + links[name], test: func(x *trial) {
			x.prints(x.bundle("readlink /dev/"+name), links[name]+"\n")
		}})
	}
	return s
}

// inNetwork runs the bundle from within a new network namespace, which script prepares, and returns what it printed.
func (x *trial) inNetwork(b *bundle, script string) result {
	b.spec.Linux.Sysctl = nil
	x.store(b)
	return x.command(unshared(script + "; exec " + x.runtime + " --root " + x.root + " run --bundle " + b.dir + " " + b.id))
}

// netDeviceRows are the rows of linux.netDevices. The devices are pairs in a network namespace of the test's own.
func netDeviceRows() []requirement {
	const add = "set -e; ip link add test0 type veth peer name test1; ip address add 10.9.8.7/24 dev test0"
	moves := func(name, script, want string) func(x *trial) {
		return func(x *trial) {
			b := x.bundle(script)
			b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"test0": {Name: name}}
			if res := x.inNetwork(b, add); res.code != 0 || res.stdout != want {
				x.errorf("want %q, got %v", want, res)
			}
		}
	}
	rows := []requirement{
		{lines: "214", says: "network devices are there, by the names they are given", test: moves("inside", "ls /sys/class/net", "inside\nlo\n")},
		{lines: "224,226", says: "a name that the container's namespace has already is an error", test: func(x *trial) {
			b := x.bundle("echo ran")
			b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"test0": {Name: "lo"}}
			if res := x.inNetwork(b, add); res.code == 0 {
				x.errorf("no error: %v", res)
			}
			b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"missing": {}}
			if res := x.inNetwork(b, add); res.code == 0 {
				x.errorf("a device that is not there: no error: %v", res)
			}
		}},
		{lines: "228", says: "a name that ends in %d is completed", test: moves("in%d", "ls /sys/class/net", "in0\nlo\n")},
		{lines: "232", says: "permanent addresses of global scope are kept", test: moves("", "ip -o address show dev test0 | grep -o 'inet 10.9.8.7/24'", "inet 10.9.8.7/24\n")},
		{lines: "238", says: "the device is set up", test: moves("", "ip link show dev test0 | grep -o '[<,]UP[,>]' | tr -d '<,>'", "UP\n")},
		{lines: "244,251", says: "the device stays in its namespace when the container is deleted", test: netDeviceStays(add)},
	}
	for i := range rows {
		rows[i].since = "1.3.0"
	}
	return rows
}

// netDeviceStays moves a device to a namespace that somebody else holds.
func netDeviceStays(add string) func(x *trial) {
	return func(x *trial) {
		holder := x.background(unshared("exec sleep 1000"))
		b := x.bundle("ls /sys/class/net")
		b.spec.Linux.Namespaces[1].Path = fmt.Sprintf("/proc/%d/ns/net", holder)
		b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"test0": {Name: "inside"}}
		if res := x.inNetwork(b, add); res.code != 0 || res.stdout != "inside\nlo\n" {
			x.errorf("run: %v", res)
		}
		if devices := x.read(fmt.Sprintf("/proc/%d/net/dev", holder)); !strings.Contains(devices, "inside:") {
			x.errorf("the device is not in the namespace any more: %q", devices)
		}
	}
}

// rdtRows are the rows of linux.intelRdt.
func rdtRows() []requirement {
	const noMachine = "no machine of the tests has resctrl, and sandlock-runtime refuses `linux.intelRdt` where there is one, too: not implemented"
	return []requirement{
		{lines: "740", says: "without a mounted resctrl, `intelRdt` is an error", host: func() string {
			if mounts, err := os.ReadFile("/proc/mounts"); err != nil || strings.Contains(string(mounts), " resctrl ") {
				return "a mounted resctrl"
			}
			return ""
		}, test: refusesWith(func(b *bundle) {
			b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "test", L3CacheSchema: "L3:0=f"}
		})},
		skipped("739,747", "the container process is put into the class of `closID`", noMachine),
		skipped("742,765", "without `intelRdt` and schemata nothing there is touched", noMachine),
		skipped("753,754", "the form of the schemata", noMachine),
		skipped("757,759,761,763", "what is written to the file `schemata`, and in which order", noMachine),
		skipped("767,770,771,773", "which class's directory is used, made and compared", noMachine),
		skipped("775,777", "which class's directory is removed", noMachine),
		skipped("779,780,783,785", "the monitoring group", noMachine),
	}
}
