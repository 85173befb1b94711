package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// start measures `run` of echo from the runtime's start to its exit.
func (b *bench) start() error {
	title("start: run of echo, Docker's mounts, namespaces and seccomp profile, %d rounds", b.rounds)
	return b.interleave([]string{"/bin/echo", "hello"}, func(c *candidate, id, dir string) error {
		return c.do(nil, "run", "--bundle", dir, id)
	})
}

// lifecycle measures create, start, the workload's end and delete.
func (b *bench) lifecycle() error {
	title("life cycle: create, start, end of /bin/true, delete, %d rounds", b.rounds)
	return b.interleave([]string{"/bin/true"}, func(c *candidate, id, dir string) error {
		pidFile := filepath.Join(dir, "pid")
		if err := c.do(nil, "create", "--bundle", dir, "--pid-file", pidFile, id); err != nil {
			return err
		}
		pid, pidfd, err := openPid(pidFile)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		if err := c.do(nil, "start", id); err != nil {
			return err
		}
		if err := waitForEnd(pid, pidfd); err != nil {
			return err
		}
		return c.do(nil, "delete", id)
	})
}

// interleave measures the work on a bundle that runs args with each runtime in turn, round after round, after one round
// that does not count, and prints how they compare.
func (b *bench) interleave(args []string, work func(c *candidate, id, dir string) error) error {
	measured := map[*candidate]samples{}
	for round := -1; round < b.rounds; round++ {
		for _, c := range b.runtimes {
			id := fmt.Sprintf("bench-%s-%d-%d", c.name, os.Getpid(), round+1)
			dir, err := b.bundle(id, nil, args...)
			if err != nil {
				return err
			}
			before := time.Now()
			if err := work(c, id, dir); err != nil {
				return err
			}
			took := time.Since(before)
			if round >= 0 {
				measured[c] = append(measured[c], took)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	compare(b.runtimes, measured)
	return nil
}

func openPid(pidFile string) (pid, pidfd int, err error) {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, 0, err
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(content))); err != nil {
		return 0, 0, err
	}
	pidfd, err = unix.PidfdOpen(pid, 0)
	return pid, pidfd, err
}

// waitForEnd waits until the process has ended, and reaps it if it has become this one's child.
func waitForEnd(pid, pidfd int) error {
	if err := untilEnd(pidfd); err != nil {
		return err
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil && err != unix.ECHILD {
		return err
	}
	return nil
}

// untilEnd waits until a process has ended, and leaves it to be reaped.
func untilEnd(pidfd int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return err
		}
	}
}
