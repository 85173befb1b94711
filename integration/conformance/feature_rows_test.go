package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// featureSections are the rows of features.md and features-linux.md.
func featureSections() []section {
	const document, linux = "features.md", "features-linux.md"
	return []section{
		{document, "Features Structure", []requirement{
			skipped("10", "null is not an empty value", "binds who reads the structure"),
		}},
		{document, "Specification version", []requirement{
			{lines: "14,15", says: "`ociVersionMin` is there, and accepted in config.json", test: acceptsVersion(func(f *features.Features) string { return f.OCIVersionMin })},
			{lines: "17,18", says: "`ociVersionMax` is there, and accepted in config.json", test: acceptsVersion(func(f *features.Features) string { return f.OCIVersionMax })},
			{lines: "19", says: "`ociVersionMax` is not less than `ociVersionMin`", test: func(x *trial) {
				f := x.features()
				if slices.Compare(x.version(f.OCIVersionMax), x.version(f.OCIVersionMin)) < 0 {
					x.errorf("%s is less than %s", f.OCIVersionMax, f.OCIVersionMin)
				}
			}},
			{lines: "20", says: "no property is there that the specification does not define", test: func(x *trial) {
				decoder := json.NewDecoder(strings.NewReader(x.must("features")))
				decoder.DisallowUnknownFields()
				x.noError(decoder.Decode(&features.Features{}))
			}},
		}},
		{document, "Hooks", []requirement{{lines: "32", says: "all of `hooks` are supported in config.json", test: listedHooks}}},
		{document, "Mount Options", []requirement{{lines: "49", says: "all of `mountOptions` are recognised in config.json", test: listedOptions}}},
		{document, "Annotations", []requirement{{lines: "131", says: "`annotations` is a map of strings without an empty key", test: func(x *trial) {
			if _, found := x.features().Annotations[""]; found {
				x.errorf("there is an empty key")
			}
		}}}},
		{linux, "Namespaces", []requirement{{lines: "8", says: "all of `namespaces` are recognised in config.json", test: func(x *trial) {
			for _, kind := range x.features().Linux.Namespaces {
				b := x.bundle("true")
				if kind == "user" {
					b = x.mapped("true")
				} else if !slices.ContainsFunc(b.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return string(n.Type) == kind }) {
					b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind)})
				}
				x.runs(b)
			}
		}}}},
		{linux, "Capabilities", []requirement{{lines: "27", says: "all of `capabilities` are recognised in config.json", test: func(x *trial) {
			b := x.bundle("grep CapBnd /proc/self/status")
			list := x.features().Linux.Capabilities
			b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: list}
			x.prints(b, fmt.Sprintf("CapBnd:\t%016x\n", (uint64(1)<<len(list)-1)&x.bounding()))
		}}}},
		{linux, "Seccomp", []requirement{
			{lines: "107", says: "all of `actions` are recognised in config.json", test: listed(func(s *features.Seccomp) []string { return s.Actions }, func(p *specs.LinuxSeccomp, name string) {
				p.Syscalls[0].Action = specs.LinuxSeccompAction(name)
			})},
			{lines: "109", says: "all of `operators` are recognised in config.json", test: listed(func(s *features.Seccomp) []string { return s.Operators }, func(p *specs.LinuxSeccomp, name string) {
				p.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 0, Value: 1, ValueTwo: 1, Op: specs.LinuxSeccompOperator(name)}}
			})},
			{lines: "111", says: "all of `archs` are recognised: one that is not supported is not called unknown", test: known(func(s *features.Seccomp) []string { return s.Archs }, func(p *specs.LinuxSeccomp, name string) {
				p.Architectures = []specs.Arch{specs.Arch(name)}
			})},
			{lines: "113", says: "all of `knownFlags` are recognised: one that is not supported is not called unknown", test: known(func(s *features.Seccomp) []string { return s.KnownFlags }, setFlag)},
			{lines: "116", says: "all of `supportedFlags` are supported in config.json", test: listed(func(s *features.Seccomp) []string { return s.SupportedFlags }, setFlag)},
		}},
		{linux, "MemoryPolicy", []requirement{
			{lines: "203", says: "all of `modes` are recognised in config.json", since: "1.3.0", test: func(x *trial) {
				for _, mode := range x.features().Linux.MemoryPolicy.Modes {
					nodes := "0"
					if mode == "MPOL_DEFAULT" || mode == "MPOL_LOCAL" {
						nodes = ""
					}
					x.recognises(&specs.LinuxMemoryPolicy{Mode: specs.MemoryPolicyModeType(mode), Nodes: nodes}, mode)
				}
			}},
			{lines: "206", says: "all of `flags` are recognised in config.json", since: "1.3.0", test: func(x *trial) {
				for _, flag := range x.features().Linux.MemoryPolicy.Flags {
					x.recognises(&specs.LinuxMemoryPolicy{Mode: "MPOL_BIND", Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MemoryPolicyFlagType(flag)}}, flag)
				}
			}},
		}},
		{linux, "MountExtensions", []requirement{{lines: "257", says: "`idmap.enabled` is true where a mount's mappings are recognised", since: "1.1.0", test: func(x *trial) {
			m := x.features().Linux.MountExtensions
			if m == nil || m.IDMap == nil || m.IDMap.Enabled == nil || !*m.IDMap.Enabled {
				x.errorf("it is not")
			}
		}}}},
	}
}

