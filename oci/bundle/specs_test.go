package bundle

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// parsed returns the minimal spec, changed.
func parsed(t testing.TB, change func(*specs.Spec)) *specs.Spec {
	t.Helper()
	spec, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(spec)
	}
	return spec
}

func with(kind specs.LinuxNamespaceType, path string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

func without(kind specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		var kept []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != kind {
				kept = append(kept, ns)
			}
		}
		s.Linux.Namespaces = kept
	}
}

func all(changes ...func(*specs.Spec)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for _, change := range changes {
			change(s)
		}
	}
}

func sysctl(name, value string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{name: value} }
}

func seccomp(change func(*specs.LinuxSeccomp)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}},
		}
		change(s.Linux.Seccomp)
	}
}

func mappings(uid, gid []specs.LinuxIDMapping) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.UIDMappings, s.Linux.GIDMappings = uid, gid }
}

func pointer[T any](v T) *T { return &v }

var oneToOne = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}

func netDevices(devices map[string]specs.LinuxNetDevice) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.NetDevices = devices }
}
