package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const connectRounds = 9

// connect compares a denied connect in a container with one under the barest supervisor, round by round. Its loop is in a cgroup of
// its own, as a container's is: to wake each other across cgroups costs both a good part of a microsecond.
func (b *bench) connect() error {
	title("connect: one denied connect, %d rounds of %d", connectRounds, notifiedCalls)
	program, err := b.notifyProgram()
	if err != nil {
		return err
	}
	group, tasks, err := makeGroup()
	if err != nil {
		return err
	}
	defer func() {
		if err := os.Remove(group); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}()
	var floor, ours calls
	for round := range connectRounds {
		out, err := exec.Command(program, "floor", "connect", fmt.Sprint(notifiedCalls), tasks).Output()
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		if err := floor.read(string(out)); err != nil {
			return err
		}
		printed, err := b.deniedConnects(round)
		if err != nil {
			return err
		}
		if err := ours.read(printed); err != nil {
			return err
		}
	}
	compareCalls(b.ours.name, &ours, "bare C supervisor", &floor)
	return nil
}

// makeGroup makes a cgroup by which processors are shared out, and returns it and its file for tasks.
func makeGroup() (group, tasks string, err error) {
	name := fmt.Sprintf("sl-bench-%d", os.Getpid())
	for _, at := range []struct{ root, file string }{{"/sys/fs/cgroup/cpu", "tasks"}, {"/sys/fs/cgroup", "cgroup.procs"}} {
		if _, err := os.Stat(filepath.Join(at.root, at.file)); err == nil {
			group = filepath.Join(at.root, name)
			return group, filepath.Join(group, at.file), os.Mkdir(group, 0o755)
		}
	}
	return "", "", errors.New("no cgroup for processors is mounted where it usually is")
}

// deniedConnects runs the loop in a container under a deny rule and returns what it printed.
func (b *bench) deniedConnects(round int) (string, error) {
	id := fmt.Sprintf("bench-connect-%d-%d", os.Getpid(), round)
	dir, err := b.bundle(id, map[string]string{"io.sandlock.network.deny": "192.0.2.0/24"}, "/bin/notify", "loop", "connect", fmt.Sprint(notifiedCalls))
	if err != nil {
		return "", err
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		return "", err
	}
	defer out.Close()
	if err := b.ours.do(out, "run", "--bundle", dir, id); err != nil {
		return "", err
	}
	text, err := os.ReadFile(out.Name())
	return string(text), err
}
