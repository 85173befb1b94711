package chroot

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultDevices are those of the runtime spec (config-linux.md, "Default Devices") that are nodes; numbers as in
// Documentation/admin-guide/devices.txt. /dev/console is there only with a terminal, /dev/ptmx is a link.
var defaultDevices = [...]Device{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5, Mode: 0o666},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7, Mode: 0o666},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8, Mode: 0o666},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9, Mode: 0o666},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0, Mode: 0o666},
}

var defaultLinks = [...]Link{
	{Path: "/dev/fd", Target: "/proc/self/fd"},
	{Path: "/dev/stdin", Target: "/proc/self/fd/0"},
	{Path: "/dev/stdout", Target: "/proc/self/fd/1"},
	{Path: "/dev/stderr", Target: "/proc/self/fd/2"},
}

// addDevices fills in /dev, unless the spec brings a /dev of the host.
func (m *Map) addDevices(r MapRequest) error {
	if slices.ContainsFunc(m.Entries, func(e Entry) bool { return e.Kind == Bind && e.Destination == "/dev" }) {
		return nil
	}
	var asked []Device
	if r.Spec.Linux != nil {
		for i, d := range r.Spec.Linux.Devices {
			device, err := newDevice(d)
			if err != nil {
				return fmt.Errorf("linux.devices[%d] %s: %w", i, d.Path, err)
			}
			// The node that is opened for new terminals is the one of the container's own devpts.
			if d.Path != "" && device.Path != "/dev/ptmx" {
				asked = append(asked, device)
			}
		}
	}
	for _, d := range defaultDevices {
		if !slices.ContainsFunc(asked, func(a Device) bool { return a.Path == d.Path }) {
			m.Devices = append(m.Devices, d)
		}
	}
	m.Devices = append(m.Devices, asked...)
	for i := range m.Devices {
		d := &m.Devices[i]
		d.Bind = (r.UserNamespace || r.BindDevices) && d.Type != "p"
		if d.Bind && d.Asked {
			d.HostUID, d.HostGID = r.ownerOnHost(d.UID, d.GID)
		}
	}
	m.Links = append(m.Links, defaultLinks[:]...)
	if r.KernelCore {
		m.Links = append(m.Links, Link{Path: "/dev/core", Target: "/proc/kcore"})
	}
	m.Links = append(m.Links, Link{Path: "/dev/ptmx", Target: "pts/ptmx", Replace: true})
	return nil
}

func newDevice(d specs.LinuxDevice) (Device, error) {
	device := Device{Path: rooted(d.Path), Type: d.Type, Mode: 0o666, Asked: true}
	switch d.Type {
	case "c", "b":
		if d.Major < 0 || d.Major > math.MaxUint32 || d.Minor < 0 || d.Minor > math.MaxUint32 {
			return device, fmt.Errorf("no device number: %d:%d", d.Major, d.Minor)
		}
		device.Major, device.Minor = uint32(d.Major), uint32(d.Minor)
	case "u":
		return newDevice(specs.LinuxDevice{Path: d.Path, Type: "c", Major: d.Major, Minor: d.Minor, FileMode: d.FileMode, UID: d.UID, GID: d.GID})
	case "p":
	default:
		return device, fmt.Errorf("type %q is none of c, b, u, p", d.Type)
	}
	const permissions = 0o7777
	if d.FileMode != nil {
		device.Mode = uint32(*d.FileMode) & permissions
	}
	if d.UID != nil {
		device.UID = *d.UID
	}
	if d.GID != nil {
		device.GID = *d.GID
	}
	return device, nil
}

// ownerOnHost is what a container's user and group are on the host; root where they have nobody there.
func (r MapRequest) ownerOnHost(uid, gid uint32) (uint32, uint32) {
	if !r.UserNamespace || r.Spec.Linux == nil {
		return uid, gid
	}
	u, noUser := hostID(r.Spec.Linux.UIDMappings, strconv.FormatUint(uint64(uid), 10))
	g, noGroup := hostID(r.Spec.Linux.GIDMappings, strconv.FormatUint(uint64(gid), 10))
	if noUser != nil || noGroup != nil {
		return 0, 0
	}
	return u, g
}

// hostID is what a container's user or group id is on the host.
func hostID(mappings []specs.LinuxIDMapping, id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("not an id: %q", id)
	}
	for _, m := range mappings {
		if uint64(m.ContainerID) <= n && n < uint64(m.ContainerID)+uint64(m.Size) {
			return m.HostID + uint32(n) - m.ContainerID, nil
		}
	}
	return 0, fmt.Errorf("id %d is not mapped to the host", n)
}
