package monitor

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A new monitor is left alone until nobody has asked it for anything for a while, and until then it sees its container end.
func TestEndsBefore(t *testing.T) {
	const short, long = 20 * time.Millisecond, time.Minute
	cmd := exec.Command("cat") // until its standard input ends
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := &Monitor{init: os.NewFile(uintptr(fd), "pidfd")}
	defer m.init.Close()
	a, err := newActivity()
	if err != nil {
		t.Fatal(err)
	}
	defer a.file.Close()

	if m.endsBefore(a, short) {
		t.Error("a process that runs has ended")
	}
	// What has been asked for is taken notice of once, and the time begins anew.
	a.note()
	began := time.Now()
	if m.endsBefore(a, short) {
		t.Error("activity is taken for the end")
	}
	if waited := time.Since(began); waited < short {
		t.Errorf("waited %v, not %v", waited, short)
	}
	a.note()
	input.Close()
	if !m.endsBefore(a, long) {
		t.Error("the end was not seen")
	}
}
