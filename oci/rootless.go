package oci

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	mobyuserns "github.com/moby/sys/userns"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/caller"
	"github.com/sandlock/sandlock-runtime/oci/host"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/userns"
)

// InUserNamespace says whether this process is in a user namespace other than the one that the machine booted with.
func InUserNamespace() bool { return mobyuserns.RunningInUserNS() }

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

// privileged says whether this process may make mounts and namespaces where it is.
func privileged() bool { return host.OwnCapabilities().Has(unix.CAP_SYS_ADMIN) }

// enterOwn executes the program anew in a user namespace of its own where this process cannot make the container without. If there is nothing to do, or
// nothing that can be done, it returns.
func enterOwn(p *caller.Process, spec *specs.Spec) error {
	if privileged() || spec.Linux == nil || !newUserNamespace(spec.Linux) {
		return nil
	}
	own, err := userns.New(spec.Linux.UIDMappings, spec.Linux.GIDMappings)
	if err != nil {
		return err
	}
	defer own.Close()
	return caller.Enter(p, own, true)
}

func newUserNamespace(l *specs.Linux) bool {
	for _, ns := range l.Namespaces {
		if ns.Type == specs.UserNamespace {
			return ns.Path == ""
		}
	}
	return false
}

// enterAbove executes the program anew in the user namespace that a container's own was made in, where this process has no privilege to join the container from. If
// there is nothing to do, it returns.
func enterAbove(p *plan.Plan, init int) error {
	if privileged() || !p.Namespaces.New(specs.UserNamespace) {
		return nil
	}
	above, err := userns.Parent(init)
	if err != nil {
		return fmt.Errorf("the user namespace above the container's: %w", err)
	}
	defer above.Close()
	return caller.Enter(nil, above, false)
}
