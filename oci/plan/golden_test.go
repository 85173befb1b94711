package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/host"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/resolve"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fullHost has everything that a plan looks at: root with all capabilities, Landlock ABI 7, cgroups v1.
var fullHost = host.Host{
	Release: "6.18.0", Capabilities: ^host.Capabilities(0), UserNS: true, InitialUserNS: true, Landlock: 7,
	Seccomp: host.Seccomp{Notify: true, WaitKillable: true},
}

// legacyCgroups is where a host with cgroups v1 has put the container.
var legacyCgroups = chroot.Cgroups{Version: 1, Hierarchies: []chroot.Hierarchy{
	{Names: []string{"memory"}, MountPoint: "/sys/fs/cgroup/memory", Path: "/sys/fs/cgroup/memory/docker/c0ffee"},
	{Names: []string{"pids"}, MountPoint: "/sys/fs/cgroup/pids", Path: "/sys/fs/cgroup/pids/docker/c0ffee"},
}}

// readSpec is a config.json of testdata: docker.json as dockerd 20.10 writes it for `docker run busybox sleep 100`, runc.json as `runc spec`
// writes it.
func readSpec(t testing.TB, name string) *specs.Spec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(text, spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// request is what a plan of a spec of testdata is made of, under a policy given by annotations "section.key".
func request(t testing.TB, file string, annotations map[string]string, change func(*specs.Spec)) Request {
	t.Helper()
	spec := readSpec(t, file)
	if change != nil {
		change(spec)
	}
	return Request{
		ID: "c0ffee", Bundle: &bundle.Bundle{Path: "/bundle", Spec: spec, RootFS: spec.Root.Path}, Policy: asked(t, annotations),
		Host: fullHost, Cgroups: legacyCgroups, Home: "/root", KernelCore: true,
	}
}

// asked is the policy of these annotations alone: no operator, no profile.
func asked(t testing.TB, annotations map[string]string) policy.Policy {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.toml")
	// Loosening a protection is a grant; the tests need it.
	if err := os.WriteFile(config, []byte("[annotations]\ngrant = [\"protection.fs_refer\", \"syscalls.allow\", \"policy.socket\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := make(map[string]string, len(annotations))
	for key, value := range annotations {
		full["io.sandlock."+key] = value
	}
	p, err := policy.Load(policy.Options{ConfigPath: config, Annotations: full})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func withNamespaces(list ...specs.LinuxNamespace) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Namespaces = list }
}

func without(drop specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		var list []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != drop {
				list = append(list, ns)
			}
		}
		s.Linux.Namespaces = list
	}
}

func withCapability(name string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		c := s.Process.Capabilities
		c.Bounding, c.Effective, c.Permitted = append(c.Bounding, name), append(c.Effective, name), append(c.Permitted, name)
	}
}

func withUserNamespace(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
}

func withTimeNamespace(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 7}, "boottime": {Secs: -3, Nanosecs: 5}}
}

