package bundle

import (
	"fmt"
	"os"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxIDMappings is what the kernel takes in a uid_map or gid_map
// (UID_GID_MAP_MAX_EXTENTS, linux/user_namespace.h).
const maxIDMappings = 340

// maxNodename is the longest host or domain name, in bytes: struct utsname
// keeps one for the NUL.
const maxNodename = len(unix.Utsname{}.Nodename) - 1

// nanosecondsPerSecond bounds linux.timeOffsets.*.nanosecs.
const nanosecondsPerSecond = 1_000_000_000

// namespace returns the spec's entry for a type, or nil.
func namespace(spec *specs.Spec, kind specs.LinuxNamespaceType) *specs.LinuxNamespace {
	if spec.Linux == nil {
		return nil
	}
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == kind {
			return &spec.Linux.Namespaces[i]
		}
	}
	return nil
}

func checkNamespaces(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	for i, ns := range spec.Linux.Namespaces {
		field := func() string { return at("linux.namespaces", i) }
		switch ns.Type {
		case specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace,
			specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace:
		case "":
			return missing(field() + ".type")
		default:
			return invalid(field()+".type", "unknown namespace %q", ns.Type)
		}
		if ns.Path != "" && !path.IsAbs(ns.Path) {
			return invalid(field()+".path", "%q is not absolute", ns.Path)
		}
		for _, earlier := range spec.Linux.Namespaces[:i] {
			if earlier.Type == ns.Type {
				return invalid(field()+".type", "%s is given twice", ns.Type)
			}
		}
	}
	return nil
}

// checkNames checks hostname and domainname: they would change the host's own
// without a UTS namespace.
func checkNames(spec *specs.Spec) error {
	for _, name := range []struct{ field, value string }{
		{"hostname", spec.Hostname},
		{"domainname", spec.Domainname},
	} {
		if name.value == "" {
			continue
		}
		if namespace(spec, specs.UTSNamespace) == nil {
			return invalid(name.field, "needs a uts namespace")
		}
		if len(name.value) > maxNodename {
			return invalid(name.field, "longer than %d bytes", maxNodename)
		}
	}
	return nil
}

// checkMappings checks that a new user namespace has mappings, a joined one
// needs none, and that there are none without a user namespace.
func (v *validator) checkMappings(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	ns := namespace(spec, specs.UserNamespace)
	lists := []struct {
		field    string
		mappings []specs.LinuxIDMapping
	}{
		{"linux.uidMappings", spec.Linux.UIDMappings},
		{"linux.gidMappings", spec.Linux.GIDMappings},
	}
	for _, list := range lists {
		given := len(list.mappings) > 0
		switch {
		case ns == nil && given:
			return invalid(list.field, "needs a user namespace")
		case ns == nil:
			continue
		case ns.Path != "" && given:
			// containerd and CRI-O give both for pods.
			v.warn(list.field, "ignored, the user namespace %s has mappings already", ns.Path)
		case ns.Path == "" && !given:
			return invalid(list.field, "missing, the new user namespace needs it")
		}
		if err := checkIDMappings(list.field, list.mappings); err != nil {
			return err
		}
		if given && !mapsRoot(list.mappings) {
			return invalid(list.field, "no mapping for container id 0")
		}
	}
	return nil
}

// checkIDMappings checks what the kernel would refuse with a bare EINVAL
// (user_namespaces(7)).
func checkIDMappings(field string, mappings []specs.LinuxIDMapping) error {
	if len(mappings) > maxIDMappings {
		return invalid(field, "more than %d mappings", maxIDMappings)
	}
	for i, m := range mappings {
		if m.Size == 0 {
			return invalid(at(field, i)+".size", "0, expected at least 1")
		}
		if end := uint64(m.ContainerID) + uint64(m.Size); end > maxID {
			return invalid(at(field, i), "container ids run past %d", uint32(maxID-1))
		}
		if end := uint64(m.HostID) + uint64(m.Size); end > maxID {
			return invalid(at(field, i), "host ids run past %d", uint32(maxID-1))
		}
		for j, earlier := range mappings[:i] {
			if overlap(m.ContainerID, earlier.ContainerID, m.Size, earlier.Size) {
				return invalid(at(field, i), "container ids overlap those of %s", at(field, j))
			}
			if overlap(m.HostID, earlier.HostID, m.Size, earlier.Size) {
				return invalid(at(field, i), "host ids overlap those of %s", at(field, j))
			}
		}
	}
	return nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

func mapsRoot(mappings []specs.LinuxIDMapping) bool {
	for _, m := range mappings {
		if m.ContainerID == 0 {
			return true
		}
	}
	return false
}

func checkTimeOffsets(spec *specs.Spec) error {
	const field = "linux.timeOffsets"
	if spec.Linux == nil || len(spec.Linux.TimeOffsets) == 0 {
		return nil
	}
	ns := namespace(spec, specs.TimeNamespace)
	if ns == nil {
		return invalid(field, "needs a time namespace")
	}
	if ns.Path != "" {
		return invalid(field, "the time namespace %s has offsets already", ns.Path)
	}
	for clock, offset := range spec.Linux.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return invalid(field, "unknown clock %q, known are monotonic and boottime", clock)
		}
		if offset.Nanosecs >= nanosecondsPerSecond {
			return invalid(field+"."+clock+".nanosecs", "%d is a second or more", offset.Nanosecs)
		}
	}
	return nil
}

// findNamespaces checks that the namespaces that are to be joined are there.
func findNamespaces(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	for i, ns := range spec.Linux.Namespaces {
		if !path.IsAbs(ns.Path) {
			continue // new, or for Validate to refuse
		}
		if _, err := os.Stat(ns.Path); err != nil {
			return &FieldError{Field: at("linux.namespaces", i) + ".path", Reason: fmt.Sprintf("%s: %v", ns.Path, reason(err)), Err: err}
		}
	}
	return nil
}
