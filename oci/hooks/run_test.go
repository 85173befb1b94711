package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func sh(script string, env ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: env}
}

func state() *specs.State {
	return &specs.State{Version: "1.3.0", ID: "c", Status: specs.StateCreating, Pid: 7, Bundle: "/b", Annotations: map[string]string{"a": "b"}}
}

func TestStateOnStdin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	// Longer than a pipe takes at once.
	want := state()
	want.Annotations["long"] = strings.Repeat("x", 1<<20)
	if err := Run(context.Background(), Prestart, []specs.Hook{sh("cat >" + file)}, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got specs.State
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got %.200s", text)
	}
}

func TestArgsAndEnv(t *testing.T) {
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value) // which puts it back at the end
	}
	os.Clearenv()
	t.Setenv("WORD", "of-the-runtime")
	dir := t.TempDir()
	file := filepath.Join(dir, "out")
	show := "PATH=/usr/bin:/bin; tr '\\0' ' ' </proc/$$/environ >" + file + "; tr '\\0' ' ' </proc/$$/cmdline >>" + file
	script := filepath.Join(dir, "hook")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"+show+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		kind Kind
		hook specs.Hook
		opts []Option
		want string
	}{
		{"none", CreateContainer, specs.Hook{Path: script}, nil, "/bin/sh " + script + " "},
		{"the runtime's", CreateRuntime, specs.Hook{Path: script}, nil, "WORD=of-the-runtime /bin/sh " + script + " "},
		{"args", CreateContainer, specs.Hook{Path: script, Args: []string{"zero", "one"}}, nil, "/bin/sh " + script + " one "},
		{"env", CreateRuntime, specs.Hook{Path: script, Env: []string{"A=1", "B=2"}}, nil, "A=1 B=2 /bin/sh " + script + " "},
		{"default env", CreateRuntime, specs.Hook{Path: script}, []Option{DefaultEnv([]string{"D=1"})}, "D=1 /bin/sh " + script + " "},
		{"own env wins", CreateRuntime, specs.Hook{Path: script, Env: []string{"A=1"}}, []Option{DefaultEnv([]string{"D=1"})}, "A=1 /bin/sh " + script + " "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Run(context.Background(), tt.kind, []specs.Hook{tt.hook}, state(), tt.opts...); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestOrderAndFirstFailure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	list := []specs.Hook{sh("echo 0 >>" + file), sh("echo 1 >>" + file + "; exit 3"), sh("echo 2 >>" + file)}
	for _, tt := range []struct {
		kind Kind
		want string
	}{
		{Prestart, "0\n1\n"}, {CreateRuntime, "0\n1\n"}, {CreateContainer, "0\n1\n"},
		{StartContainer, "0\n1\n"}, {Poststart, "0\n1\n"}, {Poststop, "0\n1\n2\n"},
	} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := Run(context.Background(), tt.kind, list, state())
		want := "error running " + string(tt.kind) + " hook #1: exit status 3, stdout: , stderr: "
		if err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", tt.kind, err, want)
		}
		if got, _ := os.ReadFile(file); string(got) != tt.want {
			t.Errorf("%s: ran %q, want %q", tt.kind, got, tt.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct{ hook, want string }{
		{"echo out; echo err >&2; exit 1", "exit status 1, stdout: out, stderr: err"},
		{`printf 'two\nlines \033[31m "red"'; exit 1`, `exit status 1, stdout: two\nlines \x1b[31m "red", stderr: `},
		{"kill -9 $$", "signal: killed, stdout: , stderr: "},
		{"head -c 5000 /dev/zero | tr '\\0' x; exit 1", "exit status 1, stdout: " + strings.Repeat("x", captured) + " [and 904 bytes more], stderr: "},
	} {
		err := Run(context.Background(), Prestart, []specs.Hook{sh(tt.hook, "PATH=/usr/bin:/bin")}, state())
		if want := "error running prestart hook #0: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.hook, err, want)
		}
	}
	err := Run(context.Background(), Prestart, []specs.Hook{{Path: "/does/not/exist"}}, state())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("missing program: %v", err)
	}
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child of the hook tells its pid by a fifo, and would live on.
	pid := make(chan int, 1)
	go func() {
		text, _ := os.ReadFile(file)
		n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		pid <- n
	}()
	hook := sh("sleep 1000 & echo $! >"+file+"; wait", "PATH=/usr/bin:/bin")
	one := 1
	hook.Timeout = &one
	err := Run(context.Background(), Prestart, []specs.Hook{hook}, state())
	const want = "error running prestart hook #0: hook ran past specified timeout of 1.0s"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	child := <-pid
	fd, err := unix.PidfdOpen(child, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Errorf("process %d of the hook lives on (%v)", child, err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = os.ReadFile(fifo) // the hook runs
		cancel()
	}()
	err := Run(ctx, Prestart, []specs.Hook{sh("echo >"+fifo+"; exec sleep 1000", "PATH=/usr/bin:/bin")}, state())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A process that a hook leaves in the background must not hold up the container by the output it keeps open.
func TestBackgroundProcessHoldsNothingUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	hook := sh("sleep 1000 & echo $! >"+file, "PATH=/usr/bin:/bin")
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), Prestart, []specs.Hook{hook}, state()) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Run waits for the background process")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("the background process was killed: %v", err)
	}
}

type fakeProcess struct{ err error }

func (p fakeProcess) Wait() error { return p.err }
func (fakeProcess) Kill()         {}

func TestSpawner(t *testing.T) {
	var got []*Command
	spawn := func(c *Command) (Process, error) {
		got = append(got, c)
		return fakeProcess{}, nil
	}
	list := []specs.Hook{{Path: "/in/container"}, {Path: "/b", Args: []string{"x"}, Env: []string{"E=1"}}}
	if err := Run(context.Background(), StartContainer, list, state(), With(spawn)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Path != "/in/container" || got[0].Args[0] != "/in/container" || got[0].Env == nil || len(got[0].Env) != 0 {
		t.Errorf("got %+v", got)
	}
	broken := func(*Command) (Process, error) { return nil, errors.New("no way in") }
	err := Run(context.Background(), CreateContainer, list, state(), With(broken))
	if err == nil || err.Error() != "error running createContainer hook #0: no way in" {
		t.Errorf("got %v", err)
	}
}
