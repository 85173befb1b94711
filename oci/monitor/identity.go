package monitor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/plan"
)

// writeIDMaps gives a child in a new user namespace its users and groups. The child waits meanwhile.
func writeIDMaps(pid int, p *plan.Plan) error {
	proc := "/proc/" + strconv.Itoa(pid)
	if p.DenySetgroups {
		if err := os.WriteFile(proc+"/setgroups", []byte("deny"), 0); err != nil {
			return fmt.Errorf("setgroups of the user namespace: %w", err)
		}
	}
	if err := os.WriteFile(proc+"/uid_map", idMap(p.UIDMappings), 0); err != nil {
		return fmt.Errorf("linux.uidMappings: %w", err)
	}
	if err := os.WriteFile(proc+"/gid_map", idMap(p.GIDMappings), 0); err != nil {
		return fmt.Errorf("linux.gidMappings: %w", err)
	}
	return nil
}

// idMap is the text of user_namespaces(7).
func idMap(mappings []specs.LinuxIDMapping) []byte {
	var b strings.Builder
	for _, m := range mappings {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return []byte(b.String())
}

// raiseLimits raises this process's own hard limits, which its children inherit, to those of a process to be made. The child sets its limits itself
// when it has nothing left to do that they could hinder, and cannot raise them any more by then. Like runc, a process without a limit of open
// files of its own gets all that the runtime has.
func raiseLimits(limits []plan.Rlimit) error {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err == nil && own.Cur != own.Max {
		own.Cur = own.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &own) // more than needed
	}
	for _, limit := range limits {
		if err := unix.Getrlimit(limit.Resource(), &own); err != nil {
			return fmt.Errorf("process.rlimits: %s: getrlimit: %w", limit.Type, err)
		}
		if limit.Hard <= own.Max {
			continue
		}
		own.Max = limit.Hard
		if err := unix.Setrlimit(limit.Resource(), &own); err != nil {
			return fmt.Errorf("process.rlimits: %s: setrlimit: %w", limit.Type, err)
		}
	}
	return nil
}

// setOOMScore writes a waiting child's oom_score_adj, if the spec has one, unless it is what is wanted already: lowering it takes a privilege that the runtime may lack.
func setOOMScore(pid int, wanted *int) error {
	if wanted == nil {
		return nil
	}
	score := *wanted
	file := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	err := os.WriteFile(file, []byte(strconv.Itoa(score)), 0)
	if err == nil {
		return nil
	}
	if now, readErr := os.ReadFile(file); readErr == nil && strings.TrimSpace(string(now)) == strconv.Itoa(score) {
		return nil
	}
	var failed *os.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("process.oomScoreAdj: %d: %w", score, err)
}
