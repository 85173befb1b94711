package oci

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/userns"
	"github.com/opencontainers/cgroups/systemd"
)

// InUserNamespace says whether this process is in a user namespace other than the one that the machine booted with.
func InUserNamespace() bool { return userns.RunningInUserNS() }

// Rootless reads the option --rootless: "true", "false", or "auto" or nothing to find out, as runc does. It is about cgroups only: whether
// failing for want of permission is forgiven.
func Rootless(option string, systemdCgroup bool) (bool, error) {
	if option != "" && !strings.EqualFold(option, "auto") {
		rootless, err := strconv.ParseBool(option)
		if err != nil {
			return false, fmt.Errorf("--rootless: %q is none of true, false, auto", option)
		}
		return rootless, nil
	}
	switch {
	case os.Geteuid() != 0:
		return true, nil
	case !InUserNamespace():
		return false, nil
	case systemdCgroup:
		// The systemd of a container is its root's own. Where it does not say whose it is, it is taken for that.
		owner, err := systemd.DetectUID()
		return err == nil && owner != 0, nil
	}
	return true, nil
}
