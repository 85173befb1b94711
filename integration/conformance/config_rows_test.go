package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// configSections are the rows of config.md.
func configSections() []section {
	const document = "config.md"
	return []section{
		{document, "Specification version", []requirement{
			{lines: "17", says: "`ociVersion` is needed, and in the format of SemVer 2.0.0: another value is an error", test: func(x *trial) {
				for _, version := range []string{"", "one", "1.0"} {
					b := x.bundle(sleeps)
					b.spec.Version = version
					x.store(b)
					x.fails("create", "--bundle", b.dir, b.id)
					x.run("delete", "--force", b.id)
				}
			}},
		}},
		{document, "Root", []requirement{
			skipped("30,31,36,44", "`root` and its fields on Windows", otherPlatform),
			{lines: "33", says: "`root` is needed", test: refusesWith(func(b *bundle) { b.spec.Root = nil })},
			{lines: "35", says: "`root.path` is needed", test: refusesWith(func(b *bundle) { b.spec.Root.Path = "" })},
			{lines: "41", says: "a directory exists at `root.path`", test: func(x *trial) {
				refusesWith(func(b *bundle) { b.spec.Root.Path = "/no/such/root" })(x)
				refusesWith(func(b *bundle) { b.spec.Root.Path = "/etc/passwd" })(x)
			}},
			{lines: "43", says: "`root.readonly` makes the root read-only; without it it is writable", test: func(x *trial) {
				b := x.bundle("touch /x 2>/dev/null && echo writable || echo read-only")
				x.prints(b, "writable\n")
				b.spec.Root.Readonly = true
				x.prints(b, "read-only\n")
			}},
		}},
		{document, "Mounts", []requirement{
			{lines: "66", says: "mounts are made in the listed order", test: mountsInOrder},
			{lines: "70", says: "a mount needs a `destination`", test: refusesWith(func(b *bundle) { b.mount("", "tmpfs", "tmpfs") })},
			{lines: "72,78", says: "a relative `destination` is taken as relative to /", test: func(x *trial) {
				b := x.bundle("cd /tmp; grep -c ' /m ' /proc/self/mountinfo")
				b.spec.Process.Cwd = "/tmp"
				b.mount("m", "tmpfs", "tmpfs")
				x.prints(b, "1\n")
			}},
			skipped("74,75,76,87", "mounts on Windows and Solaris", otherPlatform),
		}},
		{document, "Linux mount options", append(optionRows(), idmapRows()...)},
		{document, "Process", processRows()},
		{document, "Linux process", []requirement{
			{lines: "289", says: "a capability that cannot be granted or is not known is warned of", test: unknownCapability},
			{lines: "303", says: "`oomScoreAdj` is set", test: func(x *trial) {
				b := x.bundle("cat /proc/self/oom_score_adj")
				b.spec.Process.OOMScoreAdj = pointer(123)
				x.prints(b, "123\n")
			}},
			{lines: "304", says: "without `oomScoreAdj` the value is left as it is", test: func(x *trial) {
				x.prints(x.bundle("cat /proc/self/oom_score_adj"), x.read("/proc/self/oom_score_adj"))
			}},
			{lines: "310", says: "`scheduler.policy` is set; an unknown one is an error", since: "1.1.0", test: schedulerPolicy},
			{lines: "341,342", says: "`ioPriority` is set; an unknown class is an error", since: "1.1.0", test: ioPriority},
		}},
		{document, "User", []requirement{
			{lines: "370,371", says: "`uid` and `gid` are those in the container's namespace", test: func(x *trial) {
				b := x.bundle("id -u; id -g")
				b.spec.Process.User = specs.User{UID: 1000, GID: 2000}
				x.prints(b, "1000\n2000\n")
				b = x.mapped("id -u; id -g")
				b.spec.Process.User = specs.User{UID: 1000, GID: 2000}
				x.prints(b, "1000\n2000\n")
			}},
		}},
		{document, "Platform-specific configuration", []requirement{
			skipped("530", "`windows` on Windows", otherPlatform),
		}},
		{document, "POSIX-platform hooks", hookRows()},
		{document, "Annotations", []requirement{
			{lines: "720", says: "annotations are a map: something else is an error", test: refusesJSON("annotations", []string{"key"})},
			{lines: "723", says: "keys are strings, as all of JSON's are", test: annotationsReported},
			{lines: "724", says: "an empty key is an error", test: refusesJSON("annotations", map[string]any{"": "value"})},
			skipped("727,740", "keys in `org.opencontainers` are as the specification describes them", "binds who writes annotations, and later specifications"),
			skipped("731,732,733,734,735,736,737,738", "values of the `org.opencontainers.image` keys", "binds who turns an image into a bundle; the runtime hands them on as they are"),
			{lines: "741", says: "unknown keys are ignored", test: func(x *trial) {
				b := x.bundle("echo ran")
				b.spec.Annotations = map[string]string{"org.example.unknown": "value", "org.opencontainers.unknown": "value"}
				x.prints(b, "ran\n")
			}},
			{lines: "743", says: "values are strings: another is an error", test: refusesJSON("annotations", map[string]any{"key": 1})},
		}},
		{document, "Extensibility", []requirement{
			{lines: "754", says: "unknown properties are ignored", test: func(x *trial) {
				b := x.bundle("echo ran")
				x.storeChanged(b, func(config map[string]any) {
					config["unknown"] = map[string]any{"a": 1}
					config["process"].(map[string]any)["unknown"] = []string{"a"}
					config["linux"].(map[string]any)["unknown"] = true
				})
				x.equal("output", x.runsStored(b), "ran\n")
			}},
		}},
		{document, "Valid values", []requirement{
			{lines: "759", says: "invalid and unsupported values are errors", test: invalidValues},
		}},
	}
}

