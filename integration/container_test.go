package integration

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

// makeTemplateRoot fills dir with busybox and the guest.
func makeTemplateRoot(dir string) error {
	if err := testbundle.Busybox(dir); err != nil {
		return err
	}
	guest, err := os.ReadFile(guestPath)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bin/guest"), guest, 0o755)
}

// bundle is a bundle under construction: tests change Spec and the files of root before it is used.
type bundle struct {
	id   string
	dir  string
	root string
	spec *specs.Spec
}

// newBundle makes a bundle with a unique id and a root of its own that runs args.
func newBundle(t testing.TB, args ...string) *bundle {
	t.Helper()
	b := &bundle{id: "t-" + strings.ToLower(rand.Text()[:12]), dir: shortTempDir(t)}
	b.root = filepath.Join(b.dir, "rootfs")
	if out, err := exec.Command("cp", "-a", templateRoot, b.root).CombinedOutput(); err != nil {
		t.Fatalf("copy the root: %v: %s", err, out)
	}
	spec, err := testbundle.Spec(b.id, b.root, args...)
	if err != nil {
		t.Fatal(err)
	}
	b.spec = spec
	return b
}

// script makes a bundle that runs a shell script.
func script(t testing.TB, text string) *bundle {
	t.Helper()
	return newBundle(t, "/bin/sh", "-c", text)
}

// write stores the spec as it is now.
func (b *bundle) write(t testing.TB) {
	t.Helper()
	if err := testbundle.Write(b.dir, b.spec); err != nil {
		t.Fatal(err)
	}
}

// mount appends a mount to the spec.
func (b *bundle) mount(destination, kind, source string, options ...string) {
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: destination, Type: kind, Source: source, Options: options})
}

// annotate sets annotations from pairs of key and value.
func (b *bundle) annotate(pairs ...string) {
	if b.spec.Annotations == nil {
		b.spec.Annotations = map[string]string{}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		b.spec.Annotations[pairs[i]] = pairs[i+1]
	}
}

// runBundle runs the bundle in the foreground to its end.
func (r *ociRuntime) runBundle(t testing.TB, b *bundle, flags ...string) result {
	t.Helper()
	b.write(t)
	args := append([]string{"run", "--bundle", b.dir}, flags...)
	return r.run(t, append(args, b.id)...)
}

// container is one that was made by create, with its output at hand. Its init process is the test's to reap.
type container struct {
	*bundle
	rt     *ociRuntime
	pid    int
	pidfd  int
	output *os.File
	lines  *bufio.Reader
	reaped bool
}

// create makes the container with `create`, its output in a pipe that the test reads.
func (r *ociRuntime) create(t testing.TB, b *bundle, flags ...string) *container {
	t.Helper()
	return r.createWithStdin(t, b, nil, flags...)
}

func (r *ociRuntime) createWithStdin(t testing.TB, b *bundle, stdin *os.File, flags ...string) *container {
	t.Helper()
	b.write(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	pidFile := filepath.Join(b.dir, "pid")
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	args := append([]string{"create", "--bundle", b.dir, "--pid-file", pidFile}, flags...)
	cmd := r.command(ctx, append(args, b.id)...)
	// Errors of the runtime itself and of the workload go the same way, as they do behind containerd.
	cmd.Stdout, cmd.Stderr = writer, writer
	if stdin != nil {
		cmd.Stdin = stdin
	}
	err = cmd.Run()
	writer.Close()
	if err != nil {
		said := make([]byte, 4096)
		reader.SetReadDeadline(time.Now().Add(time.Second))
		n, _ := reader.Read(said)
		t.Fatalf("create: %v: %s", err, said[:n])
	}
	c := &container{bundle: b, rt: r, output: reader, lines: bufio.NewReader(reader), pid: readPid(t, pidFile)}
	if c.pidfd, err = unix.PidfdOpen(c.pid, 0); err != nil {
		t.Fatalf("pidfd_open %d: %v", c.pid, err)
	}
	t.Cleanup(func() { c.forget(t) })
	return c
}

// start makes the container and starts it.
func (r *ociRuntime) start(t testing.TB, b *bundle, flags ...string) *container {
	t.Helper()
	c := r.create(t, b, flags...)
	r.must(t, "start", b.id)
	return c
}

// startWithStdin makes and starts the container with stdin as its standard input.
func (r *ociRuntime) startWithStdin(t testing.TB, b *bundle, stdin *os.File) *container {
	t.Helper()
	c := r.createWithStdin(t, b, stdin)
	r.must(t, "start", b.id)
	return c
}

// forget deletes the container if it is still there, and reaps its init.
func (c *container) forget(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(c.rt.root, c.id)); err == nil {
		if res := c.rt.run(t, "delete", "--force", c.id); res.code != 0 {
			t.Errorf("delete --force %s: %v", c.id, res)
		}
	}
	if !c.reaped {
		c.wait(t)
	}
	unix.Close(c.pidfd)
}

// line reads one line of the container's output, which must come in good time.
func (c *container) line(t testing.TB) string {
	t.Helper()
	if err := c.output.SetReadDeadline(time.Now().Add(commandTimeout)); err != nil {
		t.Fatal(err)
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("output of %s: %v (read so far %q)", c.id, err, line)
	}
	return strings.TrimRight(line, "\r\n")
}

// wait waits for the container's init to end and reaps it. Where the runtime gave it another parent, only the end is
// waited for and the status is 0.
func (c *container) wait(t testing.TB) unix.WaitStatus {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}, int(commandTimeout.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Errorf("init %d of %s did not end: %v", c.pid, c.id, err)
			return 0
		}
		break
	}
	c.reaped = true
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.pid, &status, 0, nil); err != nil && !errors.Is(err, unix.ECHILD) {
		t.Errorf("wait for %d: %v", c.pid, err)
	}
	return status
}

// adopt reaps a process that has become the tests' child, whenever it ends. While an inherited process stays a zombie,
// the init of its pid namespace cannot end.
func adopt(pid int) {
	go unix.Wait4(pid, nil, 0, nil)
}

// shell runs a shell script in the running container with `exec`.
func (c *container) shell(t testing.TB, text string, flags ...string) result {
	t.Helper()
	args := append([]string{"exec"}, flags...)
	return c.rt.run(t, append(args, c.id, "/bin/sh", "-c", text)...)
}

func readPid(t testing.TB, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("pid file: %v", err)
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil {
		t.Fatalf("pid file: %v", err)
	}
	return pid
}

func signalOf(state *os.ProcessState) syscall.Signal {
	return state.Sys().(syscall.WaitStatus).Signal()
}

// eventually waits for a condition that the system gives no event for.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); pause() {
		if condition() {
			return
		}
	}
	t.Fatalf("did not happen in 20 s: %s", what)
}

// pause is the step of a loop that looks again and again at what has no event.
func pause() { <-time.After(10 * time.Millisecond) }

// alive tells whether pid is a process that is not a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return !strings.HasPrefix(rest, " Z") && !strings.HasPrefix(rest, " X")
}
