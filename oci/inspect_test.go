package oci

import (
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/state"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samplePlan has something of everything that a plan can have.
func samplePlan(t *testing.T) *plan.Plan {
	t.Helper()
	rules, err := netfilter.ParseRules([]string{"10.0.0.0/8:443", "udp://*:53", "api.example.com:443"})
	if err != nil {
		t.Fatal(err)
	}
	fewer, err := netfilter.ParseRules([]string{"10.1.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	deny, err := netfilter.ParseRules([]string{"10.9.9.9"})
	if err != nil {
		t.Fatal(err)
	}
	limit, pids, quota, period, shares := int64(64<<20), int64(100), int64(50000), uint64(100000), uint64(512)
	network := netfilter.NewPolicy(rules, nil).Tighten(netfilter.NewPolicy(fewer, deny))
	network = network.Pin(netfilter.Names{"api.example.com": {netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("2001:db8::1")}})
	return &plan.Plan{
		ID: "web", Bundle: "/bundles/web",
		Namespaces:  plan.Namespaces{{Type: "pid"}, {Type: "mount"}, {Type: "network", Path: "/var/run/netns/web"}, {Type: "user"}},
		UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}},
		GIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 4294967295}},
		Hostname:    "web",
		Sysctl:      map[string]string{"net/ipv4/ip_forward": "1", "kernel/msgmax": "65536"},
		Process: plan.Process{
			Args: []string{"/bin/serve", "--port", "80\x1b[31m"}, Cwd: "/srv", UID: 1000, GID: 1000, Groups: []uint32{10, 20}, NoNewPrivileges: true,
			Capabilities: plan.Capabilities{Effective: 1 << unix.CAP_NET_BIND_SERVICE, Bounding: 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_KILL},
			Rlimits:      []plan.Rlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}},
		},
		Root: chroot.Map{
			Root: chroot.Root{Source: "/bundles/web/rootfs", ReadOnly: true},
			Entries: []chroot.Entry{
				{Destination: "/proc", Kind: chroot.Filesystem, Type: "proc", Source: "proc"},
				{Destination: "/tmp", Kind: chroot.Temporary, Type: "tmpfs", Source: "tmpfs", Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Data: []string{"size=1m"}},
				{Destination: "/data", Kind: chroot.Bind, Source: "/srv/data", RecursiveSet: unix.MOUNT_ATTR_RDONLY},
				{Origin: "network.allow", Destination: "/etc/hosts", Kind: chroot.Written, Content: "127.0.0.1\tlocalhost\n", Set: unix.MOUNT_ATTR_RDONLY},
			},
			Masked: []string{"/proc/kcore"}, ReadOnly: []string{"/proc/sys"}, Denied: []string{"/secret"},
		},
		Landlock: &landlock.Ruleset{
			ABI:     4,
			Handled: landlock.Handled{FS: landlock.Write, Net: landlock.ConnectTCP | landlock.BindTCP},
			Paths: []landlock.PathRule{
				{Path: "/", Access: landlock.Read, Source: "filesystem.read"}, {Path: "/tmp", Access: landlock.Write, Source: "filesystem.write"},
			},
			ConnectTCP: landlock.Ports{53, 443},
			BindTCP:    landlock.Ports{80, 8000, 8001, 8002},
			Omitted:    []landlock.Omission{{Protection: landlock.SignalScope, Mode: landlock.Degrade, Need: 6, Have: 4, Result: "signals reach processes outside"}},
		},
		Network: network,
		Bind:    netfilter.NewBindPolicy(netfilter.Ports{{First: 80, Last: 80}, {First: 8000, Last: 8010}}, nil),
		Overlay: seccompnotif.Overlay{
			Notify:     []string{"sendmsg"},
			NotifyWhen: []seccompnotif.Notification{{Syscall: "connect", When: []seccompnotif.Match{{Arg: 2, Op: seccompnotif.NotEqual}}}},
			Deny: []seccompnotif.Denial{
				{Syscall: "socket", Errno: unix.EACCES, When: []seccompnotif.Match{{Arg: 0, Op: seccompnotif.Equal, Value: 2}, {Arg: 1, Op: seccompnotif.Equal, Value: 3}}},
				{Syscall: "mount", Errno: unix.EPERM, Group: "mount"}, {Syscall: "umount2", Errno: unix.EPERM, Group: "mount"},
				{Syscall: "io_uring_setup", Errno: unix.ENOSYS, Group: "io_uring"},
			},
		},
		Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: make([]specs.LinuxSyscall, 3)},
		Policy:  policy.Policy{Profiles: []string{"web"}},
		Resources: &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids},
			CPU: &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares, Cpus: "0-1"},
		},
		Enforcement: []plan.Enforcement{
			{Rule: "filesystem.read /", By: "Landlock"}, {Rule: "network allow 10.0.0.0/8:443", By: "supervisor", Why: "addresses are judged"},
		},
	}
}

