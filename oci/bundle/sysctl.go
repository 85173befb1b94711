package bundle

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// SysctlPath returns the file of a sysctl below /proc/sys. Names are written
// with dots, or with slashes if the first separator is one; the other character
// then is part of a name: both "net.ipv4.conf.eno2/100.rp_filter" and
// "net/ipv4/conf/eno2.100/rp_filter" are net/ipv4/conf/eno2.100/rp_filter
// (sysctl.d(5)). It never leads out of /proc/sys.
func SysctlPath(name string) (string, error) {
	file := name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		file = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, name)
	}
	for element := range strings.SplitSeq(file, "/") {
		if element == "" || element == "." || element == ".." {
			return "", fmt.Errorf("%q is not the name of a sysctl", name)
		}
	}
	return file, nil
}

// checkSysctls allows only what belongs to a namespace of the container:
// anything else under /proc/sys is the host's.
func checkSysctls(spec *specs.Spec) error {
	const field = "linux.sysctl"
	if spec.Linux == nil || len(spec.Linux.Sysctl) == 0 {
		return nil
	}
	names := make([]string, 0, len(spec.Linux.Sysctl))
	for name := range spec.Linux.Sysctl {
		names = append(names, name)
	}
	slices.Sort(names) // which fault is reported must not depend on the map
	for _, name := range names {
		file, err := SysctlPath(name)
		if err != nil {
			return invalidCause(field, err)
		}
		if reason := sysctlRefusal(spec, file); reason != "" {
			return invalid(field+member(field, name), "%s", reason)
		}
	}
	return nil
}

// sysctlRefusal returns why a sysctl, given by its path below /proc/sys, cannot
// be set, or "".
func sysctlRefusal(spec *specs.Spec, file string) string {
	has := func(kind specs.LinuxNamespaceType) bool { return namespace(spec, kind) != nil }
	switch file {
	case "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
		"kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced":
		return needs(has(specs.IPCNamespace), "an ipc")
	case "kernel/domainname":
		return needs(has(specs.UTSNamespace), "a uts")
	case "kernel/hostname":
		return "set the field hostname instead"
	}
	switch {
	case strings.HasPrefix(file, "fs/mqueue/"):
		return needs(has(specs.IPCNamespace), "an ipc")
	case strings.HasPrefix(file, "net/"):
		return netSysctlRefusal(namespace(spec, specs.NetworkNamespace))
	case strings.HasPrefix(file, "user/"):
		return needs(has(specs.UserNamespace), "a user")
	}
	return "belongs to no namespace, it would change the host"
}

func needs(has bool, namespace string) string {
	if has {
		return ""
	}
	return "needs " + namespace + " namespace"
}

// netSysctlRefusal refuses network sysctls where the namespace is the runtime's
// own, be it by omission or by path.
func netSysctlRefusal(ns *specs.LinuxNamespace) string {
	if ns == nil {
		return needs(false, "a network")
	}
	if ns.Path == "" {
		return ""
	}
	var own, joined unix.Stat_t
	const self = "/proc/self/ns/net"
	if err := unix.Stat(self, &own); err != nil {
		return (&os.PathError{Op: "stat", Path: self, Err: err}).Error()
	}
	if err := unix.Stat(ns.Path, &joined); err != nil {
		return (&os.PathError{Op: "stat", Path: ns.Path, Err: err}).Error()
	}
	if own.Dev == joined.Dev && own.Ino == joined.Ino {
		return "the network namespace is the host's"
	}
	return ""
}
