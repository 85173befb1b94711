// Package containerd starts a containerd 2.x of its own beside whatever the machine runs: its own root, state and socket, its CRI plug-in with
// real CNI plug-ins, in a network namespace of its own, so that its bridge goes with it. What listens there is reached by Dial.
package containerd

import (
	"context"
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

// startTimeout is how long containerd may take until it answers, and to end once asked to.
const startTimeout = 60 * time.Second

// cniPlugins is where Debian's containernetworking-plugins are.
const cniPlugins = "/usr/lib/cni"

// PauseImage is the image of a pod's sandbox.
const PauseImage = "localhost/pause:test"

// Daemon is a running containerd. Its methods may be called from any goroutine.
type Daemon struct {
	dir  string
	bin  string
	cmd  *exec.Cmd
	done chan error
}

// Start starts the containerd in the directory bin, with all it has in dir, which should be short for the sake of its sockets, and waits until it
// answers. runtimes are executables by the name of their handler; register, if not nil, is given the configuration's path to add more to it.
func Start(dir, bin string, runtimes map[string]string, register func(file string) error) (*Daemon, error) {
	d := &Daemon{dir: dir, bin: bin}
	if err := os.MkdirAll(d.path("cni"), 0o700); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"config.toml": d.config(runtimes), "cni/10-bridge.conflist": d.network()} {
		if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if register != nil {
		if err := register(d.path("config.toml")); err != nil {
			return nil, err
		}
	}
	if err := d.Run(); err != nil {
		return nil, err
	}
	return d, nil
}

// config is containerd's configuration. The machine may keep its processes from lowering their OOM score below their parent's.
func (d *Daemon) config(runtimes map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `version = 3
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %q
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%q]
    conf_dir = %q
`, d.path("root"), d.path("state"), d.Socket(), PauseImage, cniPlugins, d.path("cni"))
	for name, path := range runtimes {
		fmt.Fprintf(&b, `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.%s]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.%s.options]
    BinaryName = %q
`, name, name, path)
	}
	return b.String()
}

// Bridge is the address of the pods' bridge, in containerd's network namespace.
const Bridge = "10.88.0.1"

func (d *Daemon) network() string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`, d.path("ipam"))
}

func (d *Daemon) path(name string) string { return filepath.Join(d.dir, name) }

// Socket is the path of containerd's socket.
func (d *Daemon) Socket() string { return d.path("sock") }

// Run starts containerd, the first time or after End.
func (d *Daemon) Run() error {
	log, err := os.OpenFile(d.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	attributes := &syscall.SysProcAttr{Setsid: true}
	var start func(*exec.Cmd) error
	if d.cmd == nil {
		attributes.Cloneflags = unix.CLONE_NEWNET
		start = (*exec.Cmd).Start
	} else {
		// Pods that have survived expect their bridge: the namespace is kept by one of our own.
		start = func(cmd *exec.Cmd) error { return d.InNetwork(cmd.Start) }
	}
	cmd := exec.Command("/bin/sh", "-c", `ip link set lo up && exec containerd "$@"`, "containerd", "--config", d.path("config.toml"))
	cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, attributes
	if err := start(cmd); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	if d.cmd == nil {
		if err := keepNetwork(cmd.Process.Pid, d.path("netns")); err != nil {
			return err
		}
	}
	d.cmd, d.done = cmd, make(chan error, 1)
	go func() { d.done <- cmd.Wait() }()
	return d.waitUntilUp()
}

// keepNetwork binds a process's network namespace to a file, so that it outlives the process.
func keepNetwork(pid int, file string) error {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), file, "", unix.MS_BIND, "")
}

func (d *Daemon) waitUntilUp() error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		select {
		case err := <-d.done:
			d.done <- err
			return fmt.Errorf("containerd ended at once (%v):\n%s", err, d.LogTail(20))
		case <-deadline:
			return fmt.Errorf("containerd did not answer in %s:\n%s", startTimeout, d.LogTail(20))
		case <-tick.C:
			if d.Ctr("version").Run() == nil {
				return nil
			}
		}
	}
}

// Ctr prepares a command of ctr for this containerd.
func (d *Daemon) Ctr(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(d.bin, "ctr"), append([]string{"--address", d.Socket()}, args...)...)
}

// Import makes an image of the directory tree root, for the CRI plug-in.
func (d *Daemon) Import(root, image string, command ...string) error {
	return d.ImportInto("k8s.io", root, image, command...)
}

// ImportInto makes an image of the directory tree root in a namespace of containerd's.
func (d *Daemon) ImportInto(namespace, root, image string, command ...string) error {
	archive := d.path("image.tar")
	if err := writeArchive(archive, root, image, command); err != nil {
		return err
	}
	defer os.Remove(archive)
	if out, err := d.Ctr("--namespace", namespace, "images", "import", "--local", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("ctr images import: %w: %s", err, out)
	}
	return nil
}

// Dial connects from containerd's network namespace.
func (d *Daemon) Dial(network, address string) (conn net.Conn, err error) {
	err = d.InNetwork(func() (err error) {
		conn, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return conn, err
}

// Listen listens in containerd's network namespace.
func (d *Daemon) Listen(network, address string) (l net.Listener, err error) {
	err = d.InNetwork(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// InNetwork runs f on a thread inside containerd's network namespace. The thread is not used again.
func (d *Daemon) InNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(d.path("netns"))
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter containerd's network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// LogTail returns the last lines of containerd's log.
func (d *Daemon) LogTail(lines int) string {
	content, err := os.ReadFile(d.path("log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// End ends containerd alone: containers live on.
func (d *Daemon) End(ctx context.Context) error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("containerd did not end in time"), d.cmd.Process.Kill())
	}
}

// Stop ends containerd and unmounts what is left in its directory, which is the caller's to remove. Pods are the caller's to remove, too: a shim
// that is left is an error, and killed.
func (d *Daemon) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	problem := d.End(ctx)
	for _, pid := range d.shims() {
		problem = errors.Join(problem, fmt.Errorf("shim %d is left", pid), unix.Kill(pid, unix.SIGKILL))
	}
	return errors.Join(problem, d.unmount())
}

// shims are the processes of shims of this containerd.
func (d *Daemon) shims() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err == nil && strings.Contains(string(line), "containerd-shim") && strings.Contains(string(line), d.Socket()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unmount takes away every mount below containerd's directory, the deepest first.
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
