package oci

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

func TestState(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	want := state.View{
		OCIVersion: specs.Version, ID: "c", PID: f.record.Init.PID, Status: specs.StateRunning, Bundle: "/bundle", Rootfs: "/bundle/rootfs",
		Created: f.record.Created,
	}
	got, err := r.State("c")
	got.Annotations = nil
	if err != nil || got.ID != want.ID || got.PID != want.PID || got.Status != want.Status || !got.Created.Equal(want.Created) || got.Owner != "" {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	f.end(t)
	if got, err := r.State("c"); err != nil || got.Status != specs.StateStopped || got.PID != 0 {
		t.Errorf("after the end: %+v, %v", got, err)
	}
	if _, err := r.State("nobody"); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("nobody: %v", err)
	}
}

func TestList(t *testing.T) {
	r := newTestRuntime(t)
	newFake(t, r, "b-running", nil)
	newFake(t, r, "a-stopped", func(record *state.Record) { record.BootID = "another boot" })
	half, err := state.Create(r.Root, "c-half")
	if err != nil {
		t.Fatal(err)
	}
	half.Close()
	broken := newFake(t, r, "d-broken", nil)
	if err := broken.dir.WriteFile("state.json", []byte(`{"version": 99}`)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Root, "a-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.Root, "@not-an-id"), 0o700); err != nil {
		t.Fatal(err)
	}
	views, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range views {
		got = append(got, v.ID+" "+string(v.Status))
		if v.Owner != state.OwnerName(os.Geteuid()) {
			t.Errorf("%s: owner %q", v.ID, v.Owner)
		}
	}
	if want := []string{"a-stopped stopped", "b-running running", "c-half creating"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	r.Root = filepath.Join(r.Root, "missing")
	if _, err := r.List(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
}

func TestKill(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	if err := r.Kill("c", 0, false); err != nil || !f.alive() {
		t.Fatalf("signal 0: %v", err)
	}
	if err := r.Kill("c", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	_ = f.cmd.Wait() // it was killed
	if got := f.cmd.ProcessState.String(); got != "signal: terminated" {
		t.Errorf("it ended with %s", got)
	}
	if err := r.Kill("c", unix.SIGTERM, false); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
	if err := r.Kill("c", unix.SIGKILL, true); err != nil {
		t.Errorf("all, after the end: %v", err)
	}
	if err := r.Kill("nobody", unix.SIGKILL, true); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("nobody: %v", err)
	}
}

// What waits to be started as the first process of its PID namespace cannot be ended by anything but SIGKILL, so that is what it gets for the signals that end
// a program without handlers. Others are sent as they are.
func TestKillOfACreatedContainer(t *testing.T) {
	for signal, want := range map[unix.Signal]string{
		unix.SIGHUP: "signal: killed", unix.SIGINT: "signal: killed", unix.SIGQUIT: "signal: killed", unix.SIGABRT: "signal: killed", unix.SIGTERM: "signal: killed",
		unix.SIGKILL: "signal: killed", unix.SIGUSR1: "signal: user defined signal 1",
	} {
		r := newTestRuntime(t)
		f := newFake(t, r, "c", nil)
		if err := os.Remove(filepath.Join(f.dir.Path(), "started")); err != nil {
			t.Fatal(err)
		}
		if err := r.Kill("c", signal, false); err != nil {
			t.Fatal(err)
		}
		_ = f.cmd.Wait() // it was killed
		if got := f.cmd.ProcessState.String(); got != want {
			t.Errorf("%v: it ended with %s, want %s", signal, got, want)
		}
	}
}

func TestKillOfAZombie(t *testing.T) {
	r := newTestRuntime(t)
	newFake(t, r, "c", nil).end(t)
	if err := r.Kill("c", unix.SIGKILL, false); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

// A process that has got the number of a container's first process is none of the container's.
func TestKillSparesARecycledPID(t *testing.T) {
	r := newTestRuntime(t)
	for id, change := range map[string]func(*state.Record){
		"start-time": func(record *state.Record) { record.Init.StartTime-- },
		"boot":       func(record *state.Record) { record.BootID = "another boot" },
		"pid":        func(record *state.Record) { record.Init.PID = 0 },
	} {
		f := newFake(t, r, id, change)
		if err := r.Kill(id, unix.SIGKILL, false); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", id, err)
		}
		if !f.alive() {
			t.Errorf("%s: a stranger was killed", id)
		}
	}
	// The twin shows that it is the identity that makes the difference.
	f := newFake(t, r, "same", nil)
	if err := r.Kill("same", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	if f.cmd.Wait() == nil {
		t.Error("the container's own process was not killed")
	}
}

// Without a PID namespace SIGKILL is for the whole cgroup; where there is none, the first process is all that is known.
func TestKillWithoutNamespaceAndCgroup(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", func(record *state.Record) { record.Namespaces = nil })
	if err := r.Kill("c", unix.SIGKILL, true); err != nil {
		t.Error(err)
	}
	if f.cmd.Wait() == nil {
		t.Error("it was not killed")
	}
}

func TestProcesses(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	if pids, err := r.Processes("c"); err != nil || !slices.Equal(pids, []int{f.record.Init.PID}) {
		t.Errorf("%v, %v", pids, err)
	}
	f.end(t)
	if pids, err := r.Processes("c"); err != nil || pids == nil || len(pids) != 0 {
		t.Errorf("after the end: %v, %v", pids, err)
	}
}

func TestPauseAndResumeNeedTheRightState(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	if err := r.Pause("c"); !errors.Is(err, cgroup.ErrAbsent) {
		t.Errorf("without a cgroup: %v", err)
	}
	if err := r.Resume("c"); !errors.Is(err, ErrNotPaused) {
		t.Errorf("resume of what runs: %v", err)
	}
	f.end(t)
	if err := r.Pause("c"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("pause of what has ended: %v", err)
	}
	for _, verb := range []func(string) error{r.Pause, r.Resume} {
		if err := verb("nobody"); !errors.Is(err, state.ErrNotExist) {
			t.Errorf("nobody: %v", err)
		}
	}
}

func TestWriteSpec(t *testing.T) {
	dir := t.TempDir()
	if err := WriteSpec(dir, true); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil || !slices.Contains([]byte{'{'}, before[0]) {
		t.Fatalf("%s %v", before, err)
	}
	if err := WriteSpec(dir, false); err == nil {
		t.Error("it was overwritten")
	}
	if err := WriteSpec(filepath.Join(dir, "missing"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestRootlessOption(t *testing.T) {
	for option, want := range map[string]bool{"true": true, "1": true, "false": false, "0": false} {
		if got, err := Rootless(option, false); err != nil || got != want {
			t.Errorf("%s: %v, %v", option, got, err)
		}
	}
	for _, option := range []string{"", "auto", "AUTO"} {
		if got, err := Rootless(option, false); err != nil || got != (os.Geteuid() != 0 || InUserNamespace()) {
			t.Errorf("%q: %v, %v", option, got, err)
		}
	}
	if _, err := Rootless("perhaps", false); err == nil {
		t.Error("perhaps was accepted")
	}
}
