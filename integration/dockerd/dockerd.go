// Package dockerd starts a Docker daemon of its own beside whatever the machine runs: its own data, sockets and
// containerd, in a network namespace of its own, so that its bridges and packet filter rules go with it and nobody
// else's are touched. Published ports are reached from inside that namespace, with Dial.
package dockerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startTimeout is how long dockerd may take until it answers, and to end once asked to.
const startTimeout = 60 * time.Second

// The main thread stays with the main goroutine, and so in its namespaces: it is what /proc/self tells of.
func init() { runtime.LockOSThread() }

// Runtime is an OCI runtime that the daemon offers, as daemon.json has it.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
}

// Daemon is a running dockerd. Its methods may be called from any goroutine.
type Daemon struct {
	dir  string
	cmd  *exec.Cmd
	done chan error
}

// Start starts a dockerd that keeps all it has in dir, which should be short for the sake of its sockets, and waits until
// it answers.
func Start(dir string, runtimes map[string]Runtime) (*Daemon, error) {
	config, err := json.Marshal(map[string]any{"runtimes": runtimes})
	if err != nil {
		return nil, err
	}
	d := &Daemon{dir: dir, done: make(chan error, 1)}
	if err := os.WriteFile(d.path("daemon.json"), config, 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(d.path("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// The shell brings the new namespace's loopback up before it becomes dockerd. Debian has dockerd in sbin.
	d.cmd = exec.Command("/bin/sh", "-c", `PATH="$PATH:/usr/sbin:/sbin"; ip link set lo up && exec dockerd "$@"`, "dockerd",
		"--config-file", d.path("daemon.json"), "--data-root", d.path("data"), "--exec-root", d.path("exec"),
		"--pidfile", d.path("pid"), "--host", d.host())
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Setsid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("dockerd: %w", err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	if err := d.waitUntilUp(); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) path(name string) string { return filepath.Join(d.dir, name) }
func (d *Daemon) host() string            { return "unix://" + d.path("sock") }

func (d *Daemon) waitUntilUp() error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		select {
		case err := <-d.done:
			d.done <- err
			return fmt.Errorf("dockerd ended at once (%v):\n%s", err, d.LogTail(20))
		case <-deadline:
			return fmt.Errorf("dockerd did not answer in %s:\n%s", startTimeout, d.LogTail(20))
		case <-tick.C:
			if d.Command(context.Background(), "version").Run() == nil {
				return nil
			}
		}
	}
}

// Command prepares a docker command for this daemon; the docker on PATH runs it.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.host(), "DOCKER_CONFIG="+d.path("client"))
	return cmd
}

// Import makes an image of the directory tree root.
func (d *Daemon) Import(root, image string) error {
	tar := exec.Command("tar", "-C", root, "-c", ".")
	imported := d.Command(context.Background(), "import", "-", image)
	var err error
	if imported.Stdin, err = tar.StdoutPipe(); err != nil {
		return err
	}
	if err := tar.Start(); err != nil {
		return err
	}
	out, err := imported.CombinedOutput()
	if err := errors.Join(err, tar.Wait()); err != nil {
		return fmt.Errorf("docker import: %w: %s", err, out)
	}
	return nil
}

// Dial connects from the daemon's network namespace, where its bridges and published ports are.
func (d *Daemon) Dial(network, address string) (net.Conn, error) {
	var conn net.Conn
	err := d.inNetwork(func() (err error) {
		conn, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return conn, err
}

// inNetwork runs f on a thread inside the daemon's network namespace. The thread is not used again.
func (d *Daemon) inNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.cmd.Process.Pid))
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter dockerd's network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// LogTail returns the last lines of the daemon's log.
func (d *Daemon) LogTail(lines int) string {
	content, err := os.ReadFile(d.path("log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Log returns the daemon's whole log, in which the runtime's own messages are where they were not an answer.
func (d *Daemon) Log() string { return d.LogTail(1 << 30) }

// Stop removes the daemon's containers, ends it and its containerd, and unmounts what they may have left in its
// directory, which is the caller's to remove.
func (d *Daemon) Stop() error {
	if ids, err := d.Command(context.Background(), "ps", "--all", "--quiet").Output(); err == nil && len(ids) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		// A container that will not go shows in what is left; the daemon has to go in any case.
		_ = d.Command(ctx, append([]string{"rm", "--force"}, strings.Fields(string(ids))...)...).Run()
	}
	containerd := d.containerdPid()
	problem := d.end()
	if containerd > 0 && unix.Kill(containerd, 0) == nil {
		problem = errors.Join(problem, unix.Kill(containerd, unix.SIGKILL))
	}
	return errors.Join(problem, d.unmount())
}

func (d *Daemon) end() error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil
	} else if err != nil {
		return err
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("dockerd did not end in %s", startTimeout), d.cmd.Process.Kill())
	}
}

// containerdPid is the pid of the containerd that the daemon started, or 0.
func (d *Daemon) containerdPid() int {
	for _, name := range []string{"exec/containerd/containerd.pid", "data/containerd/containerd.pid"} {
		content, err := os.ReadFile(d.path(name))
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil && strings.Contains(string(cmdline), d.dir) {
				return pid
			}
		}
	}
	return 0
}

// unmount takes away every mount below the daemon's directory, the deepest first.
func (d *Daemon) unmount() error {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	var problems []error
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) > 4 && strings.HasPrefix(fields[4], d.dir+"/") {
			if err := unix.Unmount(fields[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
				problems = append(problems, fmt.Errorf("unmount %s: %w", fields[4], err))
			}
		}
	}
	return errors.Join(problems...)
}
