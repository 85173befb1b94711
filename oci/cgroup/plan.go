package cgroup

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// scopePrefix is the first part of the systemd scope's name where the spec names none: sandlock-ID.scope.
const scopePrefix = "sandlock"

// Options are what, beside the spec, decides about a container's cgroup.
type Options struct {
	ID       string // container id; it names the cgroup where the spec gives no path
	Systemd  bool   // systemd makes the cgroup (--systemd-cgroup)
	Disabled bool   // none is to be made (--cgroup-manager disabled)
	Rootless bool   // failing for want of permission is forgiven where nothing was asked for (--rootless)
}

// Config is what is wanted of the cgroup. It holds plain values, so that a state file can keep it.
type Config struct {
	// Cgroup is the library's form of linux.cgroupsPath and linux.resources.
	Cgroup *cgroups.Cgroup `json:"cgroup"`
	// Required names what the container asks for that cannot be had without a cgroup; empty if it asks for nothing.
	Required string `json:"required,omitempty"`
	// Disabled tells that none is to be made.
	Disabled bool `json:"disabled,omitempty"`

	placeOnly bool // the limits have been passed over, see DecodePlace
}

// Plan translates linux.cgroupsPath and linux.resources. The default devices of the runtime specification are allowed
// on top of the spec's device rules, as runc does it, unless the spec defines a device of its own at that path.
func Plan(spec *specs.Spec, o Options) (Config, error) {
	cg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		CgroupName:       o.ID,
		UseSystemdCgroup: o.Systemd,
		RootlessCgroups:  o.Rootless,
		Spec:             spec,
	}, defaultDevices(spec))
	if err != nil {
		return Config{}, fmt.Errorf("linux: %w", err)
	}
	if o.Systemd && (spec.Linux == nil || spec.Linux.CgroupsPath == "") {
		cg.ScopePrefix = scopePrefix
	}
	cg.OwnerUID = owner(spec)
	return Config{Cgroup: cg, Required: required(spec.Linux, o), Disabled: o.Disabled}, nil
}

// defaultDevices lists the devices every container may use.
// https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices
func defaultDevices(spec *specs.Spec) []*devices.Device {
	if spec.Linux == nil || len(spec.Linux.Devices) == 0 {
		return specconv.AllowedDevices
	}
	var keep []*devices.Device
	for _, d := range specconv.AllowedDevices {
		replaced := d.Path != "" && slices.ContainsFunc(spec.Linux.Devices, func(own specs.LinuxDevice) bool {
			return own.Path == d.Path
		})
		if !replaced {
			keep = append(keep, d)
		}
	}
	return keep
}

// owner is the host uid that a v2 cgroup is given to: that of the container's process, where the container has a
// cgroup namespace of its own and sees its cgroup writable.
// https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#cgroup-ownership
func owner(spec *specs.Spec) *int {
	if spec.Linux == nil || spec.Process == nil {
		return nil
	}
	private := slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.CgroupNamespace && ns.Path == ""
	})
	writable := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return m.Type == "cgroup" && filepath.Clean(m.Destination) == "/sys/fs/cgroup" && !slices.Contains(m.Options, "ro")
	})
	if !private || !writable {
		return nil
	}
	uid := spec.Process.User.UID
	userns := slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.UserNamespace
	})
	if !userns {
		host := int(uid)
		return &host
	}
	for _, m := range spec.Linux.UIDMappings {
		if uid >= m.ContainerID && uid-m.ContainerID < m.Size {
			host := int(m.HostID + (uid - m.ContainerID))
			return &host
		}
	}
	return nil
}

// required names the first thing that is asked for and needs a cgroup. Device rules are not counted for a rootless
// container: it cannot make device nodes, so the nodes it is given bound it already (and runc forgives them, too).
func required(l *specs.Linux, o Options) string {
	if o.Systemd {
		return "--systemd-cgroup"
	}
	if l == nil {
		return ""
	}
	if l.CgroupsPath != "" {
		return "linux.cgroupsPath"
	}
	r := l.Resources
	if r == nil {
		return ""
	}
	switch {
	case len(r.Devices) > 0 && !o.Rootless:
		return "linux.resources.devices"
	case isSet(r.Memory):
		return "linux.resources.memory"
	case isSet(r.CPU):
		return "linux.resources.cpu"
	case isSet(r.Pids):
		return "linux.resources.pids"
	case isSet(r.BlockIO):
		return "linux.resources.blockIO"
	case len(r.HugepageLimits) > 0:
		return "linux.resources.hugepageLimits"
	case isSet(r.Network):
		return "linux.resources.network"
	case len(r.Rdma) > 0:
		return "linux.resources.rdma"
	case len(r.Unified) > 0:
		return "linux.resources.unified"
	}
	return ""
}

func isSet[T any](section *T) bool {
	return section != nil && !reflect.ValueOf(*section).IsZero()
}
