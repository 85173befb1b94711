package monitor

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// opener opens container paths beneath root, without blocking on what is found there.
func opener(root *os.File) landlock.Opener {
	return func(name string) (int, error) {
		name = strings.TrimPrefix(path.Clean(name), "/")
		if name == "" {
			name = "."
		}
		return launch.OpenInRoot(int(root.Fd()), name, unix.O_PATH, 0)
	}
}

// rules adds the paths of the container to its ruleset, and sees to it that the workload's own program may be executed under them.
func (m *Monitor) rules(root *os.File) error {
	ruleset := *m.request.Plan.Landlock
	open := opener(root)
	if err := ruleset.AddPaths(int(m.ruleset.Fd()), open); err != nil {
		return err
	}
	if !m.request.Plan.Process.Terminal {
		if err := ruleset.AddOpened(int(m.ruleset.Fd()), 0, 1, 2); err != nil {
			return err
		}
	}
	if err := ruleset.AddOpened(int(m.ruleset.Fd()), preserved(m.request.PreserveFDs)...); err != nil {
		return err
	}
	if ruleset.WholeRoot() {
		return nil
	}
	return m.checkProgram(ruleset, open)
}

// preserved are the descriptors that the workload keeps of its caller's, besides the standard ones.
func preserved(n int) []int {
	const first = 3
	list := make([]int, n)
	for i := range list {
		list[i] = first + i
	}
	return list
}

// checkProgram says at create what execve would say at start. That the program is not there at all is the launch program's to say.
func (m *Monitor) checkProgram(ruleset landlock.Ruleset, open landlock.Opener) error {
	var candidates []string
	for _, c := range m.request.Plan.Process.Candidates() {
		if !path.IsAbs(c) {
			c = path.Join(m.request.Plan.Process.Cwd, c)
		}
		candidates = append(candidates, c)
	}
	err := ruleset.CheckExecutable(open, candidates...)
	var forbidden *landlock.ExecutableError
	if errors.As(err, &forbidden) {
		return err
	}
	return nil
}
