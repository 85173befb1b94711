// Command soak looks for leaks and deadlocks: for a bounded time it runs many loops at once that make, start, use, kill and delete containers in every
// way there is, beside two containers that live through it all. Then it looks for what is left: processes, zombies, mounts, cgroups, state
// directories, files in bundles, and descriptors and threads of the monitors of those two. A step that does not end within a generous bound is reported with what its processes are waiting for.
//
//	go run ./hack/soak [-loops 100] [-for 5m] [-bound 2m] [-runtime PATH]
//	go run ./hack/soak -long 20000
//
// The second looks at monitors that live long instead: see [harness.longLife].
//
// It exits with 1 if anything is left, hangs or fails.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	loops   int
	time    time.Duration
	bound   time.Duration
	long    int
	runtime string
}

func main() {
	var o options
	flag.IntVar(&o.loops, "loops", 100, "loops at once")
	flag.DurationVar(&o.time, "for", 5*time.Minute, "how long new containers are made")
	flag.DurationVar(&o.bound, "bound", 2*time.Minute, "a step that takes longer hangs")
	flag.IntVar(&o.long, "long", 0, "not that, but so many steps in the lives of a few containers, and what their monitors have grown by")
	flag.StringVar(&o.runtime, "runtime", "bin/sandlock-runtime", "the runtime to try")
	flag.Parse()
	if flag.NArg() > 0 || o.loops < 1 {
		flag.Usage()
		os.Exit(2)
	}
	work := supervise
	if os.Getenv(inner) != "" {
		work = soak
	}
	if err := work(&o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// inner is set in the process that does the work.
const inner = "_SOAK_INNER"

// grace is how long the last processes may take to be gone once all is deleted.
const grace = 30 * time.Second

// supervise has the work done in a child, and is itself what containerd's shim is to a container: all processes whose parents have ended become its children. So it knows
// for certain whether any is left.
func supervise(*options) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("containers are started as root")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	status := unix.WaitStatus(0)
	var ended time.Time
	for ended.IsZero() || time.Since(ended) < grace {
		options := 0
		if !ended.IsZero() {
			options = unix.WNOHANG
		}
		var got unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &got, options, nil); {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return verdict(status, nil)
		case err != nil:
			return fmt.Errorf("wait4: %w", err)
		case pid == cmd.Process.Pid:
			status, ended = got, time.Now()
		case pid == 0:
			time.Sleep(100 * time.Millisecond)
		}
	}
	return verdict(status, descendants(os.Getpid()))
}

// verdict is the outcome, given how the work ended and which processes are left.
func verdict(status unix.WaitStatus, left []int) error {
	fmt.Printf("processes left: %d\n", len(left))
	for _, pid := range left {
		fmt.Print(describe(pid))
	}
	if len(left) > 0 {
		return fmt.Errorf("%d processes are left", len(left))
	}
	if !status.Exited() || status.ExitStatus() != 0 {
		return fmt.Errorf("something was left, hung or failed")
	}
	fmt.Println("nothing is left")
	return nil
}

func soak(o *options) error {
	path, err := filepath.Abs(o.runtime)
	if err != nil {
		return err
	}
	h, err := newHarness(path, o.bound)
	if err != nil {
		return err
	}
	if o.long > 0 {
		if err := h.longLife(o.long); err != nil {
			h.finish()
			return err
		}
	} else {
		if err := h.prepare(); err != nil {
			return err
		}
		h.run(o.loops, o.time)
	}
	left := h.finish()
	h.tally.print()
	fmt.Printf("left: %d\n", len(left))
	for _, what := range left {
		fmt.Println("  " + what)
	}
	if len(left) > 0 || h.tally.failed() {
		return fmt.Errorf("state, bundles and outputs are kept in %s", h.dir)
	}
	return os.RemoveAll(h.dir)
}
