package integration

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/console"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// consoleSocket listens as containerd's shim does and gives back the one terminal that is sent to it.
type consoleSocket struct {
	path     string
	listener *net.UnixListener
}

func newConsoleSocket(t *testing.T) *consoleSocket {
	t.Helper()
	path := filepath.Join(shortTempDir(t), "console.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return &consoleSocket{path: path, listener: listener}
}

// receive waits for the terminal and returns its master side.
func (s *consoleSocket) receive(t *testing.T) *os.File {
	t.Helper()
	s.listener.SetDeadline(time.Now().Add(commandTimeout))
	conn, err := s.listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, rights)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("control messages %v: %v", messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v: %v", fds, err)
	}
	master := os.NewFile(uintptr(fds[0]), "terminal")
	t.Cleanup(func() { master.Close() })
	return master
}

// readAll reads a terminal to its end, which a pty reports as EIO.
func readAll(f *os.File) string {
	var text strings.Builder
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		text.WriteString(strings.TrimRight(scanner.Text(), "\r") + "\n")
	}
	return text.String()
}

func TestConsoleSocket(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "tty; stty size; ls -l /dev/console | cut -c1; test -t 0 && test -t 1 && test -t 2 && echo all three; cat /proc/self/stat | cut -d' ' -f7 | sed 's/[1-9][0-9]*/controlling/'")
	b.spec.Process.Terminal = true
	b.spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77}
	socket := newConsoleSocket(t)
	c := r.start(t, b, "--console-socket", socket.path)
	master := socket.receive(t)
	text := readAll(master)
	c.wait(t)
	if want := "/dev/pts/0\n33 77\nc\nall three\ncontrolling\n"; text != want {
		t.Errorf("want %q, got %q", want, text)
	}
}

func TestExecWithConsoleSocket(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	socket := newConsoleSocket(t)
	pidFile := filepath.Join(c.dir, "exec.pid")
	r.must(t, "exec", "--detach", "--tty", "--pid-file", pidFile, "--console-socket", socket.path, c.id, "/bin/sh", "-c", "tty; read word; echo got $word")
	adopt(readPid(t, pidFile))
	master := socket.receive(t)
	if _, err := master.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	text := readAll(master)
	for _, line := range []string{"/dev/pts/0\n", "got hello\n"} { // where the echo of hello falls is open
		if !strings.Contains(text, line) {
			t.Errorf("the terminal lacks %q: %q", line, text)
		}
	}
}

// onTerminal runs cmd with a new terminal of 24 by 90 as its stdio, types input, and returns what the terminal showed.
func onTerminal(t *testing.T, cmd *exec.Cmd, input string) (string, int) {
	t.Helper()
	master, slavePath, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := master.Resize(console.WinSize{Height: 24, Width: 90}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(slavePath, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	timer := time.AfterFunc(commandTimeout, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if _, err := master.Write([]byte(input)); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	scanner := bufio.NewScanner(master)
	for scanner.Scan() {
		text.WriteString(strings.TrimRight(scanner.Text(), "\r") + "\n")
	}
	cmd.Wait() // the exit code is what counts
	return text.String(), exitCode(cmd.ProcessState)
}

func TestRunOnATerminal(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "tty; stty size; read word; echo got $word; exit 3")
	b.spec.Process.Terminal = true
	b.write(t)
	text, code := onTerminal(t, r.command(context.Background(), "run", "--bundle", b.dir, b.id), "hello\n")
	for _, line := range []string{"/dev/pts/0\n", "24 90\n", "got hello\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the terminal lacks %q: %q", line, text)
		}
	}
	if code != 3 {
		t.Errorf("exit code %d", code)
	}
}

func TestExecOnATerminal(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	text, code := onTerminal(t, r.command(context.Background(), "exec", "--tty", c.id, "/bin/sh", "-c", "stty size; read word; echo got $word; exit 4"), "hello\n")
	if !strings.Contains(text, "24 90\n") || !strings.Contains(text, "got hello\n") || code != 4 {
		t.Errorf("exit code %d, the terminal showed %q", code, text)
	}
}

func TestTerminalAndConsoleSocketBelongTogether(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/true")
	b.spec.Process.Terminal = true
	b.write(t)
	r.run(t, "create", "--bundle", b.dir, b.id).refused(t, "console socket")
	// Nor is there a terminal without one to relay it to.
	without := exec.Command("setsid", "--wait", runtimePath, "--root", r.root, "run", "--bundle", b.dir, b.id)
	finish(t, without).refused(t, "/dev/tty")
	b.spec.Process.Terminal = false
	b.write(t)
	r.run(t, "create", "--bundle", b.dir, "--console-socket", "/tmp/nowhere.sock", b.id).refused(t, "console socket")
	assertNothingLeft(t, r, b)
}
