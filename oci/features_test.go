package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
)

// load has the bundle loader judge a spec.
func load(t *testing.T, change func(*specs.Spec)) error {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	spec := specconv.Example()
	change(spec)
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bundle.ConfigName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = bundle.Load(dir)
	return err
}

// Nothing may be announced that is refused, and nothing left out that is taken.
func TestFeaturesAreWhatTheLoaderTakes(t *testing.T) {
	f := Features("1.2.3", "abc")
	seccomp := f.Linux.Seccomp
	check := func(kind string, announced, all []string, change func(*specs.Spec, string)) {
		t.Helper()
		for _, value := range all {
			err := load(t, func(s *specs.Spec) { change(s, value) })
			if taken := err == nil; taken != slices.Contains(announced, value) {
				t.Errorf("%s %s: announced: %v; loader: %v", kind, value, !taken, err)
			}
		}
		for _, value := range announced {
			if !slices.Contains(all, value) {
				t.Errorf("%s %s is announced and not known to the test", kind, value)
			}
		}
	}
	check("action", seccomp.Actions, []string{
		"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW",
		"SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_NONSENSE",
	}, func(s *specs.Spec, value string) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.LinuxSeccompAction(value)}
	})
	check("operator", seccomp.Operators, []string{
		"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NONSENSE",
	}, func(s *specs.Spec, value string) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{
			Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: specs.LinuxSeccompOperator(value)}},
		}}}
	})
	check("architecture", seccomp.Archs, []string{
		"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32",
		"SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE",
		"SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
		"SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
	}, func(s *specs.Spec, value string) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.Arch(value)}}
	})
	check("flag", seccomp.KnownFlags, []string{
		"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
		"SECCOMP_FILTER_FLAG_NEW_LISTENER",
	}, func(s *specs.Spec, value string) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(value)}}
	})
	check("namespace", f.Linux.Namespaces, []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", "nonsense"},
		func(s *specs.Spec, value string) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
			s.Hostname = ""
			if value != string(specs.MountNamespace) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(value)})
			}
			if value == string(specs.UserNamespace) {
				s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 1}}
				s.Linux.GIDMappings = s.Linux.UIDMappings
			}
		})
	for _, flag := range seccomp.SupportedFlags {
		if !slices.Contains(seccomp.KnownFlags, flag) {
			t.Errorf("flag %s is supported and not known", flag)
		}
	}
}

func TestFeaturesDocument(t *testing.T) {
	f := Features("1.2.3", "abc")
	if f.OCIVersionMin != "1.0.0" || f.OCIVersionMax != specs.Version {
		t.Errorf("versions %s to %s", f.OCIVersionMin, f.OCIVersionMax)
	}
	for _, option := range []string{"bind", "rbind", "ro", "rro", "rw", "noexec", "rnoexec", "rprivate", "shared", "tmpcopyup", "nosymfollow", "idmap", "ridmap"} {
		if !slices.Contains(f.MountOptions, option) {
			t.Errorf("mount option %s is missing", option)
		}
	}
	for _, option := range []string{"size=1m", ""} {
		if slices.Contains(f.MountOptions, option) {
			t.Errorf("mount option %q is announced", option)
		}
	}
	if !slices.IsSorted(f.MountOptions) || len(slices.Compact(slices.Clone(f.MountOptions))) != len(f.MountOptions) {
		t.Errorf("mount options are not sorted, or repeated: %q", f.MountOptions)
	}
	if !slices.Contains(f.Linux.Capabilities, "CAP_SYS_ADMIN") || !slices.Contains(f.Linux.Capabilities, "CAP_CHECKPOINT_RESTORE") {
		t.Errorf("capabilities %q", f.Linux.Capabilities)
	}
	for _, off := range []*bool{
		f.Linux.Selinux.Enabled, f.Linux.IntelRdt.Enabled,
	} {
		if off == nil || *off {
			t.Error("something is announced that is refused")
		}
	}
	if f.Annotations["io.sandlock.version"] != "1.2.3" || f.Annotations["io.sandlock.commit"] != "abc" || !strings.HasPrefix(f.Annotations["io.github.seccomp.libseccomp.version"], "2.") {
		t.Errorf("annotations %q", f.Annotations)
	}
	want := []string{"io.sandlock.filesystem.mount", "io.sandlock.policy.socket", "org.systemd.property."}
	if !slices.Equal(f.PotentiallyUnsafeConfigAnnotations, want) {
		t.Errorf("unsafe annotations %q, want %q", f.PotentiallyUnsafeConfigAnnotations, want)
	}
}
