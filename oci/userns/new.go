package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// New makes a user namespace in which this process's own user and group, and the host's ids of the given mappings, are mapped to themselves. It takes
// a process to make one, which lives no longer than it takes to write the mappings.
func New(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	program := launch.New()
	// Otherwise its mappings would be root's to write. It has nothing that its user does not have.
	program.Prctl("PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE, 1)
	var namespace *os.File
	err := launch.Briefly(program, unix.CLONE_NEWUSER, "a user namespace for the runtime", func(pid int) (err error) {
		if err := write(pid, "uid", same(uids, os.Geteuid())); err != nil {
			return fmt.Errorf("linux.uidMappings: %w", err)
		}
		if err := write(pid, "gid", same(gids, os.Getegid())); err != nil {
			return fmt.Errorf("linux.gidMappings: %w", err)
		}
		namespace, err = os.Open("/proc/" + strconv.Itoa(pid) + "/ns/user")
		return err
	})
	return namespace, err
}

// write has ids of the kind "uid" or "gid" mapped for a process in a new user namespace.
func write(pid int, kind string, spans []span) error {
	if len(spans) > 1 || spans[0].first != spans[0].last {
		return mapRanges(pid, kind, spans)
	}
	proc := "/proc/" + strconv.Itoa(pid)
	if kind == "gid" {
		// An ordinary user maps the own group only for a namespace where nobody can leave groups: they may be what denies access, see user_namespaces(7).
		if err := os.WriteFile(proc+"/setgroups", []byte("deny"), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(proc+"/"+kind+"_map", []byte(strings.Join(arguments(spans), " ")), 0)
}

// mapRanges has newuidmap(1) or newgidmap(1) do it, which may.
func mapRanges(pid int, kind string, spans []span) error {
	program := "new" + kind + "map"
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("ids other than this user's own take %s (Debian's package uidmap): %w", program, err)
	}
	said, err := exec.Command(path, append([]string{strconv.Itoa(pid)}, arguments(spans)...)...).CombinedOutput()
	if text := strings.Join(strings.Fields(string(said)), " "); err != nil && text != "" {
		return errors.New(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