// goldenRequests are one plan for each thing that a plan decides by.
func goldenRequests(t *testing.T) map[string]Request {
	joined := withNamespaces(
		specs.LinuxNamespace{Type: specs.MountNamespace},
		specs.LinuxNamespace{Type: specs.PIDNamespace, Path: "/proc/41/ns/pid"},
		specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/var/run/netns/pod"},
		specs.LinuxNamespace{Type: specs.IPCNamespace, Path: "/proc/41/ns/ipc"},
		specs.LinuxNamespace{Type: specs.UTSNamespace, Path: "/proc/41/ns/uts"},
		specs.LinuxNamespace{Type: specs.CgroupNamespace},
	)
	joinedUser := func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/41/ns/user"})
	}
	terminal := func(s *specs.Spec) {
		s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 24, Width: 80}
		s.Process.User.UID, s.Process.Cwd = 1000, "/srv/app"
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}, {Type: "RLIMIT_CORE"}}
	}
	limits := map[string]string{
		"limits.memory": "512M", "limits.processes": "64", "limits.cpu": "150", "limits.cpu_cores": "0-1", "limits.open_files": "256",
	}
	older := request(t, "docker.json", nil, nil)
	older.Host.Landlock = 2
	unheld := request(t, "docker.json", map[string]string{"network.allow": "tcp://*:443", "network.allow_bind": "80"}, nil)
	unheld.Host.Landlock, unheld.Policy.Protections = 3, map[string]policy.Level{"net_tcp": policy.Degrade}
	named := request(t, "docker.json", map[string]string{"network.allow": "api.example.com:443;tcp://db:5432;udp://10.0.0.2:53"}, nil)
	named.Names = map[string]resolve.Answer{
		"api.example.com": {Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}},
		"db":              {Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5")}},
	}
	named.Hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n172.17.0.2\tc0ffee\n"
	rootless := request(t, "runc.json", nil, withUserNamespace)
	rootless.Host.EUID, rootless.Host.Capabilities = 1000, 0
	return map[string]Request{
		"docker":            request(t, "docker.json", nil, nil),
		"runc":              request(t, "runc.json", nil, nil),
		"terminal":          request(t, "docker.json", nil, terminal),
		"filesystem":        request(t, "docker.json", map[string]string{"filesystem.read": "/usr;/bin;/lib", "filesystem.write": "/tmp;/var/cache", "filesystem.deny": "/etc/shadow;/usr/local"}, nil),
		"filesystem-deny":   request(t, "docker.json", map[string]string{"filesystem.deny": "/etc/shadow"}, nil),
		"network-addresses": request(t, "docker.json", map[string]string{"network.allow": "10.0.0.0/8:443;tcp://[2001:db8::1]:80", "network.deny": "10.1.2.3"}, nil),
		"network-names":     named,
		"network-ports":     request(t, "docker.json", map[string]string{"network.allow": "tcp://*:443;tcp://*:80"}, nil),
		"bind":              request(t, "docker.json", map[string]string{"network.allow_bind": "80,8000-8010;443", "network.deny_bind": "8005"}, nil),
		"bind-chosen":       request(t, "docker.json", map[string]string{"network.deny_bind": "22"}, withCapability("CAP_SYS_ADMIN")),
		"bind-network":      request(t, "docker.json", map[string]string{"network.deny_bind": "*", "network.allow": "tcp://*:443"}, nil),
		"network-unheld":    unheld,
		"port-remap":        request(t, "docker.json", map[string]string{"network.port_remap": "true", "network.allow": "tcp://*:443"}, nil),
		"network-none":      request(t, "docker.json", map[string]string{"network.deny": "*"}, nil),
		"agent":             request(t, "docker.json", map[string]string{"policy.socket": "/run/agent.sock", "network.allow": "tcp://*:443"}, nil),
		"limits":            request(t, "docker.json", limits, nil),
		"syscalls":          request(t, "docker.json", map[string]string{"syscalls.deny": "@ptrace;chroot", "syscalls.allow": "ptrace"}, nil),
		"protection":        request(t, "docker.json", map[string]string{"protection.fs_refer": "off"}, nil),
		"older-landlock":    older,
		"user-namespace":    request(t, "docker.json", nil, withUserNamespace),
		"user-joined":       request(t, "docker.json", nil, joinedUser),
		"rootless":          rootless,
		"joined":            request(t, "docker.json", nil, joined),
		"time-namespace":    request(t, "docker.json", nil, withTimeNamespace),
		"no-pid-namespace":  request(t, "docker.json", nil, without(specs.PIDNamespace)),
		"host-network":      request(t, "docker.json", nil, without(specs.NetworkNamespace)),
		"sys-admin":         request(t, "docker.json", nil, withCapability("CAP_SYS_ADMIN")),
		"sys-admin-asked":   request(t, "docker.json", map[string]string{"filesystem.deny": "/etc/shadow"}, withCapability("CAP_SYS_ADMIN")),
		"no-new-privileges": request(t, "docker.json", nil, func(s *specs.Spec) { s.Process.NoNewPrivileges = true }),
	}
}

// newPlan is what create makes of a request: the policy's limits first, then the plan.
func newPlan(t testing.TB, r Request) *Plan {
	t.Helper()
	spec, err := Tighten(r.Bundle.Spec, r.Policy.Limits)
	if err != nil {
		t.Fatal(err)
	}
	tightened := *r.Bundle
	tightened.Spec = spec
	r.Bundle = &tightened
	p, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
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
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := 0; i < len(gotLines) && i < len(wantLines); i++ {
		if gotLines[i] != wantLines[i] {
			t.Errorf("%s, line %d:\n got %s\nwant %s\n(go test -update writes it anew)", file, i+1, gotLines[i], wantLines[i])
			return
		}
	}
	t.Errorf("%s: %d lines, want %d (go test -update writes it anew)", file, len(gotLines), len(wantLines))
}

