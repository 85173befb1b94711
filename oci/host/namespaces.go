package host

import (
	"encoding/json"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespaces is a set of namespace types, as the bits of CLONE_NEW* in <linux/sched.h>.
type Namespaces uint64

// namespaceTypes has the types by the names that /proc/PID/ns gives them, see namespaces(7).
var namespaceTypes = [...]struct {
	name string
	flag Namespaces
}{
	{"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS}, {"user", unix.CLONE_NEWUSER}, {"cgroup", unix.CLONE_NEWCGROUP}, {"time", unix.CLONE_NEWTIME},
}

// Has says whether every type of want, one or more of unix.CLONE_NEW*, is in the set.
func (n Namespaces) Has(want uint64) bool { return uint64(n)&want == want }

// Missing lists the types of want, one or more of unix.CLONE_NEW*, that are not in the set, as /proc/PID/ns names them.
func (n Namespaces) Missing(want uint64) []string { return (Namespaces(want) &^ n).names() }

// MarshalJSON writes the set as an array of names, as /proc/PID/ns has them.
func (n Namespaces) MarshalJSON() ([]byte, error) { return json.Marshal(n.names()) }

func (n Namespaces) names() []string {
	list := []string{}
	for _, one := range namespaceTypes {
		if n&one.flag != 0 {
			list = append(list, one.name)
		}
	}
	return list
}

// initialUserNS is the inode of the user namespace that a machine boots with (USER_NS_INIT_INO in <linux/nsfs.h>,
// PROC_USER_INIT_INO in <linux/proc_ns.h> of older kernels).
const initialUserNS = 0xEFFFFFFD

// probeUserNS asks /proc, with one call, whether there are user namespaces and whether this one is the initial one. A kernel
// without them has that one only; without /proc nothing is known, and this one does not count as initial.
func probeUserNS() (exist, initial bool) {
	var stat unix.Stat_t
	switch err := unix.Stat("/proc/self/ns/user", &stat); {
	case err == nil:
		return true, stat.Ino == initialUserNS
	case unix.Access("/proc/self/ns", unix.F_OK) == nil:
		return false, true
	}
	return false, false
}

// ProbeNamespaces asks /proc which types of namespace the kernel has. It is no part of [Probe], since it takes as long as
// all the rest: a start that the kernel refuses with EINVAL can ask afterwards which type was one too many.
func ProbeNamespaces() Namespaces {
	dir, err := unix.Open("/proc/self/ns", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(dir) }() // opened to find files by
	var found Namespaces
	for _, one := range namespaceTypes {
		var stat unix.Stat_t
		if unix.Fstatat(dir, one.name, &stat, unix.AT_SYMLINK_NOFOLLOW) == nil {
			found |= one.flag
		}
	}
	return found
}

// setgroupsDenied asks /proc whether setgroups(2) is denied in this process's user namespace. What cannot be found out is denied.
func setgroupsDenied() bool {
	text, err := os.ReadFile("/proc/self/setgroups")
	return err != nil || strings.TrimSpace(string(text)) != "allow"
}
