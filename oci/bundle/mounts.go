package bundle

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkMounts checks destinations and types. A relative destination is taken
// from the container's root, with a warning, as runc does.
func (v *validator) checkMounts(spec *specs.Spec) error {
	for i := range spec.Mounts {
		mount := &spec.Mounts[i]
		switch {
		case mount.Destination == "":
			return missing(at("mounts", i) + ".destination")
		case !path.IsAbs(mount.Destination):
			v.warn(at("mounts", i)+".destination", "%q is not absolute, taken from the container's root", mount.Destination)
			mount.Destination = path.Join("/", mount.Destination)
		}
		bind := slices.Contains(mount.Options, "bind") || slices.Contains(mount.Options, "rbind")
		switch {
		case bind && mount.Source == "":
			return missing(at("mounts", i) + ".source")
		case !bind && mount.Type == "" && !slices.Contains(mount.Options, "remount"):
			return missing(at("mounts", i) + ".type")
		}
		if err := checkIDMappings(at("mounts", i)+".uidMappings", mount.UIDMappings); err != nil {
			return err
		}
		if err := checkIDMappings(at("mounts", i)+".gidMappings", mount.GIDMappings); err != nil {
			return err
		}
	}
	return nil
}
