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

// setLimits gives a waiting child what only a process outside its user namespace may.
func setLimits(pid int, p plan.Process) error {
	for _, limit := range p.Rlimits {
		value := unix.Rlimit{Cur: limit.Soft, Max: limit.Hard}
		if err := unix.Prlimit(pid, limit.Resource(), &value, nil); err != nil {
			return fmt.Errorf("process.rlimits: %s: prlimit: %w", limit.Type, err)
		}
	}
	if p.OOMScoreAdj != nil {
		return setOOMScore(pid, *p.OOMScoreAdj)
	}
	return nil
}

// setOOMScore writes oom_score_adj, unless it is what is wanted already: lowering it takes a privilege that the runtime may lack.
func setOOMScore(pid, score int) error {
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
