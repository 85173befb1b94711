package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// container is a bundle and what becomes of it. Its methods are the steps of a round.
type container struct {
	h      *harness
	id     string
	dir    string
	global []string // flags before the verb, beside the state root
	init   *os.File // the pidfd of its first process
}

// arguments are those of a command of the runtime.
func (c *container) arguments(verb ...string) []string {
	return slices.Concat([]string{"--root", c.h.state}, c.global, verb)
}

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// command prepares a command of the runtime. What it and its container say goes to a file, so that nobody waits for the end of an output.
func (c *container) command(args ...string) (*exec.Cmd, *os.File, error) {
	output, err := os.OpenFile(filepath.Join(c.dir, "output"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(c.h.runtime, c.arguments(args...)...)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output, nil
}

// run runs one command of the runtime to its end, which it must reach in time.
func (c *container) run(args ...string) error {
	cmd, output, err := c.command(args...)
	if err != nil {
		return err
	}
	defer output.Close()
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(c.h.bound):
		c.h.tally.hang(c.stuck(args[0], cmd.Process.Pid))
		_ = cmd.Process.Kill()
		return fmt.Errorf("%s hangs", args[0])
	}
	c.h.tally.step(args[0], time.Since(began))
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, c.said())
	}
	return nil
}

func (c *container) said() string {
	content, err := os.ReadFile(filepath.Join(c.dir, "output"))
	if err != nil {
		return err.Error()
	}
	content = bytes.TrimSpace(content)
	return string(content[max(0, len(content)-500):])
}

func (c *container) pidFile() string { return filepath.Join(c.dir, "pid") }

func (c *container) create() error {
	if err := c.run("create", "--bundle", c.dir, "--pid-file", c.pidFile(), c.id); err != nil {
		return err
	}
	content, err := os.ReadFile(c.pidFile())
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	// It waits to be started.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of the created container: %w", err)
	}
	c.init = os.NewFile(uintptr(fd), "pidfd")
	return nil
}

func (c *container) start() error       { return c.run("start", c.id) }
func (c *container) pause() error       { return c.run("pause", c.id) }
func (c *container) resume() error      { return c.run("resume", c.id) }
func (c *container) state() error       { return c.run("state", c.id) }
func (c *container) delete() error      { return c.run("delete", c.id) }
func (c *container) deleteForce() error { return c.run("delete", "--force", c.id) }

func (c *container) kill(signal string) func() error {
	return func() error { return c.run("kill", c.id, signal) }
}

func (c *container) exec(script string) func() error {
	return func() error { return c.run("exec", c.id, "/bin/sh", "-c", script) }
}

// execUntilEnd executes what the container's end cuts short.
func (c *container) execUntilEnd() error {
	return c.run("exec", "--detach", c.id, "/bin/sleep", "1000")
}

// foreground runs the container in the foreground.
func (c *container) foreground() error { return c.run("run", "--bundle", c.dir, c.id) }

// waitEnd waits for the container's first process.
func (c *container) waitEnd() error {
	began := time.Now()
	for {
		left := c.h.bound - time.Since(began)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.init.Fd()), Events: unix.POLLIN}}, max(0, int(left.Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		if n > 0 {
			c.h.tally.step("(end)", time.Since(began))
			return nil
		}
		c.h.tally.hang(c.stuck("end of the workload", 0))
		return errors.New("the workload does not end")
	}
}

// killMonitor kills the monitor, as the out-of-memory killer may.
func (c *container) killMonitor() error {
	pid, err := c.h.monitorPid(c.id)
	if err != nil {
		return err
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// interruptedCreate ends a create with the signal while it is at work.
func (c *container) interruptedCreate(signal unix.Signal, after time.Duration) error {
	cmd, output, err := c.command("create", "--bundle", c.dir, c.id)
	if err != nil {
		return err
	}
	defer output.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(signal) })
	defer timer.Stop()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // in whatever way: it may have been done before the signal
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(c.h.bound):
		c.h.tally.hang(c.stuck("create that was sent "+signal.String(), cmd.Process.Pid))
		_ = cmd.Process.Kill()
		return errors.New("an interrupted create hangs")
	}
}

// forget lets go of a container that is deleted, and removes its bundle, in which nothing but our own must be.
func (c *container) forget() error {
	if c.init != nil {
		c.init.Close()
	}
	for _, name := range []string{"config.json", "output", "pid"} {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Remove(c.dir)
}
