// Package testbundle makes bundles like the ones Docker makes: a busybox root in a directory, and a config.json with
// Docker's default mounts, namespaces, capabilities, masked paths, device rules and seccomp profile. The integration
// tests, the demo and the benchmark start from it, so that what they show is what a `docker run` would get.
package testbundle

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// seccompJSON is the profile dockerd 20.10 wrote into a container's config.json for its default capabilities, without
// the list of architectures, which Seccomp adds for the machine it runs on.
//
//go:embed seccomp.json
var seccompJSON []byte

// SpecVersion is the version of the runtime specification the bundles are written in, the one Docker 20.10 writes.
const SpecVersion = "1.0.2"

// Capabilities returns the names of the capabilities that Docker gives a container by default.
func Capabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Seccomp returns Docker's default seccomp profile as dockerd resolves it for its default capabilities.
func Seccomp() (*specs.LinuxSeccomp, error) {
	var profile specs.LinuxSeccomp
	if err := json.Unmarshal(seccompJSON, &profile); err != nil {
		return nil, fmt.Errorf("seccomp.json: %w", err)
	}
	switch runtime.GOARCH {
	case "amd64":
		profile.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	case "arm64":
		profile.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	default:
		return nil, fmt.Errorf("no seccomp architectures known for %s", runtime.GOARCH)
	}
	return &profile, nil
}

// Spec returns the config.json of a container named id that runs args as root in rootfs, as Docker would have written
// it: a private network namespace with nothing but loopback, no terminal, no hooks.
func Spec(id, rootfs string, args ...string) (*specs.Spec, error) {
	seccomp, err := Seccomp()
	if err != nil {
		return nil, err
	}
	return &specs.Spec{
		Version: SpecVersion,
		Process: &specs.Process{
			User:         specs.User{UID: 0, GID: 0, AdditionalGids: []uint32{0}},
			Args:         args,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + id},
			Cwd:          "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: Capabilities(), Effective: Capabilities(), Permitted: Capabilities()},
		},
		Root:     &specs.Root{Path: rootfs},
		Hostname: id,
		Mounts:   Mounts(),
		Linux: &specs.Linux{
			Sysctl: map[string]string{
				"net.ipv4.ip_unprivileged_port_start": "0",
				"net.ipv4.ping_group_range":           "0 2147483647",
			},
			Resources:   &specs.LinuxResources{Devices: deviceRules()},
			CgroupsPath: "/sandlock-test/" + id,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
			},
			MaskedPaths: []string{
				"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Seccomp:       seccomp,
		},
	}, nil
}

// Mounts returns the mounts that Docker puts into every container, but for the three files it binds into /etc.
func Mounts() []specs.Mount {
	quiet := []string{"nosuid", "noexec", "nodev"}
	with := func(more ...string) []string { return append(append([]string(nil), quiet...), more...) }
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: with()},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: with("ro")},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: with("ro")},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: with()},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: with("mode=1777", "size=67108864")},
	}
}

func deviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}} { // zero, null, urandom, random, tty, console
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	return rules
}

// SetNamespacePath makes the container join the namespace of the given type that path names, instead of a new one.
func SetNamespacePath(spec *specs.Spec, kind specs.LinuxNamespaceType, path string) {
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == kind {
			spec.Linux.Namespaces[i].Path = path
			return
		}
	}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// RemoveNamespace makes the container share the caller's namespace of the given type.
func RemoveNamespace(spec *specs.Spec, kind specs.LinuxNamespaceType) {
	kept := spec.Linux.Namespaces[:0]
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != kind {
			kept = append(kept, ns)
		}
	}
	spec.Linux.Namespaces = kept
}
