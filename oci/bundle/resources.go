package bundle

import (
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// anyNumber stands for every major or minor number in a device rule.
const anyNumber = -1

// maxSwappiness is the top of the scale of memory.swappiness in cgroup v1.
const maxSwappiness = 100

func checkDevices(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	for i, device := range spec.Linux.Devices {
		field := func(name string) string { return at("linux.devices", i) + "." + name }
		if device.Path == "" {
			return missing(field("path"))
		}
		if !path.IsAbs(device.Path) {
			return invalid(field("path"), "%q is not absolute", device.Path)
		}
		switch device.Type {
		case "c", "u", "b":
			// mknod(2) takes what glibc's makedev packs: 32 bits each.
			if device.Major < 0 || device.Major > math.MaxUint32 {
				return invalid(field("major"), "%d is not a device number", device.Major)
			}
			if device.Minor < 0 || device.Minor > math.MaxUint32 {
				return invalid(field("minor"), "%d is not a device number", device.Minor)
			}
		case "p":
		case "":
			return missing(field("type"))
		default:
			return invalid(field("type"), "unknown device type %q, known are c, u, b, p", device.Type)
		}
	}
	return nil
}

// checkResources checks the syntax of linux.resources. Whether the host can
// honour the values is the cgroup driver's to say.
func (v *validator) checkResources(spec *specs.Spec) error {
	if spec.Linux == nil || spec.Linux.Resources == nil {
		return nil
	}
	resources := spec.Linux.Resources
	for i := range resources.Devices {
		if err := checkDeviceRule(at("linux.resources.devices", i), &resources.Devices[i]); err != nil {
			return err
		}
	}
	if memory := resources.Memory; memory != nil {
		//lint:ignore SA1019 deprecated, hence the warning
		if memory.Kernel != nil || memory.KernelTCP != nil { //nolint:staticcheck // as above
			v.warn("linux.resources.memory", "kernel memory limits are ignored, as the kernel does")
		}
		if memory.Swappiness != nil && *memory.Swappiness > maxSwappiness {
			return invalid("linux.resources.memory.swappiness", "%d is above %d", *memory.Swappiness, maxSwappiness)
		}
	}
	if cpu := resources.CPU; cpu != nil {
		if !isList(cpu.Cpus) {
			return invalid("linux.resources.cpu.cpus", "%q is not a list like 0-3,5", cpu.Cpus)
		}
		if !isList(cpu.Mems) {
			return invalid("linux.resources.cpu.mems", "%q is not a list like 0-3,5", cpu.Mems)
		}
	}
	for name := range resources.Unified {
		// They are file names in the container's cgroup.
		if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
			return invalid("linux.resources.unified", "%q is not the name of a cgroup file", name)
		}
	}
	return nil
}

func checkDeviceRule(field string, rule *specs.LinuxDeviceCgroup) error {
	switch rule.Type {
	case "", "a", "b", "c":
	default:
		return invalid(field+".type", "unknown device type %q, known are a, b, c", rule.Type)
	}
	if rule.Access == "" {
		return missing(field + ".access")
	}
	if strings.Trim(rule.Access, "rwm") != "" {
		return invalid(field+".access", "%q has letters other than r, w and m", rule.Access)
	}
	if rule.Major != nil && *rule.Major < anyNumber {
		return invalid(field+".major", "%d is not a device number", *rule.Major)
	}
	if rule.Minor != nil && *rule.Minor < anyNumber {
		return invalid(field+".minor", "%d is not a device number", *rule.Minor)
	}
	return nil
}

// isList reports whether s is empty or a cpuset list, such as "0-3,5"
// (cpuset(7), "List format").
func isList(s string) bool {
	if s = strings.TrimSpace(s); s == "" {
		return true
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.ParseUint(first, 10, 32)
		if err != nil {
			return false
		}
		if !isRange {
			continue
		}
		last, step, stepped := strings.Cut(last, ":")
		high, err := strconv.ParseUint(last, 10, 32)
		if err != nil || high < low {
			return false
		}
		if stepped && strings.Trim(step, "0123456789/") != "" {
			return false
		}
	}
	return true
}
