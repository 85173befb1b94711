package terminal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// pair makes a pseudo terminal: its master, and the side that programs use.
func pair(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { _ = master.Close() })
	m, path, err := console.NewPtyFromFile(master)
	if err != nil {
		t.Fatal(err)
	}
	_ = m
	slave, err = os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

// events is a writer that a test can wait on.
type events struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newEvents() *events { return &events{changed: make(chan struct{}, 1)} }

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
	return e.text.Write(p)
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// wait waits until want has been written.
func (e *events) wait(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !strings.Contains(e.String(), want) {
		select {
		case <-e.changed:
		case <-deadline:
			t.Fatalf("got %q, never %q", e.String(), want)
		}
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func run(slave *os.File, script string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return cmd
}

func start(t *testing.T, master *os.File, host *Host, in *os.File, out io.Writer) *Relay {
	t.Helper()
	r, err := Start(master, host, in, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestNoOutputIsLost(t *testing.T) {
	for _, open := range []bool{false, true} { // whether somebody still has the terminal open at the end
		for range 10 {
			master, slave := pair(t)
			in, _ := pipe(t)
			var out bytes.Buffer
			r := start(t, master, nil, in, &out)
			cmd := run(slave, "seq 1 20000; echo end")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if !open {
				_ = slave.Close()
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := r.Finish(); err != nil {
				t.Fatal(err)
			}
			lines := strings.Fields(out.String())
			if len(lines) != 20001 || lines[19999] != "20000" || lines[20000] != "end" {
				t.Fatalf("open=%v: %d lines, the last %q", open, len(lines), lines[max(0, len(lines)-1):])
			}
		}
	}
}

func TestFinishDoesNotWaitForWhoGoesOn(t *testing.T) {
	master, slave := pair(t)
	in, _ := pipe(t)
	out := newEvents()
	r := start(t, master, nil, in, out)
	cmd := run(slave, "echo first; exec yes")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	out.wait(t, "first")
	done := make(chan error, 1)
	go func() { done <- r.Finish() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Finish waits for a process that never stops writing")
	}
}

func TestInput(t *testing.T) {
	master, slave := pair(t)
	in, w := pipe(t)
	out := newEvents()
	r := start(t, master, nil, in, out)
	cmd := run(slave, "stty -echo; echo ready; read x; echo got $x; read y; echo and $y")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "ready")
	_, _ = io.WriteString(w, "one\n")
	out.wait(t, "got one")
	_, _ = io.WriteString(w, "two\n")
	_ = cmd.Wait()
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "ready\r\ngot one\r\nand two\r\n" {
		t.Errorf("got %q", got)
	}
	// What comes after the end is for the next reader.
	_, _ = io.WriteString(w, "later")
	_ = w.Close()
	if rest, _ := io.ReadAll(in); string(rest) != "later" {
		t.Errorf("the relay took %q of the later input", "later"[len(rest):])
	}
}

func TestCloseWithContainerThatDoesNotRead(t *testing.T) {
	master, slave := pair(t)
	_ = slave
	in, w := pipe(t)
	r := start(t, master, nil, in, io.Discard)
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = w.Write(bytes.Repeat([]byte("x\n"), 1<<19)) // more than all buffers on the way take
	}()
	done := make(chan struct{})
	go func() { r.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("Close hangs")
	}
	_ = in.Close() // ends the writer
	<-written
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("nobody reads") }

func TestContainerDoesNotHangOnBrokenOutput(t *testing.T) {
	master, slave := pair(t)
	in, _ := pipe(t)
	r := start(t, master, nil, in, failing{})
	cmd := run(slave, "seq 1 20000")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err == nil || err.Error() != "terminal: nobody reads" {
		t.Errorf("got %v", err)
	}
}

// user is a terminal for the relay to be called from.
func user(t *testing.T) (*Host, *os.File) {
	t.Helper()
	_, tty := pair(t)
	c, err := console.ConsoleFromFile(tty)
	if err != nil {
		t.Fatal(err)
	}
	return &Host{Console: c}, tty
}

func mode(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

func TestRawModeAndBack(t *testing.T) {
	for name, end := range map[string]func(*Relay){
		"close":  func(r *Relay) { r.Close() },
		"finish": func(r *Relay) { _ = r.Finish() },
		"twice":  func(r *Relay) { _ = r.Finish(); r.Close() },
		"panic": func(r *Relay) {
			defer func() { _ = recover() }()
			defer r.Close()
			panic("of the caller")
		},
		"panic inside": func(r *Relay) {
			defer func() { _ = recover() }()
			r.guarded(func() { panic("of a copying goroutine") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			host, tty := user(t)
			before := mode(t, tty)
			master, _ := pair(t)
			in, _ := pipe(t)
			r := start(t, master, host, in, io.Discard)
			if raw := mode(t, tty); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
				t.Error("not in raw mode")
			}
			end(r)
			if mode(t, tty) != before {
				t.Error("the mode was not restored")
			}
		})
	}
}

func TestStartFailureRestores(t *testing.T) {
	host, tty := user(t)
	before := mode(t, tty)
	noTerminal, _ := pipe(t)
	if _, err := Start(noTerminal, host, noTerminal, io.Discard); err == nil {
		t.Error("a pipe passed for a terminal")
	}
	if mode(t, tty) != before {
		t.Error("the mode was not restored")
	}
}

func TestSizeFollows(t *testing.T) {
	host, tty := user(t)
	resize := func(rows, cols uint16) {
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
			t.Fatal(err)
		}
	}
	resize(11, 22)
	master, slave := pair(t)
	in, _ := pipe(t)
	out := newEvents()
	r := start(t, master, host, in, out)
	cmd := run(slave, "trap 'stty size' WINCH; stty size; while :; do read x; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	out.wait(t, "11 22")
	resize(33, 44)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "33 44")
	r.Close()
}
