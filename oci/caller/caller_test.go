package caller

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
