package bundle

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Rlimit returns the resource number of setrlimit(2) for a name such as
// "RLIMIT_NOFILE", and whether the name is known.
func Rlimit(name string) (resource int, known bool) {
	switch name {
	case "RLIMIT_AS":
		return unix.RLIMIT_AS, true
	case "RLIMIT_CORE":
		return unix.RLIMIT_CORE, true
	case "RLIMIT_CPU":
		return unix.RLIMIT_CPU, true
	case "RLIMIT_DATA":
		return unix.RLIMIT_DATA, true
	case "RLIMIT_FSIZE":
		return unix.RLIMIT_FSIZE, true
	case "RLIMIT_LOCKS":
		return unix.RLIMIT_LOCKS, true
	case "RLIMIT_MEMLOCK":
		return unix.RLIMIT_MEMLOCK, true
	case "RLIMIT_MSGQUEUE":
		return unix.RLIMIT_MSGQUEUE, true
	case "RLIMIT_NICE":
		return unix.RLIMIT_NICE, true
	case "RLIMIT_NOFILE":
		return unix.RLIMIT_NOFILE, true
	case "RLIMIT_NPROC":
		return unix.RLIMIT_NPROC, true
	case "RLIMIT_RSS":
		return unix.RLIMIT_RSS, true
	case "RLIMIT_RTPRIO":
		return unix.RLIMIT_RTPRIO, true
	case "RLIMIT_RTTIME":
		return unix.RLIMIT_RTTIME, true
	case "RLIMIT_SIGPENDING":
		return unix.RLIMIT_SIGPENDING, true
	case "RLIMIT_STACK":
		return unix.RLIMIT_STACK, true
	}
	return 0, false
}

// checkRlimits refuses unknown types, a type given twice (the specification
// demands an error) and a soft limit above the hard one (EINVAL in the kernel).
func checkRlimits(field string, rlimits []specs.POSIXRlimit) error {
	for i, limit := range rlimits {
		if _, known := Rlimit(limit.Type); !known {
			return invalid(at(field, i)+".type", "unknown resource %q", limit.Type)
		}
		if limit.Soft > limit.Hard {
			return invalid(at(field, i)+".soft", "%d is above the hard limit %d of %s", limit.Soft, limit.Hard, limit.Type)
		}
		for _, earlier := range rlimits[:i] {
			if earlier.Type == limit.Type {
				return invalid(at(field, i)+".type", "%s is given twice", limit.Type)
			}
		}
	}
	return nil
}
