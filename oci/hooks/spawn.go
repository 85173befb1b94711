package hooks

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is a process to start: a hook with all it gets.
type Command struct {
	Path string   // absolute; by whose root depends on the kind
	Args []string // argv, never empty
	Env  []string // all of the environment; empty, but never nil, for none
	// Stdin holds the state, Stdout and Stderr are ends of pipes. They belong to the caller of the Spawner, and are
	// close-on-exec: the process gets duplicates as 0, 1 and 2.
	Stdin, Stdout, Stderr *os.File
}

// Process is a started hook.
type Process interface {
	// Wait waits for the end and reaps. The error says how it ended, "exit status 1", if not with 0.
	Wait() error
	// Kill ends the whole process group, at once. It may be called while Wait waits, or after the end.
	Kill()
}

// Spawner starts a process that leads a new process group, and has no descriptors but the three of the command and what in this process is not
// close-on-exec.
type Spawner func(*Command) (Process, error)

// Spawn is the Spawner of hooks that run in the runtime's namespaces.
func Spawn(c *Command) (Process, error) {
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Env: c.Env,
		Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return group{cmd}, nil
}

type group struct{ cmd *exec.Cmd }

func (g group) Wait() error { return g.cmd.Wait() }

// Kill reaches what the hook has started, too, as far as it stayed in the group.
func (g group) Kill() { _ = unix.Kill(-g.cmd.Process.Pid, unix.SIGKILL) }
