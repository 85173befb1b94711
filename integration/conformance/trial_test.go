package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

// commandTimeout bounds every command of a runtime.
const commandTimeout = 60 * time.Second

// trial is one test of one runtime. What fails in it is the row's verdict, not a failure of the Go test.
type trial struct {
	runtime  string // its path
	root     string // its state root, the trial's own
	failures []string
	cleanups []func()
}

// judge runs test against a runtime and returns what it failed with, nothing if it passed.
func judge(path string, test func(x *trial)) []string {
	x := &trial{runtime: path}
	x.inGoroutine(func() {
		x.root = x.tempDir()
		test(x)
	})
	for i := len(x.cleanups) - 1; i >= 0; i-- {
		x.inGoroutine(x.cleanups[i])
	}
	return x.failures
}

// inGoroutine runs f to its end or to the first fatal failure, which ends only the goroutine.
func (x *trial) inGoroutine(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (x *trial) cleanup(f func()) { x.cleanups = append(x.cleanups, f) }

// errorf notes a failure; fatalf notes it and ends the trial.
func (x *trial) errorf(format string, args ...any) {
	x.failures = append(x.failures, fmt.Sprintf(format, args...))
}

func (x *trial) fatalf(format string, args ...any) {
	x.errorf(format, args...)
	runtime.Goexit()
}

func (x *trial) noError(err error) {
	if err != nil {
		x.fatalf("%v", err)
	}
}

func (x *trial) equal(what string, got, want any) {
	if got != want {
		x.errorf("%s: got %v, want %v", what, got, want)
	}
}

// tempDir is a directory of the trial's own that containers with a user namespace can walk through.
func (x *trial) tempDir() string {
	dir, err := os.MkdirTemp("", "slc-")
	x.noError(err)
	x.cleanup(func() { x.noError(os.RemoveAll(dir)) })
	x.noError(os.Chmod(dir, 0o755))
	return dir
}

func (x *trial) write(path, text string) {
	x.noError(os.WriteFile(path, []byte(text), 0o644))
}

func (x *trial) read(path string) string {
	text, err := os.ReadFile(path)
	x.noError(err)
	return string(text)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// result is what a command left.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, strings.TrimSpace(r.stderr))
}

// run runs one command of the runtime to its end, with its output in files: a container keeps them open.
func (x *trial) run(args ...string) result {
	return x.command(exec.Command(x.runtime, append([]string{"--root", x.root}, args...)...))
}

// command runs cmd to its end, which must come in good time.
func (x *trial) command(cmd *exec.Cmd) result {
	stdout, stderr := x.file(), x.file()
	defer stdout.Close()
	defer stderr.Close()
	if cmd.Stdout == nil {
		cmd.Stdout, cmd.Stderr = stdout, stderr
	}
	x.noError(cmd.Start())
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		x.fatalf("%q: %v", cmd.Args, err)
	}
	if ctx.Err() != nil {
		x.fatalf("%q did not end in %s: stderr %q", cmd.Args, commandTimeout, x.contents(stderr))
	}
	return result{stdout: x.contents(stdout), stderr: x.contents(stderr), code: cmd.ProcessState.ExitCode()}
}

func (x *trial) file() *os.File {
	f, err := os.CreateTemp("", "slc-out-")
	x.noError(err)
	x.noError(os.Remove(f.Name()))
	return f
}

func (x *trial) contents(f *os.File) string {
	info, err := f.Stat()
	x.noError(err)
	text := make([]byte, info.Size())
	_, err = f.ReadAt(text, 0)
	x.noError(err)
	return string(bytes.TrimRight(text, "\x00"))
}

func (x *trial) must(args ...string) string {
	res := x.run(args...)
	if res.code != 0 {
		x.fatalf("%s: %v", args[0], res)
	}
	return res.stdout
}

// bundle is a bundle under construction.
type bundle struct {
	id, dir, root string
	spec          *specs.Spec
}

// bundle makes one that runs a shell script, as Docker would but without a seccomp profile.
func (x *trial) bundle(script string) *bundle {
	b := &bundle{id: "c-" + strings.ToLower(rand.Text()[:12]), dir: x.tempDir()}
	b.root = filepath.Join(b.dir, "rootfs")
	// The programs are shared with the other trials, which none of them writes.
	if out, err := exec.Command("cp", "-al", templateRoot, b.root).CombinedOutput(); err != nil {
		x.fatalf("copy the root: %v: %s", err, out)
	}
	spec, err := testbundle.Spec(b.id, b.root, "/bin/sh", "-c", script)
	x.noError(err)
	spec.Linux.Seccomp = nil
	b.spec = spec
	return b
}

func (b *bundle) mount(destination, kind, source string, options ...string) {
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: destination, Type: kind, Source: source, Options: options})
}

func (x *trial) store(b *bundle) { x.noError(testbundle.Write(b.dir, b.spec)) }

// storeChanged stores the spec after change has had its way with the JSON, for what Go's types do not hold.
func (x *trial) storeChanged(b *bundle, change func(config map[string]any)) {
	text, err := json.Marshal(b.spec)
	x.noError(err)
	var config map[string]any
	x.noError(json.Unmarshal(text, &config))
	change(config)
	text, err = json.Marshal(config)
	x.noError(err)
	x.write(filepath.Join(b.dir, "config.json"), string(text))
}

