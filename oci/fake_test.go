package oci

import (
	"encoding/json"
	"io"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// newTestRuntime is a runtime with a root of its own, whose log goes nowhere.
func newTestRuntime(t *testing.T) *Runtime {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &Runtime{Root: t.TempDir(), Log: log}
}

// fake is a container on record whose first process is an ordinary process of the test's. It has no cgroup and no monitor.
type fake struct {
	dir    *state.Dir
	record state.Record
	cmd    *exec.Cmd
}

// newFake puts a running container on record; change, unless nil, has the last word about what is recorded.
func newFake(t *testing.T, r *Runtime, id string, change func(*state.Record)) *fake {
	t.Helper()
	f := &fake{cmd: exec.Command("sleep", "1000")}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.cmd.Process.Kill()
		f.cmd.Wait()
	})
	boot, err := state.BootID()
	if err != nil {
		t.Fatal(err)
	}
	init, err := state.IdentifyProcess(f.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	f.record = state.Record{
		ID: id, Bundle: "/bundle", Rootfs: "/bundle/rootfs", Created: time.Date(2024, 5, 6, 7, 8, 9, 10, time.UTC),
		Annotations: map[string]string{"a": "b"}, BootID: boot, Init: init,
		Namespaces: map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "/proc/" + strconv.Itoa(init.PID) + "/ns/pid"},
	}
	if change != nil {
		change(&f.record)
	}
	if f.dir, err = state.Create(r.Root, id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.dir.Close() })
	if err := f.dir.Save(&f.record); err != nil {
		t.Fatal(err)
	}
	if _, err := f.dir.MarkStarted(); err != nil {
		t.Fatal(err)
	}
	return f
}

// keep stores the plan, and the spec with its filter, as a creation does.
func (f *fake) keep(t *testing.T, p *plan.Plan) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.dir.WriteFile(planFile, text); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(&specs.Spec{Linux: &specs.Linux{Seccomp: p.Seccomp}}); err != nil {
		t.Fatal(err)
	}
	if err := f.dir.WriteFile(state.ConfigFile, text); err != nil {
		t.Fatal(err)
	}
}

// end ends the first process without reaping it, and returns when it has ended.
func (f *fake) end(t *testing.T) {
	t.Helper()
	fd, err := unix.PidfdOpen(f.cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := f.cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != nil {
		t.Fatal(err)
	}
}

// alive says whether the first process runs.
func (f *fake) alive() bool {
	facts, err := state.ObserveProcess(f.cmd.Process.Pid)
	return err == nil && facts.StartTime != 0 && !facts.Zombie
}
