package ctr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// commandTimeout is for a command of ctr, on a machine that is busy.
const commandTimeout = 45 * time.Second

// each runs a test with runc, which is the control, and with the runtime under test.
func each(t *testing.T, test func(t *testing.T, runtime string)) {
	for _, name := range []string{"runc", "sandlock"} {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

// result is what a command said and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
}

// command prepares a command of ctr in the tests' namespace.
func command(ctx context.Context, args ...string) *exec.Cmd {
	prepared := daemon.Ctr(append([]string{"--namespace", namespace}, args...)...)
	cmd := exec.CommandContext(ctx, prepared.Path, prepared.Args[1:]...)
	cmd.WaitDelay = time.Second
	return cmd
}

func ctrWith(t testing.TB, stdin io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Errorf("ctr %q did not end: %q, %q", args, stdout.String(), stderr.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Errorf("ctr %q: %v", args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func ctr(t testing.TB, args ...string) result {
	t.Helper()
	return ctrWith(t, nil, args...)
}

// must runs a command of ctr that has to succeed, and returns what it said.
func must(t testing.TB, args ...string) string {
	t.Helper()
	r := ctr(t, args...)
	if r.code != 0 {
		t.Fatalf("ctr %q: %v", args, r)
	}
	return r.stdout
}

// runcRoot is where the shim has the runtime keep its state.
func runcRoot(runtime string) string { return filepath.Join(directory, "state-"+runtime) }

// run is the beginning of a command that runs a container.
func run(runtime string, flags ...string) []string {
	return append([]string{"run", "--runc-binary", runtimes[runtime], "--runc-root", runcRoot(runtime)}, flags...)
}

// container is one that runs in the background.
type container struct {
	t       *testing.T
	id      string
	runtime string
	pid     int
}

func newID(t *testing.T) string {
	return strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(t.Name()))
}

// start runs a container in the background, which is removed with the test.
func start(t *testing.T, runtime string, flags []string, args ...string) *container {
	t.Helper()
	c := &container{t: t, id: newID(t), runtime: runtime}
	pidFile := filepath.Join(t.TempDir(), "pid")
	t.Cleanup(c.remove)
	must(t, append(append(run(runtime, append(flags, "--detach", "--pid-file", pidFile)...), image, c.id), args...)...)
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.pid, err = strconv.Atoi(string(text)); err != nil {
		t.Fatal(err)
	}
	return c
}

// sleeper is a container that does nothing until it is killed.
func sleeper(t *testing.T, runtime string, flags ...string) *container {
	t.Helper()
	return start(t, runtime, flags, "/bin/sleep", "1000000")
}

// remove takes a container away, whatever has become of it, of which then nothing may be left.
func (c *container) remove() {
	ctr(c.t, "tasks", "rm", "--force", c.id) // there may be none any more
	if r := ctr(c.t, "containers", "rm", c.id); r.code != 0 {
		c.t.Errorf("containers rm: %v", r)
	}
	c.gone()
}

// gone waits until nothing of the container is left.
func (c *container) gone() {
	c.t.Helper()
	eventually(c.t, "nothing is left of "+c.id, func() bool {
		left, err := filepath.Glob("/sys/fs/cgroup/*/" + namespace + "/" + c.id)
		if err != nil {
			c.t.Fatal(err)
		}
		_, err = os.Stat(filepath.Join(runcRoot(c.runtime), namespace, c.id))
		return len(left) == 0 && errors.Is(err, os.ErrNotExist) && !exists(c.pid)
	})
}

// exists tells whether there is such a process.
func exists(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return pid > 0 && err == nil
}

// exec executes a script in the container.
func (c *container) exec(script string) result {
	c.t.Helper()
	return ctr(c.t, "tasks", "exec", "--exec-id", fmt.Sprintf("e%d", time.Now().UnixNano()), c.id, "/bin/sh", "-c", script)
}

// says executes a script that has to succeed and say just this.
func (c *container) says(script, want string) {
	c.t.Helper()
	if r := c.exec(script); r.code != 0 || r.stdout != want {
		c.t.Errorf("%s: %v, not %q", script, r, want)
	}
}

// status is the container's status in the list of tasks, "" if it is not there.
func (c *container) status() string {
	c.t.Helper()
	for line := range strings.Lines(must(c.t, "tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == c.id {
			return fields[2]
		}
	}
	return ""
}

// eventually waits for a condition that the system gives no event for.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(commandTimeout); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Errorf("did not happen in %s: %s", commandTimeout, what)
}
