package integration

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestExecReturnsTheExitCode(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	for text, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -KILL $$": 137, "kill -TERM $$": 143} {
		if res := c.shell(t, text); res.code != want {
			t.Errorf("%s: want %d, got %v", text, want, res)
		}
	}
	if state := r.state(t, c.id); state.Status != specs.StateRunning {
		t.Errorf("exec ended the container: %+v", state)
	}
}

func TestExecOfAMissingBinaryIsAnError(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	r.run(t, "exec", c.id, "/no/such/binary").refused(t, "/no/such/binary")
	r.run(t, "exec", c.id, "nosuchbinary").refused(t, "nosuchbinary")
	if res := c.shell(t, "echo still here"); res.stdout != "still here\n" {
		t.Error(res)
	}
}

func TestExecNeedsARunningContainer(t *testing.T) {
	r := newRuntime(t)
	r.run(t, "exec", "never-was", "/bin/true").refused(t, "never-was")
	c := r.start(t, newBundle(t, "/bin/true"))
	c.wait(t)
	r.run(t, "exec", c.id, "/bin/true").refused(t, "stopped")
}

func TestExecFlags(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	probes := []struct {
		name  string
		flags []string
		text  string
		want  string
	}{
		{"default user and directory", nil, "id -u; pwd", "0\n/\n"},
		{"numeric user", []string{"--user", "1000:1001"}, "id -u; id -g", "1000\n1001\n"},
		{"working directory", []string{"--cwd", "/home/user"}, "pwd", "/home/user\n"},
		{"environment", []string{"--env", "A=1", "--env", "B=two words"}, "echo $A $B", "1 two words\n"},
		{"the spec's environment", nil, "echo $HOSTNAME", c.id + "\n"},
		{"additional groups", []string{"--user", "1000:1000", "--additional-gids", "2000"}, "id -G", "1000 0 2000\n"},
		{"hostname of the container", nil, "hostname", c.id + "\n"},
		{"capabilities of the container", nil, "grep CapBnd /proc/self/status", "CapBnd:\t00000000a80425fb\n"},
		{"another capability", []string{"--cap", "CAP_SYS_ADMIN"}, "grep CapEff /proc/self/status", "CapEff:\t00000000a82425fb\n"},
		{"no new privileges", []string{"--no-new-privs"}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		{"seccomp", nil, "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		{"pid namespace", nil, "tr '\\0' ' ' < /proc/1/cmdline", "/bin/sleep 1000 "},
		{"descriptors", nil, "ls /proc/$$/fd; true", "0\n1\n2\n"},
	}
	for _, p := range probes {
		t.Run(p.name, func(t *testing.T) {
			if res := c.shell(t, p.text, p.flags...); res.code != 0 || res.stdout != p.want {
				t.Errorf("want %q, got %v", p.want, res)
			}
		})
	}
}

func TestExecPassesStdinOn(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	cmd := r.command(context.Background(), "exec", c.id, "/bin/cat")
	cmd.Stdin = strings.NewReader("in and out\n")
	if res := finish(t, cmd); res.code != 0 || res.stdout != "in and out\n" {
		t.Error(res)
	}
}

func TestExecFromAProcessFile(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	process := specs.Process{
		Args: []string{"/bin/sh", "-c", "id -u; id -G; pwd; echo $WORD; grep CapEff /proc/self/status; exit 6"},
		Cwd:  "/tmp", Env: []string{"WORD=file", "PATH=/bin"}, NoNewPrivileges: true,
		User:         specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{2000}},
		Capabilities: &specs.LinuxCapabilities{},
	}
	path := filepath.Join(c.dir, "process.json")
	content, err := json.Marshal(process)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	res := r.run(t, "exec", "--process", path, c.id)
	if want := "1000\n1000 2000\n/tmp\nfile\nCapEff:\t0000000000000000\n"; res.code != 6 || res.stdout != want {
		t.Errorf("want %q and exit code 6, got %v", want, res)
	}
}

func TestExecDetached(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	pidFile := filepath.Join(c.dir, "exec.pid")
	r.must(t, "exec", "--detach", "--pid-file", pidFile, c.id, "/bin/sleep", "2000")
	pid := readPid(t, pidFile)
	adopt(pid)
	eventually(t, "the pid file names the process that was asked for", func() bool {
		cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		return err == nil && string(cmdline) == "/bin/sleep\x002000\x00"
	})
	if out := r.must(t, "ps", "--format", "json", c.id); !strings.Contains(out, strconv.Itoa(pid)) {
		t.Errorf("ps does not list %d: %s", pid, out)
	}
}

func TestExecIntoAPausedContainerIsRefused(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	r.must(t, "pause", c.id)
	r.run(t, "exec", c.id, "/bin/true").refused(t, "paused")
	r.must(t, "resume", c.id)
	r.must(t, "exec", c.id, "/bin/true")
}

func TestExecIntoACreatedContainer(t *testing.T) {
	r := newRuntime(t)
	c := r.create(t, newBundle(t, "/bin/sleep", "1000"))
	if res := c.shell(t, "hostname"); res.code != 0 || res.stdout != c.id+"\n" {
		t.Error(res)
	}
}

func pointer[T any](value T) *T { return &value }
