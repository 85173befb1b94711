package caller

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// The test's own program has this package's constructor, so that it is split as the runtime is when its first argument is a verb. The
// environment says what the part that becomes the monitor does; it speaks to the test over descriptor 3.
const roleVariable = "SANDLOCK_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// say tells the test something, on a line.
func say(format string, values ...any) {
	if _, err := fmt.Fprintf(os.NewFile(3, "test"), format+"\n", values...); err != nil {
		os.Exit(99)
	}
}

func play(role string) {
	p := Find()
	name, argument, _ := strings.Cut(role, " ")
	if name != "seal" { // which executes this program again
		unix.CloseOnExec(3)
	}
	switch name {
	case "exit":
		code, _ := strconv.Atoi(argument)
		os.Exit(code)
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "finish":
		if err := p.Finish(7); err != nil {
			say("%v", err)
		}
		say("finished")
		hold()
	case "hold": // until the calling process is gone
		told := make(chan struct{})
		p.OnGone(func() { close(told) })
		say("monitor %d", os.Getpid())
		<-told
		say("told, gone %v", p.Gone())
	case "stop": // watching, but no more
		fired := false
		stop := p.OnGone(func() { fired = true })
		stop()
		say("monitor %d", os.Getpid())
		<-p.gone
		say("fired %v", fired)
	case "workload":
		workload(p, argument)
	case "late":
		if err := p.Tie(os.Getppid()); err != nil { // which is no child of the calling process
			say("%v", err)
		}
		say("tied")
		os.Exit(5)
	case "tie", "untied":
		tie(p, name == "tie")
	case "sleep":
		say("monitor %d", os.Getpid())
		hold()
	case "seal":
		if err := Seal(p); err != nil {
			say("%v", err)
			os.Exit(1)
		}
		// The process has been executed anew, and is still what it was.
		say("monitor %d", os.Getpid())
		if p != nil {
			_ = p.Finish(8)
		}
		hold()
	case "streams":
		for fd := range 3 {
			to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			if err != nil {
				to = err.Error()
			}
			say("%s", to)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		say("dumpable %d %v", dumpable, err)
	default:
		say("unknown role %q", role)
	}
}

// hold waits for the test to close its end, which it does at the latest when it ends.
func hold() {
	var one [1]byte
	_, _ = os.NewFile(4, "hold").Read(one[:])
}

// workload makes the calling process's child of a shell script, and ends as it did.
func workload(p *Process, script string) {
	program := launch.New()
	program.Dup3(launch.Inherited(3, "test"), 1)
	program.Unblock()
	program.CloseOnExec(3)
	program.Execve("/bin/sh", launch.Strings([]string{"sh", "-c", script}, ""), launch.Strings(nil, ""))
	child, err := launch.Start(program, launch.Options{Sibling: true})
	if err == nil {
		err = p.Workload(child.PID)
	}
	if err == nil {
		_, err = child.Wait()
	}
	if err != nil {
		say("%v", err)
		os.Exit(98)
	}
	say("monitor %d", os.Getpid())
	status, err := p.Exited(child.PID)
	if errors.Is(err, ErrGone) {
		say("gone")
		_ = unix.Kill(child.PID, unix.SIGKILL)
		return
	}
	if err != nil {
		say("%v", err)
	}
	say("status %#x", uint32(status))
	if status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(status.ExitStatus())
}

// tie makes the calling process's child of a process that sleeps, ties it to this one or not, and has the calling process go.
func tie(p *Process, tied bool) {
	program := launch.New()
	program.Unblock()
	program.CloseOnExec(3)
	program.Execve("/bin/sleep", launch.Strings([]string{"sleep", "600"}, ""), launch.Strings(nil, ""))
	child, err := launch.Start(program, launch.Options{Sibling: true})
	if err == nil {
		_, err = child.Wait()
	}
	if err == nil && tied {
		err = p.Tie(child.PID)
	}
	if err == nil {
		err = p.Finish(0)
	}
	if err != nil {
		say("%v", err)
		os.Exit(98)
	}
	say("monitor %d", os.Getpid())
	say("%d", child.PID)
	hold()
}

// actor is a process of the test's own program in a role.
type actor struct {
	t     *testing.T
	cmd   *exec.Cmd
	heard *bufio.Reader
	file  *os.File
	hold  *os.File
}

func start(t *testing.T, verb, role string) *actor {
	t.Helper()
	return startFile(t, "/proc/self/exe", verb, role)
}

func startFile(t *testing.T, file, verb, role string) *actor {
	t.Helper()
	return startCommand(t, exec.Command(file, verb), role)
}

func startCommand(t *testing.T, cmd *exec.Cmd, role string) *actor {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	holdRead, holdWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.ExtraFiles = []*os.File{write, holdRead}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	holdRead.Close()
	// Nothing that goes wrong may make the test wait for good.
	if err := read.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t, cmd: cmd, heard: bufio.NewReader(read), file: read, hold: holdWrite}
	t.Cleanup(func() {
		holdWrite.Close()
		read.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return a
}

func (a *actor) line() string {
	a.t.Helper()
	line, err := a.heard.ReadString('\n')
	if err != nil {
		a.t.Fatalf("after %q: %v", line, err)
	}
	return strings.TrimSpace(line)
}

func (a *actor) want(line string) {
	a.t.Helper()
	if got := a.line(); got != line {
		a.t.Fatalf("the process says %q, want %q", got, line)
	}
}

// monitor is the pid that the process says its monitor has.
func (a *actor) monitor() int {
	a.t.Helper()
	text, ok := strings.CutPrefix(a.line(), "monitor ")
	pid, err := strconv.Atoi(text)
	if !ok || err != nil {
		a.t.Fatalf("no pid: %q", text)
	}
	return pid
}

// code waits for the calling process and returns its exit code.
func (a *actor) code() int {
	a.t.Helper()
	_ = a.cmd.Wait() // the state tells
	status := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 1000 + int(status.Signal()) // no exit code is that large
	}
	return status.ExitStatus()
}
