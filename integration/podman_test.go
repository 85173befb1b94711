package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// podman is an engine with a storage of its own, root's or an ordinary user's. Its containers have no network: the default one would change the
// host's.
type podman struct {
	user    *user // nil for root
	dir     string
	runtime string
}

// podmanConf leaves limits as they are: podman's own are more than a host may grant.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "sandlock"
runtime_supports_json = ["sandlock"]
runtime_supports_nocgroup = ["sandlock"]
[engine.runtimes]
sandlock = [%q]
`

// newPodman makes an engine that has the image "busybox".
func newPodman(t *testing.T, u *user) *podman {
	t.Helper()
	p := &podman{user: u, runtime: runtimePath}
	if u == nil {
		p.dir = shortTempDir(t)
	} else {
		p.dir, p.runtime = u.home, u.path
	}
	writeFile(t, p.dir, "containers.conf", fmt.Sprintf(podmanConf, p.runtime), 0o644)
	image := filepath.Join(p.dir, "image.tar")
	if out, err := exec.Command("tar", "-C", templateRoot, "-cf", image, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if err := os.Chmod(image, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if res := p.run(t, "rm", "--force", "--all", "--time", "0"); res.code != 0 {
			t.Errorf("rm: %v", res)
		}
		p.endPause(t)
		p.waitForHelpers(t)
	})
	if res := p.run(t, "import", image, "busybox"); res.code != 0 {
		t.Fatalf("import: %v", res)
	}
	return p
}

// waitForHelpers waits for the processes that tidy up after a container when podman has returned: each has the storage on its command line.
func (p *podman) waitForHelpers(t *testing.T) {
	t.Helper()
	storage := filepath.Join(p.dir, "storage")
	for deadline := time.Now().Add(commandTimeout); ; time.Sleep(20 * time.Millisecond) {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		busy := ""
		for _, file := range lines {
			if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), storage) {
				busy = strings.ReplaceAll(string(line), "\x00", " ")
			}
		}
		if busy == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %s", busy)
		}
	}
}

// endPause ends the process that holds an ordinary user's namespaces for podman's next call.
func (p *podman) endPause(t *testing.T) {
	t.Helper()
	if p.user == nil {
		return
	}
	text, err := os.ReadFile(filepath.Join(p.dir, "run/libpod/tmp/pause.pid"))
	if err != nil {
		t.Errorf("podman's pause process: %v", err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Errorf("podman's pause process: %v", err)
		return
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("podman's pause process: %v", err)
	}
}

func (p *podman) command(ctx context.Context, args ...string) *exec.Cmd {
	all := append([]string{"podman", "--root", filepath.Join(p.dir, "storage"), "--runroot", filepath.Join(p.dir, "runroot"), "--storage-driver", "vfs"}, args...)
	var cmd *exec.Cmd
	if p.user != nil {
		cmd = p.user.as(ctx, all...)
	} else {
		all = append(all[:1:1], append([]string{"--tmpdir", filepath.Join(p.dir, "tmp")}, all[1:]...)...)
		cmd = exec.CommandContext(ctx, all[0], all[1:]...)
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "CONTAINERS_CONF="+filepath.Join(p.dir, "containers.conf"))
	return cmd
}

func (p *podman) run(t testing.TB, args ...string) result {
	t.Helper()
	return finishInTime(t, p.command, args...)
}

// podmanCase is one `podman run` to its end.
type podmanCase struct {
	args string // options of run
	sh   string // what the container does
	code int
	want string // in the output, errors included
}

func (p *podman) cases(t *testing.T, list []podmanCase) {
	t.Helper()
	for _, c := range list {
		args := append([]string{"run", "--rm", "--network", "none"}, strings.Fields(c.args)...)
		res := p.run(t, append(args, "busybox", "sh", "-c", c.sh)...)
		if res.code != c.code || !strings.Contains(res.stdout+res.stderr, c.want) {
			t.Errorf("podman run %s: %s: want exit code %d, %q: %v", c.args, c.sh, c.code, c.want, res)
		}
	}
}

// life takes a container through what an engine does with it.
func (p *podman) life(t *testing.T) {
	t.Helper()
	must := func(want string, args ...string) {
		t.Helper()
		if res := p.run(t, args...); res.code != 0 || !strings.Contains(res.stdout, want) {
			t.Errorf("podman %q: want %q: %v", args, want, res)
		}
	}
	must("", "run", "--detach", "--name", "one", "--network", "none", "busybox", "sh", "-c", `trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done`)
	eventually(t, "the log has what the container says", func() bool { return strings.Contains(p.run(t, "logs", "one").stdout, "ready") })
	must("uid=1000", "exec", "--user", "1000", "one", "id")
	if res := p.run(t, "exec", "one", "sh", "-c", "exit 6"); res.code != 6 {
		t.Errorf("exec: %v", res)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if out, code := onTerminal(t, p.command(ctx, "exec", "--interactive", "--tty", "one", "sh", "-c", "read line; echo got $line; tty; exit 8"), "word\n"); code != 8 || !strings.Contains(out, "got word") || !strings.Contains(out, "/dev/pts/0") {
		t.Errorf("exec on a terminal: exit code %d: %q", code, out)
	}
	must("trap", "top", "one")
	must("", "stop", "--time", "20", "one")
	must("5 exited sandlock", "inspect", "--format", "{{.State.ExitCode}} {{.State.Status}} {{.OCIRuntime}}", "one")
	must("", "start", "one")
	must("", "kill", "--signal", "KILL", "one")
	must("137", "wait", "one")
	must("", "rm", "one")
}

// everywhere are cases for root and for ordinary users.
func everywhere() []podmanCase {
	return []podmanCase{
		{"", "exit 42", 42, ""},
		{"--read-only", "touch /tmp/a && echo made; touch /a", 1, "Read-only file system"},
		{"--init", "ps", 0, "podman-init"},
		{"--cap-drop all --security-opt no-new-privileges", "grep CapEff /proc/self/status", 0, "0000000000000000"},
		{"--hostname other --workdir /tmp --tmpfs /scratch", "hostname; pwd; grep /scratch /proc/mounts", 0, "tmpfs"},
		{"--volume named:/named", "echo kept >/named/file; cat /named/file", 0, "kept"},
		{"--annotation io.sandlock.filesystem.deny=/etc/passwd", "[ -s /etc/passwd ] || echo empty", 0, "empty"},
		{"", "cat /etc/passwd", 0, "root"},
		{"--annotation io.sandlock.network.alow=1.2.3.4", "true", 126, "io.sandlock.network.allow"},
	}
}

func TestOwnPodman(t *testing.T) {
	p := newPodman(t, nil)
	p.cases(t, append(everywhere(), []podmanCase{
		{"--memory 64m --pids-limit 50", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max", 0, "67108864\n50\n"},
		{"--uidmap 0:300000:65536", "cat /proc/self/uid_map", 0, "300000"},
		{"--privileged", "mount -t tmpfs none /tmp && echo mounted", 0, "mounted"},
		// Nothing else keeps root from making any device.
		{"--cgroups disabled", "true", 126, "linux.resources.devices"},
	}...))
	p.life(t)
	t.Run("pause", func(t *testing.T) {
		for _, args := range [][]string{
			{"run", "--detach", "--name", "two", "--network", "none", "busybox", "sleep", "100"}, {"pause", "two"}, {"unpause", "two"}, {"stats", "--no-stream", "two"}, {"exec", "two", "true"},
		} {
			if res := p.run(t, args...); res.code != 0 {
				t.Errorf("podman %q: %v", args, res)
			}
		}
	})
}

func TestOwnPodmanRootless(t *testing.T) {
	p := newPodman(t, newUser(t, true, "/bin/true"))
	p.cases(t, append(everywhere(), []podmanCase{
		{"", "id -u; cat /proc/self/uid_map", 0, strconv.Itoa(subordinate)},
		{"--cgroups disabled", "exit 9", 9, ""},
	}...))
	p.life(t)
}
