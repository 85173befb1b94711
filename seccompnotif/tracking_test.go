package seccompnotif

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// trackedOverlay notifies what tracking needs, and execve.
func trackedOverlay() Overlay {
	return Overlay{
		Notify:     []string{"execve", "execveat"},
		NotifyWhen: CreationNotifications(),
		Deny:       CreationDenials(),
	}
}

var guestProgram struct {
	once sync.Once
	path string
	err  error
}

// buildGuest compiles testdata/guest.c.
func buildGuest(t testing.TB) string {
	t.Helper()
	guestProgram.once.Do(func() {
		dir, err := os.MkdirTemp("", "guest")
		if err != nil {
			guestProgram.err = err
			return
		}
		atEnd = append(atEnd, func() { os.RemoveAll(dir) })
		guestProgram.path = filepath.Join(dir, "guest")
		out, err := exec.Command("cc", "-O1", "-Wall", "-Wno-nonnull", "-static", "-pthread", "-o", guestProgram.path, "testdata/guest.c").CombinedOutput()
		if err != nil {
			guestProgram.err = errors.New(string(out))
		}
	})
	if guestProgram.err != nil {
		t.Fatalf("testdata/guest.c: %v", guestProgram.err)
	}
	return guestProgram.path
}

// guest is a running testdata/guest.c.
type guest struct {
	t      testing.TB
	cmd    *exec.Cmd
	conn   *os.File
	output *bufio.Reader
	ended  bool
}

// startGuest starts a guest under the overlay and a supervisor, which it gives the listener. It does nothing until told to go.
func startGuest(t testing.TB, o Overlay, s *Supervisor, args ...string) *guest {
	t.Helper()
	program, err := o.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	cmd := exec.Command(buildGuest(t), args...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, cmd: cmd, conn: ours, output: bufio.NewReader(output)}
	t.Cleanup(g.kill)
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&program[0])), len(program)*int(unsafe.Sizeof(program[0])))
	if _, err := ours.Write(raw); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], b[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("no listener from the guest: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(fds[0]); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guest) start() {
	g.t.Helper()
	if _, err := g.conn.Write([]byte{0}); err != nil {
		g.t.Fatal(err)
	}
}

// run has the guest play its part, and returns what it printed.
func (g *guest) run() []string {
	g.t.Helper()
	g.start()
	out, err := io.ReadAll(g.output)
	if err != nil {
		g.t.Fatal(err)
	}
	g.wait()
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// line returns the next line that the guest printed.
func (g *guest) line() string {
	g.t.Helper()
	s, err := g.output.ReadString('\n')
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSuffix(s, "\n")
}

// wait waits for the guest's end, without taking from the tracer what is the tracer's.
func (g *guest) wait() {
	if g.ended {
		return
	}
	g.ended = true
	g.conn.Close()
	if fd, err := openPIDFD(g.cmd.Process.Pid, 0); err == nil {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(p, -1); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		unix.Close(fd)
	}
	_ = g.cmd.Wait()
}

// kill ends the guest and all it made.
func (g *guest) kill() {
	_ = unix.Kill(-g.cmd.Process.Pid, unix.SIGKILL)
	g.wait()
}

// tracking returns a supervisor that tracks creation and answers execves with judge.
func tracking(t testing.TB, judge HandlerFunc, config ...func(*Config)) *Supervisor {
	t.Helper()
	table, err := NewTable().Under(trackedOverlay()).TrackCreation().
		Handle(unix.SYS_EXECVE, judge).Handle(unix.SYS_EXECVEAT, judge).Build()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Table: table, Log: t.Logf}
	for _, f := range config {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitNobody waits until no process is in the index: exits reach it by themselves.
func awaitNobody(t testing.TB, s *Supervisor) {
	t.Helper()
	testguest.Await(t, "an empty index", func() bool { return s.index.size() == 0 })
}

// finish waits for the end of every guest and checks that nothing is left of them.
func finish(t testing.TB, s *Supervisor) {
	t.Helper()
	s.Wait()
	awaitNobody(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func allow(*Call) Action { return Continue() }

func TestTracking(t *testing.T) {
	s := tracking(t, allow)
	g := startGuest(t, trackedOverlay(), s, "spawn", "20")
	if out := strings.Join(g.run(), ";"); out != "spawned 20" {
		t.Errorf("the guest said %q", out)
	}
	finish(t, s)
}

func TestJudgedSpawn(t *testing.T) {
	j := newJudge()
	s := tracking(t, j.frozen)
	g := startGuest(t, trackedOverlay(), s, "spawn", "100")
	if out := strings.Join(g.run(), ";"); out != "spawned 100" {
		t.Errorf("the guest said %q", out)
	}
	finish(t, s)
}
