package oci

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	mobyuserns "github.com/moby/sys/userns"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/caller"
	"github.com/sandlock/sandlock-runtime/oci/host"
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

// enterOwn executes the program anew in a user namespace where it is privileged, if this process cannot make the container without: one of its own, or where the container is to
// join one, the one from which it can. If there is nothing to do, or nothing that can be done, it returns. A user namespace that this process is in by then is no longer one to
// join.
func enterOwn(p *caller.Process, spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	at := slices.IndexFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	if at < 0 {
		return nil
	}
	path := spec.Linux.Namespaces[at].Path
	switch {
	case path != "":
		same, err := userns.Own(path)
		same = same && InUserNamespace() // the machine's own cannot be asked for
		if same {
			spec.Linux.Namespaces = slices.Delete(spec.Linux.Namespaces, at, at+1)
		}
		if err != nil || same || privileged() {
			return nil // a path that is none is the plan's to tell
		}
		if err := enterEnclosing(p, path, true); err != nil {
			return fmt.Errorf("linux.namespaces: the user namespace %s: %w", path, err)
		}
		return nil
	case privileged():
		return nil
	}
	own, err := userns.New(spec.Linux.UIDMappings, spec.Linux.GIDMappings)
	if err != nil {
		return err
	}
	defer own.Close()
	return caller.Enter(p, own, true)
}

// enterEnclosing executes the program anew in the user namespace from which containers in the one that path names are made and joined, unless it is there already.
func enterEnclosing(p *caller.Process, path string, mounts bool) error {
	enclosing, err := userns.Enclosing(path)
	if err != nil || enclosing == nil {
		return err
	}
	defer enclosing.Close()
	return caller.Enter(p, enclosing, mounts)
}

// enterAbove executes the program anew in the user namespace that a container is joined from, where this process has no privilege to do that. If there is nothing to do, it
// returns.
func enterAbove(init int) error {
	if privileged() {
		return nil
	}
	if err := enterEnclosing(nil, "/proc/"+strconv.Itoa(init)+"/ns/user", false); err != nil {
		return fmt.Errorf("the container's user namespace: %w", err)
	}
	return nil
}
