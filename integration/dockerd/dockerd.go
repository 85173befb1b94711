// Package dockerd starts a Docker daemon of its own beside whatever the machine runs: its own data, sockets and
// containerd, in a network namespace of its own. Published ports are reached from inside that namespace, with Dial.
package dockerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/daemon"
)

// Runtime is an OCI runtime that the daemon offers, as daemon.json has it.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
}

// Daemon is a running dockerd. Its methods may be called from any goroutine.
type Daemon struct{ *daemon.Daemon }

// Start starts a dockerd that keeps all it has in dir, which should be short for the sake of its sockets, and waits until
// it answers.
func Start(dir string, runtimes map[string]Runtime) (*Daemon, error) {
	config, err := json.Marshal(map[string]any{"runtimes": runtimes})
	if err != nil {
		return nil, err
	}
	d := &Daemon{daemon.New("dockerd", dir)}
	if err := os.WriteFile(d.Path("daemon.json"), config, 0o600); err != nil {
		return nil, err
	}
	answers := func() bool { return d.Command(context.Background(), "version").Run() == nil }
	if err := d.Run(answers, nil, "--config-file", d.Path("daemon.json"), "--data-root", d.Path("data"), "--exec-root", d.Path("exec"),
		"--pidfile", d.Path("pid"), "--host", d.host()); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) host() string { return "unix://" + d.Path("sock") }

// Command prepares a docker command for this daemon; the docker on PATH runs it.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.host(), "DOCKER_CONFIG="+d.Path("client"))
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

// Stop removes the daemon's containers, ends it and its containerd, and unmounts what they may have left in its
// directory, which is the caller's to remove.
func (d *Daemon) Stop() error {
	if ids, err := d.Command(context.Background(), "ps", "--all", "--quiet").Output(); err == nil && len(ids) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), daemon.Timeout)
		defer cancel()
		// A container that will not go shows in what is left; the daemon has to go in any case.
		_ = d.Command(ctx, append([]string{"rm", "--force"}, strings.Fields(string(ids))...)...).Run()
	}
	containerd := d.containerdPid()
	return d.Daemon.Stop(func() error {
		if containerd > 0 && unix.Kill(containerd, 0) == nil {
			return unix.Kill(containerd, unix.SIGKILL)
		}
		return nil
	})
}

// containerdPid is the pid of the containerd that the daemon started, or 0.
func (d *Daemon) containerdPid() int {
	for _, name := range []string{"exec/containerd/containerd.pid", "data/containerd/containerd.pid"} {
		content, err := os.ReadFile(d.Path(name))
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil && strings.Contains(string(cmdline), d.Path("")) {
				return pid
			}
		}
	}
	return 0
}
