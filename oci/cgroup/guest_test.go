package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guest is a shell in the cgroup, which does what it is told.
type guest struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *os.File
	lines *bufio.Scanner
}

// enter starts a shell that walks in by the entrance, the way a container's child does.
func enter(t *testing.T, m *Manager) *guest {
	t.Helper()
	e, err := m.Enter()
	if err != nil {
		t.Fatal(err)
	}
	script := ""
	cmd := exec.Command("/bin/sh")
	for i, fd := range e.Tasks {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(dup), "tasks")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		// printf is built in: it is the shell itself that writes. By way of /proc, as dash takes no fd above 9.
		script += fmt.Sprintf("printf %s >/proc/self/fd/%d || exit 9\n", JoinText, 3+i)
	}
	if e.Into >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: e.Into}
	}
	g := &guest{t: t, cmd: cmd}
	g.in, _ = cmd.StdinPipe()
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	g.out, g.lines = out, bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if got := g.do(script + "echo in"); got != "in" {
		t.Fatalf("shell could not enter: %s", got)
	}
	return g
}

// do gives the shell a command and returns the one line it prints.
func (g *guest) do(command string) string {
	g.t.Helper()
	if _, err := io.WriteString(g.in, command+"\n"); err != nil {
		g.t.Fatal(err)
	}
	if !g.scan() {
		g.t.Fatalf("shell ended or hung at %q: %v", command, g.lines.Err())
	}
	return g.lines.Text()
}

// scan waits for the next line, for ten seconds at most.
func (g *guest) scan() bool {
	_ = g.out.SetReadDeadline(time.Now().Add(10 * time.Second))
	return g.lines.Scan()
}
