package cgroup

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var serial atomic.Int32

// testID names a cgroup that nobody else on the machine has.
func testID() string { return fmt.Sprintf("sandlock-test-%d-%d", os.Getpid(), serial.Add(1)) }

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making cgroups needs root")
	}
}

// prepared makes a cgroup with the given limits, which is removed, processes and all, at the end of the test.
func prepared(t testing.TB, r specs.LinuxResources) *Manager {
	t.Helper()
	needRoot(t)
	c, err := Plan(limits(r), Options{ID: testID()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	paths := m.Paths()
	t.Cleanup(func() {
		_ = m.SignalAll(unix.SIGKILL)
		if err := m.Destroy(); err != nil {
			t.Error(err)
		}
		for _, dir := range paths {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is left behind", dir)
			}
		}
	})
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	if err := m.Absent(); err != nil {
		t.Fatalf("this host has no usable cgroups: %v", err)
	}
	return m
}

func TestKnownPathsAreTheLibrarys(t *testing.T) {
	needRoot(t)
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("SKIPPED: cgroup v1 only")
	}
	for _, cg := range []*cgroups.Cgroup{
		{Name: "a", Resources: &cgroups.Resources{}},
		{Path: "a/b", Resources: &cgroups.Resources{}},
		{Path: "../a", Resources: &cgroups.Resources{}},
		{Name: "a", Parent: "p", Resources: &cgroups.Resources{}},
		{Path: "/a/b", Resources: &cgroups.Resources{}},
		{Path: "/../a", Resources: &cgroups.Resources{}},
	} {
		lib, err := manager.New(cg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := knownPaths(cg)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil {
			t.Errorf("%+v: left to the library", cg)
		}
		if want := lib.GetPaths(); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v:\ngot  %v\nwant %v", cg, got, want)
		}
	}
}

func TestEntrance(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	g := enter(t, m)
	in, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, dir := range m.Paths() {
		if !strings.HasSuffix(dir, in[name]) || filepath.Base(dir) != filepath.Base(in[name]) {
			t.Errorf("hierarchy %q: process is in %s, not in %s", name, in[name], dir)
		}
	}
	pids, err := m.PIDs()
	if err != nil || !slices.Equal(pids, []int{g.cmd.Process.Pid}) {
		t.Errorf("PIDs = %v, %v; want the shell's %d", pids, err, g.cmd.Process.Pid)
	}
}

func TestLimitsHoldFromTheStart(t *testing.T) {
	fork := "( : ) 2>/dev/null && echo forked || echo refused; "
	few := enter(t, prepared(t, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(1))}}))
	// dash leaves when it cannot fork, so ask it to try in a trap.
	few.do("trap 'echo refused' EXIT; echo ready")
	if got := few.do(fork); !strings.Contains(got, "refused") && !strings.Contains(got, "fork") {
		t.Errorf("with a limit of one process a second was made: %q", got)
	}
	enough := enter(t, prepared(t, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}))
	if got := enough.do(fork); got != "forked" {
		t.Errorf("with a limit of five processes the second was refused: %q", got)
	}
}

func TestDevices(t *testing.T) {
	// A redirection error ends the dash it happens in, hence the subshell.
	const open = "(: <%s) 2>/dev/null && echo opened || echo refused"
	forbidden := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mknod(forbidden, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 11))); err != nil { // /dev/kmsg, admin-guide/devices.txt
		t.Fatal(err)
	}
	f, err := os.Open(forbidden)
	if err != nil {
		t.Fatalf("outside the cgroup: %v", err)
	}
	f.Close()

	in := func(g *guest, path string) string { return g.do(fmt.Sprintf(open, path)) }
	g := enter(t, prepared(t, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}))
	if got := in(g, forbidden); got == "opened" {
		t.Error("a device that is not among the defaults was opened")
	}
	for _, allowed := range []string{"/dev/null", "/dev/zero", "/dev/urandom"} {
		if got := in(g, allowed); got != "opened" {
			t.Errorf("%s: %s", allowed, got)
		}
	}
	g = enter(t, prepared(t, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
		{Access: "rwm"}, {Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "r"},
	}}))
	if got := in(g, forbidden); got != "opened" {
		t.Errorf("an allowed device was refused: %q", got)
	}
}

