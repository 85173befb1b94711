package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// spent is the processor time, user and system, of the processes of one container's life.
type spent struct {
	commands [3]time.Duration // create, start, delete, each with what it waited for
	others   time.Duration    // processes that others than the runtime reap: our monitor, and whom it made
	first    time.Duration    // the container's first process
}

func (s spent) own() time.Duration { return s.commands[0] + s.commands[1] + s.commands[2] + s.others }

// cpu measures the processor time, user and system, of create, start, the workload's end and delete: of all processes that the runtime has, the monitor and
// what it has made included, whoever reaps them. The container's first process is counted apart: it is the runtime's until it executes the workload,
// and the workload's from then on.
func (b *bench) cpu() error {
	title("cpu: user and system time of create, start, end of /bin/true, delete, %d rounds", b.rounds)
	measured := map[*candidate][]spent{}
	for round := -1; round < b.rounds; round++ {
		order := slices.Clone(b.runtimes)
		if round%2 != 0 {
			slices.Reverse(order)
		}
		for _, c := range order {
			id := fmt.Sprintf("bench-cpu-%s-%d-%d", c.name, os.Getpid(), round+1)
			dir, err := b.bundle(id, nil, "/bin/true")
			if err != nil {
				return err
			}
			s, err := spentOn(c, id, dir)
			if err != nil {
				return err
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			if round >= 0 {
				measured[c] = append(measured[c], s)
			}
		}
	}
	for _, part := range []struct {
		name string
		of   func(spent) time.Duration
	}{
		{"all processes, the container's first one included:", func(s spent) time.Duration { return s.own() + s.first }},
		{"without the first one:", spent.own},
		{"create:", func(s spent) time.Duration { return s.commands[0] + s.others }},
		{"start:", func(s spent) time.Duration { return s.commands[1] }},
		{"delete:", func(s spent) time.Duration { return s.commands[2] }},
		{"the container's first process, before and after it executes the workload:", func(s spent) time.Duration { return s.first }},
	} {
		fmt.Println(part.name)
		times := map[*candidate]samples{}
		for c, all := range measured {
			for _, s := range all {
				times[c] = append(times[c], part.of(s))
			}
		}
		compare(b.runtimes, times)
	}
	return nil
}

// spentOn leads a container through its life, and returns what its processes have spent on it.
func spentOn(c *candidate, id, dir string) (s spent, err error) {
	pidFile := filepath.Join(dir, "pid")
	command := func(n int, args ...string) error {
		c.spent = 0
		err := c.do(nil, append(args, id)...)
		s.commands[n] = c.spent
		return err
	}
	if err := command(0, "create", "--bundle", dir, "--pid-file", pidFile); err != nil {
		return s, err
	}
	pid, pidfd, err := openPid(pidFile)
	if err != nil {
		return s, err
	}
	defer unix.Close(pidfd)
	if err := command(1, "start"); err != nil {
		return s, err
	}
	if err := untilEnd(pidfd); err != nil {
		return s, err
	}
	if err := command(2, "delete"); err != nil {
		return s, err
	}
	// All others have become children of this process, and end by themselves.
	for {
		var usage unix.Rusage
		ended, err := unix.Wait4(-1, nil, 0, &usage)
		switch took := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()); {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return s, nil
		case err != nil:
			return s, fmt.Errorf("wait4: %w", err)
		case ended == pid:
			s.first = took
		default:
			s.others += took
		}
	}
}
