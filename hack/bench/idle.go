package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	idleContainers = 300
	// idleEdge is how many of the first and the last starts are compared by their medians.
	idleEdge = 15
	// idleRepeats is how often each command is measured beside them.
	idleRepeats = 15
)

// idle keeps many idle containers at once, under runc, under ours, and under ours with a policy: what each takes of the machine's memory, what the runtime's
// own processes have of it, how long list, state, kill and delete take, and how much longer the last ones take to start than the first.
func (b *bench) idle() error {
	title("idle: %d idle containers at once", idleContainers)
	rules := map[string]string{"io.sandlock.network.allow": "tcp://10.0.0.0/8:80;udp://10.0.0.0/8:53"}
	fmt.Printf("%-36s %14s %14s %12s %10s %10s %10s %24s\n", "", "memory each", "of it runtime", "list", "state", "kill", "delete", "create+start, last/first")
	for _, c := range b.runtimes {
		if c.name == "crun" {
			continue
		}
		if err := b.crowd(c, c.name, nil); err != nil {
			return err
		}
	}
	return b.crowd(b.ours, b.ours.name+", egress rules", rules)
}

func (b *bench) crowd(c *candidate, name string, annotations map[string]string) (err error) {
	before, err := memoryAvailable()
	if err != nil {
		return err
	}
	var ids []string
	defer func() {
		for _, id := range ids {
			if deleteErr := c.do(nil, "delete", "--force", id); err == nil {
				err = deleteErr
			}
		}
	}()
	var starts samples
	for i := range idleContainers {
		id := fmt.Sprintf("bench-idle-%d-%d", os.Getpid(), i)
		dir, err := b.bundle(id, annotations, "/bin/sleep", "100000")
		if err != nil {
			return err
		}
		ids = append(ids, id)
		began := time.Now()
		if err := c.do(nil, "create", "--bundle", dir, id); err != nil {
			return err
		}
		if err := c.do(nil, "start", id); err != nil {
			return err
		}
		starts = append(starts, time.Since(began))
	}
	lists, err := b.repeated(c, func(int) []string { return []string{"list"} })
	if err != nil {
		return err
	}
	states, err := b.repeated(c, func(i int) []string { return []string{"state", ids[i]} })
	if err != nil {
		return err
	}
	own, err := b.ownMemory(c, ids)
	if err != nil {
		return err
	}
	after, err := memoryAvailable()
	if err != nil {
		return err
	}
	kills, deletes, err := b.ends(c, ids)
	if err != nil {
		return err
	}
	ids = ids[idleRepeats:]
	first, last := starts[:idleEdge].median(), starts[len(starts)-idleEdge:].median()
	fmt.Printf("%-36s %10.2f MiB %10.2f MiB %9.1f ms %7.1f ms %7.1f ms %7.1f ms  %.1f ms, %.1f ms, %.2f\n", name, mebibytes(before-after)/idleContainers, mebibytes(own)/idleContainers,
		milliseconds(lists.median()), milliseconds(states.median()), milliseconds(kills.median()), milliseconds(deletes.median()), milliseconds(first), milliseconds(last), float64(last)/float64(first))
	return nil
}

// repeated measures the commands that args makes of numbers.
func (b *bench) repeated(c *candidate, args func(int) []string) (samples, error) {
	out, err := os.Create(filepath.Join(b.dir, "output"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	var took samples
	for i := range idleRepeats {
		began := time.Now()
		if err := c.do(out, args(i)...); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// ends kills the first containers and deletes them, beside all the others.
func (b *bench) ends(c *candidate, ids []string) (kills, deletes samples, err error) {
	if kills, err = b.repeated(c, func(i int) []string { return []string{"kill", ids[i], "KILL"} }); err != nil {
		return nil, nil, err
	}
	if deletes, err = b.repeated(c, func(i int) []string { return []string{"delete", "--force", ids[i]} }); err != nil {
		return nil, nil, err
	}
	return kills, deletes, nil
}

// ownMemory is what the runtime's own processes take, in KiB: the monitors once they are idle, and what ties containers to them.
func (b *bench) ownMemory(c *candidate, ids []string) (int, error) {
	if c != b.ours {
		return 0, nil // others have none
	}
	sum := 0
	for i, id := range ids {
		pid, err := b.monitorPid(id)
		if err != nil {
			return 0, err
		}
		if i >= len(ids)-idleEdge { // the others have been idle for long
			if _, err := settled(pid); err != nil {
				return 0, err
			}
		}
		kib, err := proportional(pid)
		if err != nil {
			return 0, err
		}
		sum += kib
	}
	ties, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	for _, path := range ties {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		// Processes come and go meanwhile.
		name, _ := os.ReadFile(path)
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if string(name) == "sandlock-tie\n" && strings.Contains(string(cmdline), fmt.Sprintf("bench-idle-%d-", os.Getpid())) {
			kib, err := proportional(pid)
			if err != nil {
				return 0, err
			}
			sum += kib
		}
	}
	return sum, nil
}

// proportional is a process's proportional share of its memory, in KiB.
func proportional(pid int) (int, error) {
	return field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss")
}

// memoryAvailable is how much memory the machine could give, in KiB: the median of some time, since others work here, too.
func memoryAvailable() (int, error) {
	var reads []int
	for range 21 {
		kib, err := field("/proc/meminfo", "MemAvailable")
		if err != nil {
			return 0, err
		}
		reads = append(reads, kib)
		time.Sleep(100 * time.Millisecond)
	}
	slices.Sort(reads)
	return reads[len(reads)/2], nil
}

// field is the number that a file of lines "name: number kB" has for a name.
func field(path, name string) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if key, value, found := strings.Cut(line, ":"); found && key == name {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

func mebibytes(kib int) float64 { return float64(kib) / 1024 }