func TestCheck(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	if err := m.Check(); err != nil {
		t.Errorf("empty cgroup: %v", err)
	}
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	// It is another container that finds it so.
	second, err := Load(m.Config(), m.Paths())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Check(); err == nil || err.Error() != "container's cgroup unexpectedly frozen" {
		t.Errorf("frozen cgroup: %v", err)
	}
	if err := m.Thaw(); err != nil {
		t.Fatal(err)
	}
	enter(t, m)
	if err := second.Check(); err == nil || err.Error() != "container's cgroup is not empty: 1 process(es) found" {
		t.Errorf("cgroup with a process: %v", err)
	}
	// Undoing a creation that got no further must not touch what is another's.
	if err := second.Destroy(); err != nil {
		t.Error(err)
	}
	for _, dir := range m.Paths() {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestFreeze(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	g := enter(t, m)
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	if frozen, err := m.Frozen(); err != nil || !frozen {
		t.Fatalf("Frozen = %v, %v", frozen, err)
	}
	// What it is told now must not happen before the thaw.
	proof := filepath.Join(t.TempDir(), "ran")
	if _, err := io.WriteString(g.in, ": >"+proof+"; echo ran\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("a frozen process ran")
	}
	if err := m.Thaw(); err != nil {
		t.Fatal(err)
	}
	if !g.scan() || g.lines.Text() != "ran" {
		t.Errorf("after the thaw: %q", g.lines.Text())
	}
	if frozen, err := m.Frozen(); err != nil || frozen {
		t.Errorf("Frozen after the thaw = %v, %v", frozen, err)
	}
	if m.Config().Cgroup.Resources.Freezer != cgroups.Undefined {
		t.Error("the freezer state went into the configuration")
	}
}

func TestSignalAll(t *testing.T) {
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused=%v", paused), func(t *testing.T) {
			m := prepared(t, specs.LinuxResources{})
			g := enter(t, m)
			// A grandchild, and one in a nested cgroup.
			g.do("sleep 1000 & echo ok")
			nested := m.Path(t) + "/nested"
			if err := os.Mkdir(nested, 0o755); err != nil {
				t.Fatal(err)
			}
			g.do("sh -c 'echo $$ >" + nested + "/cgroup.procs && echo ok && exec sleep 1000' &")
			pids, err := m.PIDs()
			if err != nil || len(pids) != 3 {
				t.Fatalf("PIDs = %v, %v; want 3", pids, err)
			}
			if paused {
				if err := m.Freeze(); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.SignalAll(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = g.cmd.Wait()
			for _, pid := range pids {
				waitGone(t, pid)
			}
			if err := m.Destroy(); err != nil {
				t.Error(err)
			}
			if err := m.SignalAll(unix.SIGKILL); !errors.Is(err, ErrAbsent) {
				t.Errorf("after Destroy: %v", err)
			}
		})
	}
}

// Path is the directory in the hierarchy that PIDs looks at.
func (m *Manager) Path(t *testing.T) string {
	t.Helper()
	if cgroups.IsCgroup2UnifiedMode() {
		return m.Paths()[""]
	}
	return m.Paths()["devices"]
}

// waitGone waits until the process is no more, or only a zombie.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const patience = 10_000 // ms
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience)
	if err != nil || n != 1 {
		t.Errorf("process %d is still there (%v)", pid, err)
	}
}

func TestSignalLeavesPausedContainerPaused(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	g := enter(t, m)
	g.do("trap 'echo usr1' USR1; echo ok")
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := m.SignalAll(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if frozen, _ := m.Frozen(); !frozen {
		t.Error("SIGUSR1 thawed the container")
	}
	if err := m.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := g.do("echo next"); got != "usr1" {
		t.Errorf("first line after the thaw: %q", got)
	}
}

func TestLoad(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	g := enter(t, m)
	again, err := Load(m.Config(), m.Paths())
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(again.Paths(), m.Paths()) {
		t.Errorf("paths changed: %v", again.Paths())
	}
	pids, err := again.PIDs()
	if err != nil || !slices.Equal(pids, []int{g.cmd.Process.Pid}) {
		t.Errorf("PIDs = %v, %v", pids, err)
	}
	none, err := Load(Config{}, nil)
	if err != nil || !errors.Is(none.Absent(), ErrAbsent) {
		t.Errorf("container without a cgroup: %v, %v", none.Absent(), err)
	}
	if err := none.Destroy(); err != nil {
		t.Error(err)
	}
}

func TestUpdate(t *testing.T) {
	m := prepared(t, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(10))}})
	pidsMax := func() string {
		text, err := os.ReadFile(filepath.Join(m.Paths()["pids"], "pids.max"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	if err := m.Update(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(20))}}); err != nil {
		t.Fatal(err)
	}
	if got := pidsMax(); got != "20" {
		t.Errorf("pids.max = %s after the update", got)
	}
	err := m.Update(&specs.LinuxResources{
		Pids:    &specs.LinuxPids{Limit: ptr(int64(30))},
		CPU:     &specs.LinuxCPU{Cpus: "4095"},
		Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}},
	})
	if err == nil {
		t.Error("a cpu that does not exist was accepted")
	}
	if got := pidsMax(); got != "20" {
		t.Errorf("pids.max = %s after a failed update", got)
	}
}

func TestPrepareFailureLeavesNothing(t *testing.T) {
	needRoot(t)
	c, err := Plan(limits(specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4095"}}), Options{ID: testID()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	paths := m.Paths()
	if err := m.Prepare(); err == nil {
		t.Error("a cpu that does not exist was accepted")
	}
	for _, dir := range paths {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left behind", dir)
		}
	}
}

func TestDestroyWithNestedCgroups(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	if err := os.MkdirAll(m.Path(t)+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing left
		if err := m.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDestroyWithProcesses(t *testing.T) {
	m := prepared(t, specs.LinuxResources{})
	g := enter(t, m)
	if err := m.Destroy(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("with a process in it: %v, want EBUSY", err)
	}
	if got := g.do("echo alive"); got != "alive" {
		t.Errorf("the process is harmed: %q", got)
	}
}
