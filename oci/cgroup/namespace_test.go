package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inMountNamespace runs the named test of this binary again, in a mount namespace of its own, where the test may put
// anything on /sys/fs/cgroup. It reports true inside; outside it has judged the inner run and the test is over.
func inMountNamespace(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	const mark = "CGROUP_TEST_INNER"
	if os.Getenv(mark) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// noCgroups hides the host's cgroups, also those that somebody has mounted elsewhere.
func noCgroups(t *testing.T) {
	t.Helper()
	if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	others, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range others {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			t.Fatalf("%s: %v", m.Mountpoint, err)
		}
	}
}

func TestHostWithoutCgroups(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	noCgroups(t)
	plain, err := Plan(&specs.Spec{}, Options{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(m.Absent(), ErrAbsent) {
		t.Errorf("Absent = %v", m.Absent())
	}
	t.Log(m.Absent())
	for name, step := range map[string]func() error{
		"Check": m.Check, "Prepare": m.Prepare, "Destroy": m.Destroy,
		"Apply": func() error { return m.Apply(os.Getpid()) },
	} {
		if err := step(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := m.Enter()
	if err != nil || e.Into != -1 || len(e.Tasks) != 0 {
		t.Errorf("Enter = %+v, %v", e, err)
	}
	if frozen, err := m.Frozen(); err != nil || frozen {
		t.Errorf("Frozen = %v, %v", frozen, err)
	}
	for name, err := range map[string]error{"Freeze": m.Freeze(), "SignalAll": m.SignalAll(unix.SIGKILL), "Update": m.Update(&specs.LinuxResources{})} {
		if !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %v, want ErrAbsent", name, err)
		}
	}
	if len(m.Paths()) != 0 {
		t.Errorf("Paths = %v", m.Paths())
	}

	limited, err := Plan(limits(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}), Options{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(limited)
	if err == nil || !strings.HasPrefix(err.Error(), "linux.resources.pids: no cgroup can be made: ") {
		t.Errorf("a limit that cannot be kept: %v", err)
	}
}

func TestReadOnlyCgroups(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	err := unix.MountSetattr(unix.AT_FDCWD, "/sys/fs/cgroup", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"": "", "/sandlock-test-ro": "linux.cgroupsPath: "} {
		c, err := Plan(&specs.Spec{Linux: &specs.Linux{CgroupsPath: path}}, Options{ID: testID()})
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		err = m.Prepare()
		if want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, unix.EROFS) {
				t.Errorf("path %q: %v", path, err)
			}
			continue
		}
		if err != nil || !errors.Is(m.Absent(), unix.EROFS) {
			t.Errorf("no path: %v, absent: %v", err, m.Absent())
		}
	}
}

// TestUnified goes through a container's life on cgroup v2. This works on a v1 host, too: its controllers are bound to
// v1 and missing here, but freezing, killing and device rules need none.
func TestUnified(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	noCgroups(t)
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Run("freeze", TestFreeze)
	t.Run("check", TestCheck)
	t.Run("devices", TestDevices)
	t.Run("kill", TestSignalAll)
	t.Run("signal", TestSignalLeavesPausedContainerPaused)
	t.Run("load", TestLoad)
	t.Run("beside", func(t *testing.T) {
		m := prepared(t, specs.LinuxResources{})
		g := enter(t, m)
		sub := m.Paths()[""] + "/init.scope"
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		g.do("echo $$ >" + sub + "/cgroup.procs; echo moved")
		e, err := m.EnterBeside(g.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		cmd := exec.Command("/bin/cat", "/proc/self/cgroup")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: e.Into}
		out, err := cmd.Output()
		if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "/init.scope") {
			t.Errorf("exec went to %s, %v", out, err)
		}
	})
}
