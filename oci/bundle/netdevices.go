package bundle

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// checkNetDevices checks linux.netDevices: names that the kernel takes, and a
// network namespace for them to go to.
func checkNetDevices(spec *specs.Spec) error {
	const field = "linux.netDevices"
	if spec.Linux == nil || len(spec.Linux.NetDevices) == 0 {
		return nil
	}
	if namespace(spec, specs.NetworkNamespace) == nil {
		return invalid(field, "needs a network namespace")
	}
	inside := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(spec.Linux.NetDevices)) {
		if !deviceName(name) {
			return invalid(field, "%q is not the name of a network device", name)
		}
		newName := spec.Linux.NetDevices[name].Name
		if newName != "" && !deviceName(newName) {
			return invalid(field+"["+name+"].name", "%q is not the name of a network device", newName)
		}
		if newName == "" {
			newName = name
		}
		if other, taken := inside[newName]; taken {
			return invalid(field+"["+name+"].name", "%q is that of %s already", newName, other)
		}
		inside[newName] = name
	}
	return nil
}

// deviceName is dev_valid_name of the kernel's net/core/dev.c.
func deviceName(name string) bool {
	return name != "" && len(name) < unix.IFNAMSIZ && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r")
}