// runs runs the bundle in the foreground and returns what it printed.
func (x *trial) runs(b *bundle) string {
	x.store(b)
	return x.runsStored(b)
}

func (x *trial) runsStored(b *bundle) string {
	res := x.run("run", "--bundle", b.dir, b.id)
	if res.code != 0 {
		x.run("delete", "--force", b.id)
		x.fatalf("run: %v", res)
	}
	return res.stdout
}

// prints fails unless the bundle prints want.
func (x *trial) prints(b *bundle, want string) {
	if got := x.runs(b); got != want {
		x.errorf("printed %q, want %q", got, want)
	}
}

// refuses fails unless create generates an error and makes no container.
func (x *trial) refuses(b *bundle) {
	x.store(b)
	x.refusesStored(b)
}

func (x *trial) refusesStored(b *bundle) {
	res := x.run("create", "--bundle", b.dir, b.id)
	if res.code == 0 {
		x.run("delete", "--force", b.id)
		x.fatalf("create generated no error: %v", res)
	}
	x.gone(b)
}

// refusesToRun is refuses for what may be said by start, too: the properties of process.
func (x *trial) refusesToRun(b *bundle) {
	x.store(b)
	res := x.run("create", "--bundle", b.dir, b.id)
	if res.code == 0 {
		res = x.run("start", b.id)
		x.run("delete", "--force", b.id)
	}
	if res.code == 0 {
		x.fatalf("neither create nor start generated an error: %v", res)
	}
}

// gone fails if the runtime still has the container, or something of it is left.
func (x *trial) gone(b *bundle) {
	if res := x.run("state", b.id); res.code == 0 {
		x.errorf("there is a container still: %v", res)
		x.run("delete", "--force", b.id)
	}
	if exists(filepath.Join(x.root, b.id)) {
		x.errorf("something of the container is left in the state root")
	}
	for _, dir := range cgroupsOf(b) {
		x.errorf("its control group is left: %s", dir)
	}
	if strings.Contains(x.read("/proc/self/mountinfo"), b.dir) {
		x.errorf("a mount of the container is left on the host")
	}
}

// cgroupsOf are the control groups that the bundle's cgroupsPath names and that exist.
func cgroupsOf(b *bundle) []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*" + b.spec.Linux.CgroupsPath) // the pattern is ours and fine
	if v2 := "/sys/fs/cgroup" + b.spec.Linux.CgroupsPath; exists(v2) {
		return append(v1, v2)
	}
	return v1
}

// container is one that create has made.
type container struct {
	*bundle
	pid    int
	pidfd  int
	output *os.File
}

// create makes the container, its output in a file.
func (x *trial) create(b *bundle, flags ...string) *container {
	x.store(b)
	c := &container{bundle: b, output: x.file()}
	x.cleanup(func() { c.output.Close() })
	pidFile := filepath.Join(b.dir, "pid")
	cmd := exec.Command(x.runtime, append([]string{"--root", x.root, "create", "--bundle", b.dir, "--pid-file", pidFile}, append(flags, b.id)...)...)
	cmd.Stdout, cmd.Stderr = c.output, c.output
	if res := x.command(cmd); res.code != 0 {
		x.fatalf("create: exit code %d: %s", res.code, x.contents(c.output))
	}
	var err error
	c.pid, err = strconv.Atoi(x.read(pidFile))
	x.noError(err)
	c.pidfd, err = unix.PidfdOpen(c.pid, 0)
	x.noError(err)
	x.cleanup(func() {
		if exists(filepath.Join(x.root, b.id)) {
			x.run("delete", "--force", b.id)
		}
		x.end(c)
		unix.Close(c.pidfd)
	})
	return c
}

// start makes the container and starts it.
func (x *trial) start(b *bundle, flags ...string) *container {
	c := x.create(b, flags...)
	x.must("start", b.id)
	return c
}

// end waits for the container's process to end, and reaps it unless the runtime gave it another parent.
func (x *trial) end(c *container) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}, int(commandTimeout.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			x.fatalf("the container's process did not end: %v", err)
		}
		break
	}
	if _, err := unix.Wait4(c.pid, nil, 0, nil); err != nil && !errors.Is(err, unix.ECHILD) {
		x.fatalf("wait for %d: %v", c.pid, err)
	}
}

// said is what the container printed to its end.
func (x *trial) said(c *container) string {
	x.end(c)
	return x.contents(c.output)
}

// state is what the runtime says of the container.
func (x *trial) state(id string) specs.State {
	var state specs.State
	x.noError(json.Unmarshal([]byte(x.must("state", id)), &state))
	return state
}

// namespace is the name of a process's namespace.
func (x *trial) namespace(pid any, kind string) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%v/ns/%s", pid, kind))
	x.noError(err)
	return name
}

func pointer[T any](v T) *T { return &v }

// sleeps is a script that does not end by itself.
const sleeps = "exec sleep 1000"

func (x *trial) executable(path string) { x.noError(os.Chmod(path, 0o755)) }

// unshared is a shell script in a network namespace of its own.
func unshared(script string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return cmd
}

// background starts a process that lives until the trial is over, and returns its pid.
func (x *trial) background(cmd *exec.Cmd) int {
	x.noError(cmd.Start())
	x.cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, and so no success
	})
	return cmd.Process.Pid
}
