package launch

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// finish waits for the process itself and returns its exit status.
func finish(t *testing.T, c *Child) int {
	t.Helper()
	defer c.PIDFD.Close()
	defer c.Close()
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &status, 0, nil); err != nil {
		t.Fatalf("wait4: %v", err)
	}
	return status.ExitStatus()
}

func start(t *testing.T, p *Program, o Options) *Child {
	t.Helper()
	c, err := Start(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantDone(t *testing.T, c *Child) {
	t.Helper()
	if at, err := c.Wait(); err != nil || at != Done {
		t.Fatalf("Wait: %v, %v; want Done", at, err)
	}
}

func TestExecute(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	p := New()
	p.Dup3(Inherited(int(write.Fd()), "output"), 1)
	p.Unblock()
	p.CloseOnExec(3)
	p.Execve("/bin/sh", Strings([]string{"sh", "-c", "echo $WORD; ls /proc/self/fd | tr '\\n' ' '; exit 3"}, ""), Strings([]string{"WORD=hello", "PATH=/bin"}, "environment"))
	c := start(t, p, Options{})
	write.Close()
	wantDone(t, c)
	out, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	// ls itself has /proc/self/fd open as 3.
	if string(out) != "hello\n0 1 2 3 " {
		t.Errorf("output %q", out)
	}
	if code := finish(t, c); code != 3 {
		t.Errorf("exit status %d", code)
	}
}

func TestFailureNamesTheStep(t *testing.T) {
	p := New()
	p.About("change to the working directory")
	p.Chdir("/no/such/place")
	p.About("")
	p.Execve("/bin/true", Strings([]string{"true"}, ""), Strings(nil, ""))
	c := start(t, p, Options{})
	_, err := c.Wait()
	var failed *StepError
	if !errors.As(err, &failed) || failed.Index != 0 || !errors.Is(err, unix.ENOENT) {
		t.Fatalf("Wait: %#v", err)
	}
	if got, want := err.Error(), "change to the working directory: chdir: no such file or directory"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	finish(t, c)
}

func TestBranches(t *testing.T) {
	p := New()
	found := p.Label("found")
	for _, candidate := range []string{"/nowhere/sh", "/bin/sh"} {
		p.ExecCheck(candidate).OnSuccess(found).Ignore()
	}
	p.About("sh: executable file not found in $PATH")
	p.Fail(unix.ENOENT)
	p.Mark(found)
	p.Execve("/nowhere/sh", Strings([]string{"sh", "-c", "exit 4"}, ""), Strings(nil, "")).Ignore(unix.ENOENT)
	p.Execve("/bin/sh", Strings([]string{"sh", "-c", "exit 4"}, ""), Strings(nil, ""))
	c := start(t, p, Options{})
	wantDone(t, c)
	if code := finish(t, c); code != 4 {
		t.Errorf("exit status %d", code)
	}
}

func TestSyncAndTake(t *testing.T) {
	p := New()
	file := p.Openat2(CWD, "/etc/passwd", unix.O_CLOEXEC, 0, 0).Result("file")
	opened := p.Sync("opened")
	p.Execve("/bin/true", Strings([]string{"true"}, ""), Strings(nil, ""))
	c := start(t, p, Options{})
	if at, err := c.Wait(); err != nil || at != opened {
		t.Fatalf("Wait: %v, %v", at, err)
	}
	f, err := c.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var head [5]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:]) != "root:" {
		t.Errorf("the child's file starts with %q (%v)", head, err)
	}
	if err := c.Proceed(); err != nil {
		t.Fatal(err)
	}
	wantDone(t, c)
	if code := finish(t, c); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A child whose parent lets go of it at a sync point does not go on.
func TestAbandonedChildDies(t *testing.T) {
	mark := t.TempDir() + "/went-on"
	p := New()
	p.Sync("parked")
	p.Openat2(CWD, mark, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600, 0)
	p.Execve("/bin/true", Strings([]string{"true"}, ""), Strings(nil, ""))
	c := start(t, p, Options{})
	if _, err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if code := finishAbandoned(t, c); code != 1 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the child went on without its parent: %v", err)
	}
}

