package monitor

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const leashHolder = "SANDLOCK_TEST_LEASH" // pid to be tied to a process of the test's own program

func TestMain(m *testing.M) {
	if pid := os.Getenv(leashHolder); pid != "" {
		holdLeash(pid)
	}
	os.Exit(m.Run())
}

func holdLeash(text string) {
	pid, err := strconv.Atoi(text)
	if err == nil {
		_, err = newLeash(pid)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString("tied\n")
	select {}
}

func TestLeash(t *testing.T) {
	for _, tied := range []bool{true, false} {
		victim := exec.Command("/bin/sleep", "600")
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		other := victim.Process.Pid
		if !tied {
			// The control: a holder of somebody else's leash dies, and the victim lives on.
			bystander := exec.Command("/bin/sleep", "600")
			if err := bystander.Start(); err != nil {
				t.Fatal(err)
			}
			other = bystander.Process.Pid
			defer func() { _ = bystander.Wait() }()
		}
		holder := exec.Command("/proc/self/exe")
		holder.Env = []string{leashHolder + "=" + strconv.Itoa(other)}
		out, err := holder.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		var line [5]byte
		if n, err := out.Read(line[:]); err != nil {
			t.Fatalf("the holder said %q: %v", line[:n], err)
		}
		if err := holder.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = holder.Wait()
		if !tied {
			if err := victim.Process.Signal(unix.Signal(0)); err != nil {
				t.Errorf("the process that nobody had tied is gone: %v", err)
			}
			_ = victim.Process.Kill()
			_ = victim.Wait()
			continue
		}
		err = victim.Wait()
		if status, ok := victim.ProcessState.Sys().(interface{ Signal() unix.Signal }); !ok || status.Signal() != unix.SIGKILL {
			t.Errorf("the tied process ended with %v", err)
		}
	}
}
