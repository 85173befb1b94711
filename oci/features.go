package oci

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	libseccomp "github.com/seccomp/libseccomp-golang"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/hooks"
	"github.com/sandlock/sandlock-runtime/oci/host"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// oldestSpec is the first version of the runtime specification that is taken.
const oldestSpec = "1.0.0"

// Annotations of the features document. Those that are not ours are in use by other runtimes.
const (
	annotationVersion    = "io.sandlock.version"
	annotationCommit     = "io.sandlock.commit"
	annotationCheckpoint = "org.opencontainers.runc.checkpoint.enabled"
	annotationLibseccomp = "io.github.seccomp.libseccomp.version"
)

// Features is the document of https://github.com/opencontainers/runtime-spec/blob/main/features.md: what this runtime knows, whatever
// the host can do.
func Features(version, commit string) features.Features {
	yes, no := true, false
	var hookNames []string
	for _, kind := range hooks.Kinds() {
		hookNames = append(hookNames, string(kind))
	}
	annotations := map[string]string{
		annotationVersion: version, annotationCheckpoint: "false", annotationLibseccomp: LibseccompVersion(),
	}
	if commit != "" {
		annotations[annotationCommit] = commit
	}
	return features.Features{
		OCIVersionMin: oldestSpec,
		OCIVersionMax: specs.Version,
		Hooks:         hookNames,
		MountOptions:  chroot.KnownOptions(),
		Linux: &features.Linux{
			Namespaces: []string{
				string(specs.CgroupNamespace), string(specs.IPCNamespace), string(specs.MountNamespace), string(specs.NetworkNamespace),
				string(specs.PIDNamespace), string(specs.TimeNamespace), string(specs.UserNamespace), string(specs.UTSNamespace),
			},
			Capabilities:    knownCapabilities(),
			Cgroup:          &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
			Seccomp:         seccompFeatures(),
			Apparmor:        &features.Apparmor{Enabled: &yes},
			Selinux:         &features.Selinux{Enabled: &no},
			IntelRdt:        &features.IntelRdt{Enabled: &no, Schemata: &no, Monitoring: &no},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &yes},
			MemoryPolicy: &features.MemoryPolicy{
				Modes: names(specs.MpolDefault, specs.MpolPreferred, specs.MpolBind, specs.MpolInterleave, specs.MpolLocal, specs.MpolPreferredMany, specs.MpolWeightedInterleave),
				Flags: names(specs.MpolFStaticNodes, specs.MpolFRelativeNodes, specs.MpolFNumaBalancing),
			},
		},
		Annotations:                        annotations,
		PotentiallyUnsafeConfigAnnotations: unsafeAnnotations(),
	}
}

// LibseccompVersion is the version of the library that compiles linux.seccomp.
func LibseccompVersion() string {
	major, minor, micro := libseccomp.GetLibraryVersion()
	return fmt.Sprintf("%d.%d.%d", major, minor, micro)
}

func knownCapabilities() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}

func seccompFeatures() *features.Seccomp {
	yes := true
	const tsync = "SECCOMP_FILTER_FLAG_TSYNC" // accepted, and without effect
	supported := []string{tsync, string(specs.LinuxSeccompFlagLog)}
	on := host.Probe().Seccomp
	if on.SpecAllow {
		supported = append(supported, string(specs.LinuxSeccompFlagSpecAllow))
	}
	if on.WaitKillable {
		supported = append(supported, string(specs.LinuxSeccompFlagWaitKillableRecv))
	}
	return &features.Seccomp{
		Enabled: &yes,
		Actions: seccompnotif.KnownActions(),
		Operators: names(specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan,
			specs.OpMaskedEqual, specs.OpNotEqual),
		Archs: names(specs.ArchAARCH64, specs.ArchARM, specs.ArchLOONGARCH64, specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32,
			specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE,
			specs.ArchRISCV64, specs.ArchS390, specs.ArchS390X, specs.ArchX32, specs.ArchX86, specs.ArchX86_64),
		KnownFlags: append([]string{tsync}, names(specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagLog,
			specs.LinuxSeccompFlagWaitKillableRecv)...),
		SupportedFlags: supported,
	}
}

func names[T ~string](list ...T) []string {
	out := make([]string, len(list))
	for i, name := range list {
		out[i] = string(name)
	}
	return out
}

// unsafeAnnotations are those that an engine should not take from just anybody: the properties of systemd units, and the keys of the
// policy that reach files of the host once the operator has granted them. The other keys can only tighten.
func unsafeAnnotations() []string {
	list := []string{"org.systemd.property."}
	for _, key := range policy.Keys() {
		if key.Host && !key.Later {
			list = append(list, policy.AnnotationPrefix+key.Name)
		}
	}
	slices.Sort(list)
	return list
}
