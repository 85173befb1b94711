package chroot

import "github.com/opencontainers/runtime-spec/specs-go"

// MapRequest is all that a [Map] is made of.
type MapRequest struct {
	Spec   *specs.Spec
	RootFS string // absolute host path of the root
	Bundle string // absolute host path that relative bind sources start from

	Denied []string      // filesystem.deny: container paths
	Extra  []specs.Mount // filesystem.mount: mounts after the spec's own

	Cgroups Cgroups
	// UserNamespace tells that the container has a user namespace of its own.
	UserNamespace bool
	// BindDevices has device nodes bound from the host although there is no user namespace, because the runtime itself may not mknod.
	BindDevices bool
	// KernelCore tells that the host has /proc/kcore.
	KernelCore bool
}

// NewMap works out the map. Errors name the field of the spec.
func NewMap(r MapRequest) (Map, error) { panic("TODO") }