func sampleInspection(t *testing.T) Inspection {
	return Inspection{
		State: state.View{
			ID: "web", PID: 4711, Status: specs.StateRunning, Bundle: "/bundles/web", Rootfs: "/bundles/web/rootfs",
			Created: time.Date(2024, 5, 6, 7, 8, 9, 10, time.UTC), Owner: "root",
		},
		Monitor: MonitorView{PID: 4710, Running: true},
		Plan:    samplePlan(t),
	}
}

func TestInspectionForPeople(t *testing.T) {
	bare := sampleInspection(t)
	bare.Plan = &plan.Plan{Process: plan.Process{Args: []string{"true"}, Cwd: "/"}}
	bare.State.Status, bare.State.PID, bare.Monitor.Running = specs.StateStopped, 0, false
	bare.Exit = &state.Exit{Code: 137, Signal: 9, Time: bare.State.Created, Reason: "the kernel has killed processes of the container for want of memory"}
	orphan := sampleInspection(t)
	orphan.Plan, orphan.Monitor.Running = nil, false
	orphan.Exit = &state.Exit{Time: bare.State.Created, Reason: "the exit status is known to the parent only"}
	fallen := sampleInspection(t)
	fallen.State.Status, fallen.State.PID, fallen.Monitor.Running = specs.StateStopped, 0, false
	for name, inspection := range map[string]Inspection{"inspect": sampleInspection(t), "inspect-bare": bare, "inspect-orphan": orphan, "inspect-fallen": fallen} {
		var out strings.Builder
		if err := inspection.WriteText(&out); err != nil {
			t.Fatal(err)
		}
		file := "testdata/" + name + ".txt"
		if *update {
			if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, &out, want)
		}
		if strings.ContainsRune(out.String(), '\x1b') {
			t.Errorf("%s: an escape sequence of the spec reaches the terminal", name)
		}
	}
}

// What inspect and exec read must be what create has written.
func TestPlansAreReadBack(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "web", nil)
	made := samplePlan(t)
	f.keep(t, made)
	got, err := r.Inspect("web")
	if err != nil {
		t.Fatal(err)
	}
	if text(t, got.Plan) != text(t, made) {
		t.Errorf("read back\n%s\nwritten\n%s", text(t, got.Plan), text(t, made))
	}
	if !reflect.DeepEqual(got.Seccomp, made.Seccomp) || !reflect.DeepEqual(got.Plan.Seccomp, made.Seccomp) {
		t.Errorf("the filter was read back as %+v", got.Seccomp)
	}
	if got.State.PID != f.record.Init.PID || got.Monitor.Running || got.State.Owner == "" {
		t.Errorf("%+v", got)
	}
}

func TestInspectWithoutDocuments(t *testing.T) {
	r := newTestRuntime(t)
	newFake(t, r, "c", nil)
	got, err := r.Inspect("c")
	if err != nil || got.Plan != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// A quota is in force without a period of its own.
func TestInspectTextOfAQuotaAlone(t *testing.T) {
	quota := int64(20000)
	var s sections
	s.limits(&plan.Plan{Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota}}})
	if text := s.text.String(); !strings.Contains(text, "20000 µs in 100000 µs") {
		t.Errorf("%q", text)
	}
}
