package oci

import (
	"errors"
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
)

// Processes lists the container's processes by their pids in the caller's PID namespace. Without a cgroup, as ordinary users' containers are, it has those of the PID namespace that it
// was given, or the first process only; a container that has stopped, none.
func (r *Runtime) Processes(id string) ([]int, error) {
	dir, record, status, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	group, err := loadCgroup(record)
	if err != nil {
		return nil, err
	}
	pids, err := group.PIDs()
	if errors.Is(err, cgroup.ErrAbsent) && status != specs.StateStopped && record.Init.PID > 0 {
		if !ownPIDNamespace(record) {
			return []int{record.Init.PID}, nil
		}
		return inNamespace(record.Init.PID)
	}
	if err != nil && !errors.Is(err, cgroup.ErrAbsent) {
		return nil, err
	}
	return append([]int{}, pids...), nil
}

// inNamespace lists the processes in the PID namespace of a container's first process; that one at least.
func inNamespace(init int) ([]int, error) {
	own := pidNamespace(init)
	if own == pidNamespace(os.Getpid()) {
		own = 0 // the host's would be everybody
	}
	proc, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := []int{init}
	for _, entry := range proc {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && pid != init && own != 0 && pidNamespace(pid) == own {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// pidNamespace is the inode of a process's PID namespace; 0 for a process that is gone, or that one may not look into.
func pidNamespace(pid int) uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}
