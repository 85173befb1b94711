package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// monitor prints the memory of the monitor of an idle container, without a policy and with one.
func (b *bench) monitor() error {
	title("monitor: memory of the monitor of an idle container")
	for _, policy := range []struct {
		name        string
		annotations map[string]string
	}{
		{"without a policy", nil},
		{"with egress rules", map[string]string{"io.sandlock.network.allow": "tcp://10.0.0.0/8:80;udp://10.0.0.0/8:53"}},
	} {
		if err := b.idleMonitor(policy.name, policy.annotations); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) idleMonitor(name string, annotations map[string]string) (err error) {
	id := fmt.Sprintf("bench-monitor-%d", os.Getpid())
	dir, err := b.bundle(id, annotations, "/bin/sleep", "1000")
	if err != nil {
		return err
	}
	if err := b.ours.do(nil, "run", "--detach", "--bundle", dir, id); err != nil {
		return err
	}
	defer func() {
		if deleteErr := b.ours.do(nil, "delete", "--force", id); err == nil {
			err = deleteErr
		}
	}()
	pid, err := b.monitorPid(id)
	if err != nil {
		return err
	}
	if err := printMemory(name, pid); err != nil {
		return err
	}
	tie, err := tiePid(id)
	if err != nil || tie == 0 {
		return err
	}
	return printMemory("  and its tie", tie)
}

func printMemory(name string, pid int) error {
	memory, err := settled(pid)
	if err != nil {
		return err
	}
	fmt.Printf("%-20s", name)
	for line := range strings.Lines(string(memory)) {
		if key, value, found := strings.Cut(line, ":"); found && (key == "Pss" || key == "Rss" || key == "Private_Dirty") {
			fmt.Printf("  %s %s", key, strings.TrimSpace(value))
		}
	}
	fmt.Println()
	return nil
}

// settled is what smaps_rollup says of a process once it has said the same for two seconds: then the process is idle, and has made itself small.
func settled(pid int) ([]byte, error) {
	const reads, apart = 20, 100 * time.Millisecond
	var last []byte
	for same := 0; ; {
		now, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return nil, err
		}
		if same++; !bytes.Equal(now, last) {
			last, same = now, 0
		}
		if same == reads {
			return now, nil
		}
		time.Sleep(apart)
	}
}

func (b *bench) monitorPid(id string) (int, error) {
	content, err := os.ReadFile(filepath.Join(b.ours.root, id, "state.json"))
	if err != nil {
		return 0, err
	}
	var state struct{ Monitor struct{ Pid int } }
	if err := json.Unmarshal(content, &state); err != nil {
		return 0, fmt.Errorf("state.json: %w", err)
	}
	if state.Monitor.Pid == 0 {
		return 0, fmt.Errorf("state.json of %s names no monitor", id)
	}
	return state.Monitor.Pid, nil
}

// tiePid is the process that ends a supervised container with its monitor, 0 if there is none.
func tiePid(id string) (int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	for _, path := range names {
		// Processes come and go meanwhile.
		name, err := os.ReadFile(path)
		if err != nil || string(name) != "sandlock-tie\n" {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && bytes.Contains(cmdline, []byte(id)) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, nil
}