func finishAbandoned(t *testing.T, c *Child) int {
	t.Helper()
	c.Close()
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	c.PIDFD.Close()
	return status.ExitStatus()
}

// A hop makes a successor in the PID namespace that its predecessor could only give to its children.
func TestHopIntoPIDNamespace(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	p := New()
	p.Unshare(unix.CLONE_NEWPID, "CLONE_NEWPID")
	p.Hop()
	p.Sync("hopped")
	p.Dup3(Inherited(int(write.Fd()), "output"), 1)
	p.Unblock()
	p.Execve("/bin/sh", Strings([]string{"sh", "-c", "echo $$"}, ""), Strings(nil, ""))
	c := start(t, p, Options{})
	write.Close()
	first := c.PID
	if _, err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if c.PID == first {
		t.Errorf("the pid is still %d", first)
	}
	if err := c.Proceed(); err != nil {
		t.Fatal(err)
	}
	wantDone(t, c)
	out, err := io.ReadAll(read)
	if err != nil || string(out) != "1\n" {
		t.Errorf("pid inside %q, %v", out, err)
	}
	if code := finish(t, c); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestBornInPIDNamespaceOfAnother(t *testing.T) {
	p := New()
	p.Sync("alive")
	holder := start(t, p, Options{Namespaces: unix.CLONE_NEWPID})
	if _, err := holder.Wait(); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/" + itoa(holder.PID) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	q := New()
	q.Sync("alive")
	joined := start(t, q, Options{PIDNamespace: ns})
	if _, err := joined.Wait(); err != nil {
		t.Fatal(err)
	}
	a, errA := os.Readlink("/proc/" + itoa(holder.PID) + "/ns/pid")
	b, errB := os.Readlink("/proc/" + itoa(joined.PID) + "/ns/pid")
	if a != b || errA != nil || errB != nil {
		t.Errorf("namespaces %s (%v) and %s (%v)", a, errA, b, errB)
	}
	// This thread can still make threads, which it could not while its children were to be born elsewhere.
	done := make(chan struct{})
	go close(done)
	<-done
	finishAbandoned(t, joined)
	finishAbandoned(t, holder)
}

func itoa(n int) string {
	return strings.TrimSpace(Value(uint64(n)).String())
}

func TestString(t *testing.T) {
	p := New()
	p.About("mount /proc")
	context := p.Fsopen("proc").Result("context")
	p.FsconfigCreate(context).Ignore(unix.EBUSY)
	p.Sync("mounted")
	want := `  0  fsopen("proc", FSOPEN_CLOEXEC) -> context  # mount /proc
  1  fsconfig(context, CMD_CREATE, NULL, NULL, 0)  [EBUSY: at 2]  # mount /proc
  2  sync 1: mounted  # mount /proc
`
	if got := p.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p := New()
		p.Execve("/bin/true", Strings([]string{"true"}, ""), Strings(nil, ""))
		c, err := Start(p, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Wait(); err != nil {
			b.Fatal(err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(c.PID, &status, 0, nil); err != nil {
			b.Fatal(err)
		}
		c.Close()
		c.PIDFD.Close()
	}
}

// A step that has failed, or was never come to, has no result.
func TestReached(t *testing.T) {
	p := New()
	there := p.Chdir("/").Result("there")
	nowhere := p.Chdir("/no/such/directory").Ignore().Result("nowhere")
	p.About("the first")
	p.Reached(there, unix.EIO)
	p.About("the second")
	p.Reached(nowhere, unix.EACCES)
	c := start(t, p, Options{})
	_, err := c.Wait()
	if !errors.Is(err, unix.EACCES) || err.Error() != "the second: permission denied" {
		t.Errorf("Wait: %v", err)
	}
	finish(t, c)
}
