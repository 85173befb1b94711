// Package daemon starts container daemons beside whatever the machine runs: each keeps all it has in a directory, and is in a network namespace
// of its own, so that its bridges and packet filter rules go with it and nobody else's are touched. What listens there is reached by Dial.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Timeout is how long a daemon may take until it answers, and to end once asked to.
const Timeout = 60 * time.Second

// The main thread stays with the main goroutine, and so in its namespaces: it is what /proc/self tells of.
func init() { runtime.LockOSThread() }

// Daemon is a program that runs on in the background. Its methods may be called from any goroutine, but for Run and Stop.
type Daemon struct {
	name string // of the program, which PATH leads to
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed once the program has ended
	err  error         // how, once done is closed
}

// New returns a daemon that does not run yet. All it has is in dir, which should be short for the sake of its sockets, and is the caller's to remove.
func New(name, dir string) *Daemon { return &Daemon{name: name, dir: dir} }

// Path is the path of a file of the daemon's.
func (d *Daemon) Path(name string) string { return filepath.Join(d.dir, name) }

// Run starts the program, the first time or after End, and waits until it answers. The environment's variables come after those of the
// caller.
func (d *Daemon) Run(answers func() bool, environment []string, args ...string) error {
	log, err := os.OpenFile(d.Path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// The shell brings the new namespace's loopback up before it becomes the daemon. Debian has daemons in sbin.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `PATH="$PATH:/usr/sbin:/sbin"; ip link set lo up && exec "$0" "$@"`, d.name}, args...)...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if d.cmd == nil {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
		err = cmd.Start()
	} else {
		err = d.InNetwork(cmd.Start) // in which containers that have survived expect their bridge
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	first := d.cmd == nil
	done := make(chan struct{})
	d.cmd, d.done = cmd, done
	go func() {
		d.err = cmd.Wait()
		close(done)
	}()
	if first {
		if err := keepNetwork(cmd.Process.Pid, d.network()); err != nil {
			return err
		}
	}
	return d.waitUntilUp(answers)
}

func (d *Daemon) waitUntilUp(answers func() bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Timeout)
	for {
		select {
		case <-d.done:
			return fmt.Errorf("%s ended at once (%v):\n%s", d.name, d.err, d.LogTail(20))
		case <-deadline:
			return fmt.Errorf("%s did not answer in %s:\n%s", d.name, Timeout, d.LogTail(20))
		case <-tick.C:
			if answers() {
				return nil
			}
		}
	}
}

// End ends the daemon alone: containers may live on.
func (d *Daemon) End(ctx context.Context) error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s did not end in time", d.name), d.cmd.Process.Kill())
	}
}

// Stop ends the daemon, has clear end the processes that it may have left, and unmounts what is left in its directory. It may be called
// whatever Run has come to.
func (d *Daemon) Stop(clear func() error) error {
	if d.cmd == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	return errors.Join(d.End(ctx), clear(), unmountBelow(d.dir))
}

// LogTail returns the last lines of the daemon's log.
func (d *Daemon) LogTail(lines int) string {
	content, err := os.ReadFile(d.Path("log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
