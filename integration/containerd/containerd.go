// Package containerd starts a containerd 2.x of its own beside whatever the machine runs: its own root, state and socket, its CRI plug-in with
// real CNI plug-ins, in a network namespace of its own.
package containerd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/daemon"
)

// cniPlugins is where Debian's containernetworking-plugins are.
const cniPlugins = "/usr/lib/cni"

// PauseImage is the image of a pod's sandbox.
const PauseImage = "localhost/pause:test"

// Daemon is a running containerd. Its methods may be called from any goroutine.
type Daemon struct {
	*daemon.Daemon
	bin string
}

// Start starts the containerd in the directory bin, with all it has in dir, which should be short for the sake of its sockets, and waits until it
// answers. runtimes are executables by the name of their handler; register, if not nil, is given the configuration's path to add more to it.
func Start(dir, bin string, runtimes map[string]string, register func(file string) error) (*Daemon, error) {
	d := &Daemon{daemon.New("containerd", dir), bin}
	if err := os.MkdirAll(d.Path("cni"), 0o700); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"config.toml": d.config(runtimes), "cni/10-bridge.conflist": d.network()} {
		if err := os.WriteFile(d.Path(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if register != nil {
		if err := register(d.Path("config.toml")); err != nil {
			return nil, err
		}
	}
	if err := d.Run(); err != nil {
		return nil, errors.Join(err, d.Stop())
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
`, d.Path("root"), d.Path("state"), d.Socket(), PauseImage, cniPlugins, d.Path("cni"))
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
"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`, d.Path("ipam"))
}

// Socket is the path of containerd's socket.
func (d *Daemon) Socket() string { return d.Path("sock") }

// Run starts containerd, the first time or after End, and waits until it answers.
func (d *Daemon) Run() error {
	answers := func() bool { return d.Ctr("version").Run() == nil }
	return d.Daemon.Run(answers, []string{"PATH=" + d.bin + ":" + os.Getenv("PATH")}, "--config", d.Path("config.toml"))
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
	archive := d.Path("image.tar")
	if err := writeArchive(archive, root, image, command); err != nil {
		return err
	}
	defer os.Remove(archive)
	if out, err := d.Ctr("--namespace", namespace, "images", "import", "--local", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("ctr images import: %w: %s", err, out)
	}
	return nil
}

// Stop ends containerd and unmounts what is left in its directory, which is the caller's to remove. Pods are the caller's to remove, too: a shim
// that is left is an error, and killed.
func (d *Daemon) Stop() error {
	return d.Daemon.Stop(func() (problem error) {
		for _, pid := range d.shims() {
			problem = errors.Join(problem, fmt.Errorf("shim %d is left", pid), unix.Kill(pid, unix.SIGKILL))
		}
		return problem
	})
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