// refusesWith fails unless create generates an error for a bundle so changed.
func refusesWith(change func(b *bundle)) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		change(b)
		x.refuses(b)
	}
}

// refusesJSON fails unless create generates an error for a property with that value.
func refusesJSON(property string, value any) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		x.storeChanged(b, func(config map[string]any) { config[property] = value })
		x.refusesStored(b)
	}
}

func mountsInOrder(x *trial) {
	source := x.tempDir()
	x.write(filepath.Join(source, "file"), "bound\n")
	b := x.bundle("cat /m/inner/file; ls /n")
	b.mount("/m", "tmpfs", "tmpfs")
	b.mount("/m/inner", "bind", source, "bind")
	b.mount("/n/inner", "bind", source, "bind")
	b.mount("/n", "tmpfs", "tmpfs") // over the one before
	x.prints(b, "bound\n")
}

// mapped is a bundle with a user namespace, whose files belong to its root.
func (x *trial) mapped(script string) *bundle {
	const first, size = 100000, 65536
	b := x.bundle(script)
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: size}}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = mapping, mapping
	b.spec.Linux.Sysctl = nil
	// Only the directories: the files are shared with other trials.
	x.noError(filepath.WalkDir(b.root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Lchown(path, first, first)
		}
		return err
	}))
	return b
}

func annotationsReported(x *trial) {
	b := x.bundle(sleeps)
	b.spec.Annotations = map[string]string{"org.example.key": "value", "plain": ""}
	state := x.state(x.create(b).id)
	x.equal("annotation", state.Annotations["org.example.key"], "value")
}

func invalidValues(x *trial) {
	for name, change := range map[string]func(config map[string]any){
		"process is a string": func(config map[string]any) { config["process"] = "sh" },
		"args is a string":    func(config map[string]any) { config["process"].(map[string]any)["args"] = "sh" },
		"a negative uid":      func(config map[string]any) { config["process"].(map[string]any)["user"] = map[string]any{"uid": -1} },
		"root is an array":    func(config map[string]any) { config["root"] = []string{} },
		"linux is a number":   func(config map[string]any) { config["linux"] = 1 },
		"a filesystem nobody knows": func(config map[string]any) {
			config["mounts"] = []any{map[string]any{"destination": "/m", "type": "nosuchfs", "source": "x"}}
		},
		"a propagation nobody knows": func(config map[string]any) {
			config["linux"].(map[string]any)["rootfsPropagation"] = "nonsense"
		},
	} {
		b := x.bundle(sleeps)
		x.storeChanged(b, change)
		if res := x.run("create", "--bundle", b.dir, b.id); res.code == 0 {
			x.errorf("%s: no error", name)
			x.run("delete", "--force", b.id)
		}
	}
}

func unknownCapability(x *trial) {
	b := x.bundle("grep CapBnd /proc/self/status")
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_NO_SUCH_CAPABILITY"}}
	x.store(b)
	log := filepath.Join(b.dir, "log")
	res := x.run("--log", log, "run", "--bundle", b.dir, b.id)
	if res.code != 0 {
		x.fatalf("run: %v", res)
	}
	x.equal("output", res.stdout, "CapBnd:\t0000000000000020\n")
	said := res.stderr
	if exists(log) {
		said += x.read(log)
	}
	if !strings.Contains(said, "CAP_NO_SUCH_CAPABILITY") {
		x.errorf("no warning names the capability: %q", said)
	}
}

func schedulerPolicy(x *trial) {
	b := x.bundle("cut -d' ' -f41 /proc/self/stat")
	b.spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch}
	x.prints(b, fmt.Sprintf("%d\n", unix.SCHED_BATCH))
	b.spec.Process.Scheduler.Policy = "SCHED_NONSENSE"
	x.refusesToRun(b)
}

func ioPriority(x *trial) {
	b := x.bundle("ionice -p $$")
	b.spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	x.prints(b, "best-effort: prio 6\n")
	b.spec.Process.IOPriority.Class = "IOPRIO_CLASS_NONSENSE"
	x.refusesToRun(b)
}

