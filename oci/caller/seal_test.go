package caller

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

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
