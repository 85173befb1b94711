package seccompnotif

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// kin is a process and its parent, in the supervisor's pid namespace and in the process's own.
type kin struct {
	parent      int
	guest       int
	guestParent int
}

// kinOf returns the numbers of c's process p.
func kinOf(c *Call, p *Process) (kin, error) {
	k, err := p.readKin()
	if err != nil || !c.Valid() {
		return kin{}, gone(c, err)
	}
	return k, nil
}

// readKin reads what is not known yet. A process's own number in its pid namespace never changes, and that of its parent only with
// the parent: whoever takes a dead parent's place is an ancestor, so it was there before, and had a number of its own all the time.
func (p *Process) readKin() (kin, error) {
	status, err := readProc(p.pid, "status")
	if err != nil {
		return kin{}, err
	}
	parent, err := statusNumber(status, "PPid:")
	if err != nil {
		return kin{}, err
	}
	if known := p.kin.Load(); known != nil && known.parent == parent {
		return *known, nil
	}
	own, err := namespacedPIDs(p.pid)
	if err != nil {
		return kin{}, err
	}
	k := kin{parent: parent, guest: own[len(own)-1]}
	if parent > 0 {
		// A parent is in its child's pid namespace or in one further out.
		if of, err := namespacedPIDs(parent); err == nil && len(of) == len(own) {
			k.guestParent = of[len(of)-1]
		}
	}
	// If the parent is another by now, what was read of its number may be a stranger's.
	status, err = readProc(p.pid, "status")
	if err != nil {
		return kin{}, err
	}
	again, err := statusNumber(status, "PPid:")
	if err != nil {
		return kin{}, err
	}
	if again != parent {
		return kin{parent: again, guest: k.guest}, nil // it is told in full the next time
	}
	p.kin.Store(&k)
	return k, nil
}

// namespacedPIDs returns the numbers of a process, from the pid namespace of the reader's /proc to its own.
func namespacedPIDs(pid int) ([]int, error) {
	// The list of groups comes before and may be long.
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil, err
	}
	return parseNSTgid(status)
}

func parseNSTgid(status []byte) ([]int, error) {
	value, ok := statusField(status, "NStgid:")
	if !ok {
		return nil, errors.New("no NStgid: in the task's status")
	}
	var pids []int
	for _, field := range bytes.Fields(value) {
		pid, err := strconv.Atoi(string(field))
		if err != nil {
			return nil, fmt.Errorf("NStgid: in the task's status: %w", err)
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		return nil, errors.New("NStgid: in the task's status is empty")
	}
	return pids, nil
}

func statusNumber(status []byte, name string) (int, error) {
	value, ok := statusField(status, name)
	if !ok {
		return 0, fmt.Errorf("no %s in the task's status", name)
	}
	return strconv.Atoi(string(bytes.TrimSpace(value)))
}

func statusField(status []byte, name string) ([]byte, bool) {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return value, true
		}
	}
	return nil, false
}