func (x *trial) features() *features.Features {
	var f features.Features
	x.noError(json.NewDecoder(bytes.NewReader([]byte(x.must("features")))).Decode(&f))
	if f.Linux == nil || f.Linux.Seccomp == nil {
		x.fatalf("nothing is said of Linux or seccomp")
	}
	return &f
}

// bounding are the capabilities that the test has to give.
func (x *trial) bounding() uint64 {
	_, rest, _ := strings.Cut(x.read("/proc/self/status"), "CapBnd:")
	var set uint64
	_, err := fmt.Sscanf(rest, "%x", &set)
	x.noError(err)
	return set
}

// version is the three numbers of a version.
func (x *trial) version(text string) []int {
	numbers := make([]int, 3)
	if _, err := fmt.Sscanf(text, "%d.%d.%d", &numbers[0], &numbers[1], &numbers[2]); err != nil {
		x.fatalf("version %q: %v", text, err)
	}
	return numbers
}

func acceptsVersion(of func(f *features.Features) string) func(x *trial) {
	return func(x *trial) {
		b := x.bundle("echo ran")
		b.spec.Version = of(x.features())
		if b.spec.Version == "" {
			x.fatalf("it is not there")
		}
		x.prints(b, "ran\n")
	}
}

func listedHooks(x *trial) {
	kinds := map[string]kind{}
	for _, k := range []kind{prestart, createRuntime, createContainer, startContainer, poststart, poststop} {
		kinds[k.name] = k
	}
	for _, name := range x.features().Hooks {
		k, known := kinds[name]
		if !known {
			x.errorf("no hooks %q are known to the specification", name)
			continue
		}
		b := x.bundle("true")
		b.mount(b.dir, "bind", b.dir, "bind") // where hooks in the container find it, too
		b.setHooks(k, b.hook(name, ""))
		x.wholeLife(b, func(string) {})
		x.equal("hooks", x.order(b), name)
	}
}

// listedOptions mounts something with each option. Those that need another mount or a mapping have rows of their own.
func listedOptions(x *trial) {
	b := x.bundle("grep -c ' /m/' /proc/self/mountinfo")
	n := 0
	for _, name := range x.features().MountOptions {
		if name == "remount" || name == "idmap" || name == "ridmap" {
			continue
		}
		n++
		destination := fmt.Sprintf("/m/%d", n)
		if name == "bind" || name == "rbind" {
			b.mount(destination, "bind", b.dir, name)
		} else {
			b.mount(destination, "tmpfs", "tmpfs", name)
		}
	}
	x.prints(b, fmt.Sprintf("%d\n", n))
}

// listed makes a container with each of what the features have on a list.
func listed(list func(s *features.Seccomp) []string, set func(p *specs.LinuxSeccomp, name string)) func(x *trial) {
	return func(x *trial) {
		for _, name := range list(x.features().Linux.Seccomp) {
			b := x.bundle("true")
			b.spec.Linux.Seccomp = unused()
			if name == string(specs.ActNotify) || name == string(specs.LinuxSeccompFlagWaitKillableRecv) {
				// Both are about a listener, and the kernel takes the flag only together with one.
				path := filepath.Join(x.tempDir(), "socket")
				x.listen(path)
				b.spec.Linux.Seccomp.ListenerPath, b.spec.Linux.Seccomp.Syscalls[0].Action = path, specs.ActNotify
			}
			set(b.spec.Linux.Seccomp, name)
			x.runs(b)
		}
	}
}

// unknownWord is what a runtime says of a name that it does not know.
var unknownWord = regexp.MustCompile("(?i)unknown|invalid|not known|unrecogni[sz]ed")

// known makes a container with each of what is on a list, and takes a refusal that does not call it unknown.
func known(list func(s *features.Seccomp) []string, set func(p *specs.LinuxSeccomp, name string)) func(x *trial) {
	return func(x *trial) {
		for _, name := range list(x.features().Linux.Seccomp) {
			b := x.bundle("true")
			b.spec.Linux.Seccomp = unused()
			set(b.spec.Linux.Seccomp, name)
			x.store(b)
			if res := x.run("run", "--bundle", b.dir, b.id); res.code != 0 && unknownWord.MatchString(res.stderr) {
				x.errorf("%s: %v", name, res)
			}
		}
	}
}

// unused is a profile about a call that no container here makes, so that no action hits it.
func unused() *specs.LinuxSeccomp {
	return profile(specs.LinuxSyscall{Names: []string{"swapoff"}, Action: specs.ActErrno})
}

func setFlag(p *specs.LinuxSeccomp, name string) {
	p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(name)}
}

// recognises fails if the runtime does not know a word of the memory policy. That the kernel does not take it is fine.
func (x *trial) recognises(policy *specs.LinuxMemoryPolicy, word string) {
	b := x.bundle("true")
	b.spec.Linux.MemoryPolicy = policy
	x.store(b)
	res := x.run("run", "--bundle", b.dir, b.id)
	if res.code != 0 && unknownWord.MatchString(res.stderr) {
		x.errorf("%s: %v", word, res)
	}
}
