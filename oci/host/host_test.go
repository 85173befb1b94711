package host

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/landlock"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestProbeAgreesWithTheMachine compares each answer with what another interface of the kernel says.
func TestProbeAgreesWithTheMachine(t *testing.T) {
	host := Probe()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if host.Release != strings.TrimSpace(string(release)) {
		t.Errorf("release %q, /proc says %q", host.Release, release)
	}
	if host.EUID != os.Geteuid() {
		t.Errorf("euid %d", host.EUID)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	hex := make([]byte, 16)
	for i := range hex {
		hex[i] = "0123456789abcdef"[host.Capabilities>>uint(60-4*i)&0xf]
	}
	if !strings.Contains(string(status), "CapEff:\t"+string(hex)) {
		t.Errorf("capabilities %s, /proc says %s", hex, status)
	}
	abi, err := landlock.Probe()
	if host.Landlock != abi || (host.LandlockError == "") != (err == nil) {
		t.Errorf("landlock %d %q, want %d %v", host.Landlock, host.LandlockError, abi, err)
	}
	namespaces := ProbeNamespaces()
	if host.UserNS != namespaces.Has(unix.CLONE_NEWUSER) {
		t.Errorf("user namespaces %v, /proc says %v", host.UserNS, !host.UserNS)
	}
	for _, one := range namespaceTypes {
		_, err := os.Readlink("/proc/self/ns/" + one.name)
		if (err == nil) != namespaces.Has(uint64(one.flag)) {
			t.Errorf("namespace %s: %v", one.name, err)
		}
	}
	mapping, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if whole := reflect.DeepEqual(strings.Fields(string(mapping)), []string{"0", "0", "4294967295"}); host.InitialUserNS && !whole {
		t.Errorf("initial user namespace with mapping %s", mapping)
	}
	actions, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil {
		t.Fatal(err)
	}
	if host.Seccomp.Notify != strings.Contains(string(actions), "user_notif") || host.Seccomp.Log != strings.Contains(string(actions), " log") {
		t.Errorf("%+v, /proc says %s", host.Seccomp, actions)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if host.Cgroup.Unified != "" && !strings.Contains(string(mounts), " "+host.Cgroup.Unified+" cgroup2 ") {
		t.Errorf("%+v, /proc says %s", host.Cgroup, mounts)
	}
	if host.Cgroup.Layout == CgroupNone && strings.Contains(string(mounts), " "+cgroupRoot) {
		t.Errorf("%+v, /proc says %s", host.Cgroup, mounts)
	}
}

// TestSyscallProbes shows that probes of what this kernel has say so by using it, and that a call that does not exist does
// not seem to.
func TestSyscallProbes(t *testing.T) {
	got := probeSyscalls()
	if exists(^uintptr(0)>>33, 0, 0, 0, 0) {
		t.Error("a call with an absurd number exists")
	}
	if seccompFlags(1 << 31) {
		t.Error("an absurd flag exists")
	}
	if seccompAction(0x12340000) {
		t.Error("an absurd action exists")
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if (err == nil) != got.Openat2 {
		t.Errorf("openat2: %v", err)
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	for name, c := range map[string]struct {
		flags int
		have  bool
	}{"pidfd_open": {0, got.PidfdOpen}, "PIDFD_THREAD": {pidfdThread, got.PidfdThread}} {
		fd, err := unix.PidfdOpen(os.Getpid(), c.flags)
		if (err == nil) != c.have {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
	}
	// The project's floor, below which its tests make no sense.
	if !Probe().AtLeast(floorMajor, floorMinor) {
		t.Fatalf("this host cannot run the tests: Linux %s", Probe().Release)
	}
	if want := (Syscalls{true, true, true, true, true, true, true, true, got.PidfdThread, true, true}); got != want {
		t.Errorf("%+v", got)
	}
	if s := probeSeccomp(); s != (Seccomp{true, true, true, true, true}) {
		t.Errorf("%+v", s)
	}
}

// TestProbeLeavesNothing shows that probing neither opens descriptors nor makes processes nor restricts this one.
func TestProbeLeavesNothing(t *testing.T) {
	before, _ := os.ReadFile("/proc/thread-self/status")
	countFDs := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	open := countFDs()
	Describe()
	if now := countFDs(); now != open {
		t.Errorf("%d descriptors, then %d", open, now)
	}
	after, _ := os.ReadFile("/proc/thread-self/status")
	field := func(status []byte, name string) string {
		_, rest, _ := strings.Cut(string(status), name+":")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	for _, name := range []string{"Seccomp", "Seccomp_filters", "NoNewPrivs", "CapEff"} {
		if field(before, name) != field(after, name) {
			t.Errorf("%s: %s, then %s", name, field(before, name), field(after, name))
		}
	}
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != unix.ECHILD {
		t.Errorf("a child: %v", err)
	}
}

func TestReleaseNumbers(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.1.0-18-amd64": {6, 1}, "6.18.44-fc-v669": {6, 18}, "5.19-rc1": {5, 19}, "7.0": {7, 0}, "6": {6, 0}, "": {0, 0}, "x.y": {0, 0}, "6.x": {6, 0},
	} {
		major, minor := releaseNumbers(release)
		if [2]int{major, minor} != want {
			t.Errorf("%q: %d.%d", release, major, minor)
		}
	}
	host := Host{Release: "6.1.0-18-amd64"}
	for numbers, want := range map[[2]int]bool{{5, 19}: true, {6, 1}: true, {6, 2}: false, {7, 0}: false} {
		if host.AtLeast(numbers[0], numbers[1]) != want {
			t.Errorf("%v: %v", numbers, !want)
		}
	}
}

func TestCgroupOfPlainDirectory(t *testing.T) {
	if got := probeCgroup(filepath.Join(t.TempDir(), "missing")); got != (Cgroup{Layout: CgroupNone}) {
		t.Errorf("%+v", got)
	}
	if got := probeCgroup("/proc"); got != (Cgroup{Layout: CgroupNone}) {
		t.Errorf("%+v", got)
	}
}

func TestMissingNamespaces(t *testing.T) {
	have := Namespaces(unix.CLONE_NEWNS | unix.CLONE_NEWPID)
	if got := have.Missing(unix.CLONE_NEWNS | unix.CLONE_NEWTIME | unix.CLONE_NEWIPC); !reflect.DeepEqual(got, []string{"ipc", "time"}) {
		t.Error(got)
	}
	if got := have.Missing(unix.CLONE_NEWPID); len(got) != 0 {
		t.Error(got)
	}
}

func TestMountedV1(t *testing.T) {
	table := "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t5\t1\nmemory\t4\t5\t0\npids\t0\t5\t1\nfreezer\t6\t5\t1\n"
	if got := mountedV1(table); !reflect.DeepEqual(got, []string{"cpuset", "freezer"}) {
		t.Error(got)
	}
}

// everything is a host that lacks nothing.
func everything() Description {
	return Description{
		Host: Host{
			Release: "6.12.1", EUID: 0, Capabilities: 1<<41 - 1, InitialUserNS: true, Landlock: 6,
			UserNS: true, Cgroup: Cgroup{CgroupV2, cgroupRoot}, Seccomp: Seccomp{true, true, true, true, true},
		},
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
			unix.CLONE_NEWUSER | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME,
		Arch: "amd64", Syscalls: Syscalls{true, true, true, true, true, true, true, true, true, true, true},
		Listener:    Listener{SyncWakeUp: true, AddFDSend: true},
		Controllers: []string{"cpu", "memory", "pids"}, UserNSLimit: "63432", UnprivilegedUserNS: true, PtraceScope: "1",
		AppArmor: true, SELinux: true, LSMs: "lockdown,capability,landlock,yama,apparmor",
	}
}

// TestFindingsGolden keeps what `check` says of hosts that have everything, something and nothing.
func TestFindingsGolden(t *testing.T) {
	older := everything()
	older.Release, older.Landlock, older.Seccomp.TSyncESRCH = "5.19.17", 2, true
	older.Syscalls.PidfdThread, older.Syscalls.MountSetattr, older.Listener.SyncWakeUp = false, false, false
	older.EUID, older.InitialUserNS, older.Capabilities = 1000, true, 0
	older.UnprivilegedUserNS, older.SELinux = false, false
	older.Cgroup = Cgroup{Layout: CgroupV1}
	for name, d := range map[string]Description{
		"everything": everything(), "older": older,
		"nothing": {Host: Host{Release: "4.19.0", EUID: 1000, LandlockError: landlock.ErrAbsent.Error(), Cgroup: Cgroup{Layout: CgroupNone}}, Arch: "arm64", UserNSLimit: "0", PtraceScope: "3"},
	} {
		var table, text strings.Builder
		if err := WriteTable(&table, d.Findings()); err != nil {
			t.Fatal(err)
		}
		if err := d.WriteJSON(&text); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", table.String())
		golden(t, name+".json", text.String())
		for _, finding := range d.Findings() {
			if finding.Detail == "" || finding.Have != (finding.Consequence == "") {
				t.Errorf("%s: %+v", name, finding)
			}
		}
		if lacks := len(Lacks(d.Findings())); (lacks > 0) != (name != "everything") {
			t.Errorf("%s lacks %d required things", name, lacks)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is now\n%s", name, got)
	}
}

// TestDescribeThisHost shows that the real description renders.
func TestDescribeThisHost(t *testing.T) {
	d := Describe()
	var text strings.Builder
	if err := d.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Host struct {
			Release    string   `json:"release"`
			ABI        int      `json:"landlock_abi"`
			Namespaces []string `json:"namespaces"`
		}
		Findings []Finding
	}
	if err := json.Unmarshal([]byte(text.String()), &back); err != nil {
		t.Fatal(err)
	}
	if back.Host.Release != d.Release || back.Host.ABI != int(d.Landlock) || len(back.Host.Namespaces) == 0 || len(back.Findings) == 0 {
		t.Errorf("%+v", back)
	}
	var table strings.Builder
	if err := WriteTable(&table, d.Findings()); err != nil {
		t.Error(err)
	}
	if !d.Listener.AddFDSend || !d.Listener.SyncWakeUp && d.AtLeast(6, 7) {
		t.Errorf("of a listener it is said %+v", d.Listener)
	}
	t.Logf("this host:\n%s", &table)
}

func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		Probe()
	}
}