// processRows are the rows of process.
func processRows() []requirement {
	process := func(change func(p *specs.Process)) func(x *trial) {
		return func(x *trial) {
			b := x.bundle(sleeps)
			change(b.spec.Process)
			x.refusesToRun(b)
		}
	}
	return []requirement{
		{lines: "240", says: "`process` is needed when start is called", test: func(x *trial) {
			b := x.bundle("")
			b.spec.Process = nil
			x.refusesToRun(b)
		}},
		{lines: "245", says: "`consoleSize` is ignored without `terminal`", test: func(x *trial) {
			b := x.bundle("echo ran")
			b.spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77}
			x.prints(b, "ran\n")
		}},
		{lines: "246,247", says: "`consoleSize` is the terminal's height and width", test: func(x *trial) {
			x.equal("output", x.onTerminal("stty size", func(p *specs.Process) { p.ConsoleSize = &specs.Box{Height: 33, Width: 77} }), "33 77\n")
		}},
		{lines: "248", says: "`cwd` is needed, and set", test: func(x *trial) {
			process(func(p *specs.Process) { p.Cwd = "" })(x)
			b := x.bundle("pwd")
			b.spec.Process.Cwd = "/var/www"
			x.prints(b, "/var/www\n")
		}},
		{lines: "249", says: "a relative `cwd` is an error", test: process(func(p *specs.Process) { p.Cwd = "tmp" })},
		{lines: "252", says: "`args` has an entry, which is found as execvp does", test: func(x *trial) {
			process(func(p *specs.Process) { p.Args = nil })(x)
			b := x.bundle("")
			b.spec.Process.Args = []string{"echo", "found"}
			x.prints(b, "found\n")
		}},
		{lines: "264", says: "an rlimit needs a type", test: process(func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Soft: 1, Hard: 1}} })},
		{lines: "268", says: "an rlimit that the kernel does not have is an error", test: process(func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONSENSE", Soft: 1, Hard: 1}}
		})},
		{lines: "269", says: "the container can ask for each rlimit that is set", test: rlimits},
		{lines: "272,273", says: "the soft limit is the configured one", test: rlimits},
		{lines: "274,275", says: "the hard limit is the configured one", test: rlimits},
		{lines: "278", says: "an rlimit that is given twice is an error", test: process(func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}, {Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}}
		})},
	}
}

// rlimits sets each of the limits that the specification lists, to values that are not above those that the test has.
func rlimits(x *trial) {
	names := []string{"AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"}
	titles := map[string]string{"AS": "Max address space", "CORE": "Max core file size", "CPU": "Max cpu time", "DATA": "Max data size", "FSIZE": "Max file size",
		"LOCKS": "Max file locks", "MEMLOCK": "Max locked memory", "MSGQUEUE": "Max msgqueue size", "NICE": "Max nice priority", "NOFILE": "Max open files",
		"NPROC": "Max processes", "RSS": "Max resident set", "RTPRIO": "Max realtime priority", "RTTIME": "Max realtime timeout", "SIGPENDING": "Max pending signals", "STACK": "Max stack size"}
	b := x.bundle("cat /proc/self/limits")
	want := map[string][2]uint64{}
	for i, name := range names {
		soft, hard := uint64(1<<30+i), uint64(1<<31+i)
		switch name {
		case "NICE", "RTPRIO", "NOFILE", "NPROC":
			soft, hard = uint64(10+i), uint64(12+i)
		}
		soft, hard = x.belowOwn(name, soft, hard)
		want[name] = [2]uint64{soft, hard}
		b.spec.Process.Rlimits = append(b.spec.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + name, Soft: soft, Hard: hard})
	}
	said := x.runs(b)
	for _, name := range names {
		_, rest, found := strings.Cut(said, titles[name])
		fields := strings.Fields(rest)
		if !found || len(fields) < 2 {
			x.errorf("no limit %s", name)
			continue
		}
		x.equal("RLIMIT_"+name, fields[0]+" "+fields[1], fmt.Sprintf("%d %d", want[name][0], want[name][1]))
	}
}

// belowOwn lowers a limit to the test's own, where it may not be able to raise it.
func (x *trial) belowOwn(name string, soft, hard uint64) (uint64, uint64) {
	numbers := map[string]int{"AS": 9, "CORE": 4, "CPU": 0, "DATA": 2, "FSIZE": 1, "LOCKS": 10, "MEMLOCK": 8, "MSGQUEUE": 12, "NICE": 13, "NOFILE": 7, "NPROC": 6,
		"RSS": 5, "RTPRIO": 14, "RTTIME": 15, "SIGPENDING": 11, "STACK": 3} // asm-generic/resource.h
	var own unix.Rlimit
	x.noError(unix.Getrlimit(numbers[name], &own))
	hard = min(hard, own.Max)
	return min(soft, hard), hard
}
