package caller

import (
	"bufio"
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

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		role string
		want int
	}{
		{"exit 0", 0}, {"exit 1", 1}, {"exit 255", 255}, {"die", 128 + 9}, {"finish", 7},
		{"workload exit 0", 0}, {"workload exit 42", 42}, {"workload kill -TERM $$", 128 + 15}, {"workload kill -KILL $$", 128 + 9},
	} {
		for _, verb := range []string{"run", "create"} {
			t.Run(verb+" "+test.role, func(t *testing.T) {
				if got := start(t, verb, test.role).code(); got != test.want {
					t.Errorf("exit code %d, want %d", got, test.want)
				}
			})
		}
	}
}

// A process that is let go of ends at once; its monitor lives on.
func TestFinishLeavesTheMonitor(t *testing.T) {
	a := start(t, "create", "finish")
	if code := a.code(); code != 7 {
		t.Errorf("exit code %d", code)
	}
	a.want("finished")
	if _, err := a.hold.Write([]byte{1}); err != nil { // it still reads
		t.Error(err)
	}
}

func TestMonitorLearnsOfTheCallersDeath(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGSEGV} {
		a := start(t, "run", "hold")
		a.monitor()
		if err := a.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		a.want("told, gone true")
	}
}

// A child that is tied to the monitor ends with it, when the calling process is gone already; one that is not lives on.
func TestTie(t *testing.T) {
	for _, role := range []string{"tie", "untied"} {
		a := start(t, "create", role)
		monitor := a.monitor()
		child, err := strconv.Atoi(a.line())
		if err != nil {
			t.Fatal(err)
		}
		if code := a.code(); code != 0 {
			t.Fatalf("%s: exit code %d", role, code)
		}
		pidfd, err := unix.PidfdOpen(child, 0)
		if err != nil {
			t.Fatalf("%s: the child is gone before its monitor: %v", role, err)
		}
		defer unix.Close(pidfd)
		ended := func(patience int) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, patience)
			return err == nil && n == 1
		}
		if ended(0) {
			t.Errorf("%s: the child has ended before its monitor", role)
		}
		if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		const long, short = 60_000, 100 // ms
		if role == "tie" && !ended(long) {
			t.Error("the child outlives its monitor")
		}
		if role == "untied" && ended(short) {
			t.Error("a child that is not tied ends with the monitor")
		}
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // mostly it has ended
	}
}

// A pid that is no child's, as that of a child that was reaped, ties nobody.
func TestTieOfNoChild(t *testing.T) {
	a := start(t, "run", "late")
	a.want("tied")
	if code := a.code(); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

func TestStoppedWatchDoesNotFire(t *testing.T) {
	a := start(t, "run", "stop")
	a.monitor()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.want("fired false")
}

func TestCallerLearnsOfTheMonitorsDeath(t *testing.T) {
	a := start(t, "run", "hold")
	if err := unix.Kill(a.monitor(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := a.code(); code != 128+9 {
		t.Errorf("exit code %d", code)
	}
}

// Before there is a workload, a signal that asks to end gives the creation up; the monitor is told and takes back what it has made.
func TestSignalDuringCreation(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		a := start(t, "create", "hold")
		a.monitor()
		if err := a.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		a.want("told, gone true")
		if code := a.code(); code != 128+int(signal) {
			t.Errorf("%v: exit code %d", signal, code)
		}
	}
}

// Other signals change nothing before there is a workload.
func TestHarmlessSignalDuringCreation(t *testing.T) {
	a := start(t, "create", "hold")
	monitor := a.monitor()
	for _, signal := range []unix.Signal{unix.SIGUSR1, unix.SIGALRM, unix.SIGWINCH} {
		if err := a.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(monitor, 0); err != nil {
		t.Errorf("the monitor: %v", err)
	}
	if err := a.cmd.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the calling process: %v", err)
	}
}

func TestSignalsReachTheWorkload(t *testing.T) {
	script := `for s in TERM INT HUP QUIT USR1 USR2 ALRM; do trap "echo $s" $s; done; trap "exit 3" VTALRM; echo ready; while :; do read x <&9 || sleep 0.05; done 9</dev/null`
	a := start(t, "run", "workload "+script)
	lines := map[string]bool{a.line(): true, a.line(): true}
	if !lines["ready"] {
		t.Fatalf("%v", lines)
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM} {
		if err := a.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		a.want(strings.TrimPrefix(unix.SignalName(signal), "SIG"))
	}
	if err := a.cmd.Process.Signal(unix.SIGVTALRM); err != nil {
		t.Fatal(err)
	}
	a.want("status 0x300")
	if code := a.code(); code != 3 {
		t.Errorf("exit code %d", code)
	}
}

func TestWorkloadOutlivesTheCaller(t *testing.T) {
	a := start(t, "run", "workload echo ready; exec sleep 600")
	for range 2 {
		a.line()
	}
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.want("gone") // the monitor goes on, and knows
}

func TestClosedStandardStreams(t *testing.T) {
	for _, closed := range []string{"<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"} {
		for _, verb := range []string{"run", "exec"} {
			a := startCommand(t, exec.Command("/bin/sh", "-c", `exec "$0" `+verb+" "+closed, "/proc/"+strconv.Itoa(os.Getpid())+"/exe"), "streams")
			for fd := range 3 {
				if got := a.line(); strings.HasPrefix(got, "socket:") || strings.HasPrefix(got, "anon_inode:") || strings.Contains(got, "no such") {
					t.Errorf("%s %s: descriptor %d is %s", verb, closed, fd, got)
				}
			}
			a.want("dumpable 0 <nil>")
		}
	}
}

// program is a copy of the test's own program: nobody else runs it, so that it can be written once it has ended.
func program(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// writable says whether the executable of a process can be opened for writing by way of /proc/PID/exe, when the process is gone and no longer keeps
// it busy. That is what CVE-2019-5736 did.
func writable(t *testing.T, pid int, end func()) error {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	end()
	const patience = 60_000 // ms
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, patience); n != 1 {
		t.Fatalf("the process does not end: %v", err)
	}
	again, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(again)
	}
	return err
}

func TestSealedExecutableCannotBeWritten(t *testing.T) {
	for _, test := range []struct {
		verb, role string
		sealed     bool
	}{
		{"exec", "sleep", true},
		{"run", "seal", true},
		{"create", "seal", true},
		{"state", "sleep", false}, // the control: a verb that makes no process in a container
	} {
		t.Run(test.verb+" "+test.role, func(t *testing.T) {
			a := startFile(t, program(t), test.verb, test.role)
			monitor := a.monitor()
			err := writable(t, monitor, func() {
				a.hold.Close()
				_ = a.cmd.Wait()
			})
			switch {
			case test.sealed && err == nil:
				t.Error("the executable of a sealed process can be written")
			case test.sealed && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EPERM):
				t.Errorf("writing a sealed executable: %v", err)
			case !test.sealed && err != nil:
				t.Errorf("the control: %v", err)
			}
			if test.role == "seal" {
				if code := a.cmd.ProcessState.ExitCode(); code != 8 {
					t.Errorf("a process that was sealed on the way exits with %d, want 8", code)
				}
			}
		})
	}
}