func indented(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// TestGoldenPlans keeps what has been decided. The spec's own filter is left out: it is copied, and long.
func TestGoldenPlans(t *testing.T) {
	for name, r := range goldenRequests(t) {
		t.Run(name, func(t *testing.T) {
			p := newPlan(t, r)
			if p.Seccomp != nil {
				p.Seccomp = &specs.LinuxSeccomp{DefaultAction: p.Seccomp.DefaultAction}
			}
			golden(t, name+".plan.json", string(indented(t, p)))
		})
	}
}

// exec and inspect read a plan back: it must be the same plan then.
func TestPlansSurviveJSON(t *testing.T) {
	for name, r := range goldenRequests(t) {
		t.Run(name, func(t *testing.T) {
			p := newPlan(t, r)
			text := indented(t, p)
			again := new(Plan)
			if err := json.Unmarshal(text, again); err != nil {
				t.Fatal(err)
			}
			if back := indented(t, again); !bytes.Equal(text, back) {
				t.Errorf("a plan differs when it is read back:\n%s\nbefore\n%s", back, text)
			}
			held := placeholders(again)
			if was, is := p.Exec(held, p.Process, true).Program.String(), again.Exec(held, again.Process, true).Program.String(); was != is {
				t.Errorf("a plan that is read back makes another program for exec:\n%s\nbefore\n%s", is, was)
			}
			if p.Supervised() != again.Supervised() || p.HasOverlay() != again.HasOverlay() || p.Common(p.Process) != again.Common(p.Process) {
				t.Error("a plan that is read back is enforced otherwise")
			}
		})
	}
}

// Without a filter flag that keeps signals from ending a guest's wait, calls could be made twice on its behalf.
func TestSupervisionNeedsTheKernels(t *testing.T) {
	r := goldenRequests(t)["network-addresses"]
	r.Host.Seccomp.WaitKillable = false
	const want = "io.sandlock.network.allow: needs the supervisor, and with it SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19), which this kernel lacks"
	if _, err := New(r); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	unsupervised := goldenRequests(t)["docker"]
	unsupervised.Host.Seccomp.WaitKillable = false
	if _, err := New(unsupervised); err != nil {
		t.Errorf("a container without a supervisor: %v", err)
	}
}

// New is a function of its request alone.
func TestPlansAreRepeatable(t *testing.T) {
	for name, r := range goldenRequests(t) {
		before := indented(t, r.Bundle.Spec)
		first, second := indented(t, newPlan(t, r)), indented(t, newPlan(t, r))
		if !bytes.Equal(first, second) {
			t.Errorf("%s: two plans of one request differ", name)
		}
		if !bytes.Equal(before, indented(t, r.Bundle.Spec)) {
			t.Errorf("%s: planning has changed the spec", name)
		}
	}
}

// placeholders are descriptors by number, where a monitor has real ones.
func placeholders(p *Plan) Held {
	h := Held{
		Cgroup:     []launch.FD{launch.Inherited(50, "tasks"), launch.Inherited(51, "tasks")},
		Container:  launch.Inherited(52, "container"),
		Namespaces: make(map[string]launch.FD),
		SessionKey: "_ses.c0ffee",
	}
	for i, ns := range p.Namespaces {
		if ns.Path != "" {
			h.Namespaces[ns.Type] = launch.Inherited(60+i, ns.Type+" namespace")
		}
	}
	if p.Landlock != nil {
		ruleset := launch.Inherited(53, "ruleset")
		h.Ruleset = &ruleset
	}
	if p.HasOverlay() {
		h.Overlay = make([]unix.SockFilter, 4)
	}
	if p.Seccomp != nil {
		h.Spec = make([]unix.SockFilter, 2)
	}
	return h
}

func TestGoldenExecPrograms(t *testing.T) {
	for name, r := range goldenRequests(t) {
		t.Run(name, func(t *testing.T) {
			p := newPlan(t, r)
			golden(t, name+".exec.program", p.Exec(placeholders(p), p.Process, !p.Namespaces.Has(specs.UserNamespace)).Program.String())
		})
	}
}

// inherited is a descriptor in a printed program; its number is this process's business.
var inherited = regexp.MustCompile(`\b(root|source|empty|null|directory|file|denied|device|mount)=\d+`)

// TestGoldenInitPrograms keeps the launch programs of first processes, with a mount map of next to nothing: the real ones are the
// business of package chroot. It needs the privilege to clone a mount.
func TestGoldenInitPrograms(t *testing.T) {
	root := t.TempDir()
	for name, r := range goldenRequests(t) {
		t.Run(name, func(t *testing.T) {
			p := newPlan(t, r)
			var err error
			p.Root, err = chroot.NewMap(chroot.MapRequest{Spec: &specs.Spec{Root: &specs.Root{Path: root}, Linux: &specs.Linux{}}, RootFS: root, Bundle: "/bundle"})
			if err != nil {
				t.Fatal(err)
			}
			sources, err := chroot.Open(p.Root)
			if err != nil {
				t.Fatalf("these tests need root: %v", err)
			}
			defer sources.Close()
			held := placeholders(p)
			held.Sources, held.Null = sources, []int{0}
			l := p.Init(held)
			text := inherited.ReplaceAllString(strings.ReplaceAll(l.Program.String(), root, "/rootfs"), "$1=#")
			golden(t, name+".init.program", text)
			if (l.Born != 0) != (p.Namespaces.New(specs.UserNamespace)) || l.Mounted == 0 || l.Parked == 0 {
				t.Errorf("sync points %d, %d, %d", l.Born, l.Mounted, l.Parked)
			}
		})
	}
}
