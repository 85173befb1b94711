package integration

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

func TestNamespaces(t *testing.T) {
	add := func(kind specs.LinuxNamespaceType) func(*testing.T, *bundle) {
		return func(_ *testing.T, b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	probeAll(t, []probe{
		{name: "all but the user's are new", script: "readlink /proc/self/ns/user; for n in mnt net uts ipc pid; do readlink /proc/self/ns/$n; done | sort -u | wc -l",
			want: hostNamespace(t, "user") + "\n5\n"},
		{name: "pid", script: "echo $$; tr '\\0' ' ' < /proc/1/cmdline | cut -d' ' -f1", want: "1\n/bin/sh\n"},
		{name: "network: loopback only, up", script: "ls /sys/class/net | tr '\\n' ' '; ip -o addr show lo | grep -c 127.0.0.1", want: "lo 1\n"},
		{name: "hostname", change: func(_ *testing.T, b *bundle) { b.spec.Hostname = "named" }, script: "hostname", want: "named\n"},
		{name: "domainname", own: true, change: func(_ *testing.T, b *bundle) { b.spec.Domainname = "example.org" },
			script: "cat /proc/sys/kernel/domainname", want: "example.org\n"},
		{name: "sysctl", change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Sysctl["net.ipv4.ip_forward"] = "1"
			b.spec.Linux.Sysctl["kernel.msgmax"] = "8000"
		}, script: "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start", want: "1\n8000\n0\n"},
		{name: "cgroup", change: add(specs.CgroupNamespace), script: "cut -d: -f3 /proc/self/cgroup | sort -u", want: "/\n"},
		{name: "host network", change: func(_ *testing.T, b *bundle) {
			testbundle.RemoveNamespace(b.spec, specs.NetworkNamespace)
			b.spec.Linux.Sysctl = nil
		}, script: "readlink /proc/self/ns/net", want: hostNamespace(t, "net") + "\n"},
		{name: "host uts", change: func(_ *testing.T, b *bundle) {
			testbundle.RemoveNamespace(b.spec, specs.UTSNamespace)
			b.spec.Hostname = ""
		}, script: "hostname", want: hostname + "\n"},
		{name: "host pid", change: func(_ *testing.T, b *bundle) {
			testbundle.RemoveNamespace(b.spec, specs.PIDNamespace)
		}, script: "readlink /proc/self/ns/pid; test $$ -ne 1 && echo not the first", want: hostNamespace(t, "pid") + "\nnot the first\n"},
		{name: "user namespace with mappings", change: userNamespace, script: "id -u; cat /proc/self/uid_map | tr -s ' '; touch /tmp/x && stat -c %u /tmp/x; stat -c %u /etc/passwd; grep CapEff /proc/self/status",
			want: "0\n 0 100000 65536\n0\n0\nCapEff:\t00000000a80425fb\n"},
		{name: "user namespace: another user", change: func(t *testing.T, b *bundle) {
			userNamespace(t, b)
			b.spec.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{2000}}
		}, script: "id -u; id -G; touch /home/user/x && stat -c %u /home/user/x", want: "1000\n1000 2000\n1000\n"},
		{name: "time namespace offsets", own: true, change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 5000000}, "monotonic": {Secs: 1000}}
		}, script: "test $(cut -d. -f1 /proc/uptime) -ge 5000000 && echo moved; tr -s ' ' < /proc/self/timens_offsets", want: "moved\nmonotonic 1000 0\nboottime 5000000 0\n"},
	})
}

func hostNamespace(t *testing.T, kind string) string {
	t.Helper()
	name, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// userNamespace maps the container's ids to 100000 and above, and gives the root's files to them.
func userNamespace(t *testing.T, b *bundle) {
	t.Helper()
	const first, size = 100000, 65536
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: size}}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = mapping, mapping
	b.spec.Linux.Sysctl["net.ipv4.ping_group_range"] = "0 65535" // only mapped groups can be named
	shiftOwners(t, b.root, first)
}

func TestJoinsNamespacesByPath(t *testing.T) {
	r := newRuntime(t)
	owner := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	for kind, file := range map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid",
	} {
		t.Run(file, func(t *testing.T) {
			path := fmt.Sprintf("/proc/%d/ns/%s", owner.pid, file)
			want, err := os.Readlink(path)
			if err != nil {
				t.Fatal(err)
			}
			b := script(t, "readlink /proc/self/ns/"+file)
			b.spec.Linux.Sysctl = nil // those of another container's network namespace are not ours to set
			if kind == specs.UTSNamespace {
				b.spec.Hostname = ""
			}
			testbundle.SetNamespacePath(b.spec, kind, path)
			if res := r.runBundle(t, b); res.code != 0 || res.stdout != want+"\n" {
				t.Errorf("want %s, got %v", want, res)
			}
		})
	}
}

// A mount namespace that is joined shows the container's own root to the container, and takes part in what else is mounted there.
func TestJoinsAMountNamespace(t *testing.T) {
	holder := exec.Command("/bin/sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	path := fmt.Sprintf("/proc/%d/ns/mnt", holder.Process.Pid)
	want, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t)
	b := script(t, "readlink /proc/self/ns/mnt; ls -d /proc/self /bin/busybox /usr/sbin/runc; exec sleep 1000")
	testbundle.SetNamespacePath(b.spec, specs.MountNamespace, path)
	c := r.start(t, b)
	if got := c.line(t); got != want {
		t.Errorf("namespace %s, want %s", got, want)
	}
	res := c.shell(t, "readlink /proc/self/ns/mnt; test -e /bin/busybox && test ! -e "+b.root+" && echo inside")
	if res.code != 0 || res.stdout != want+"\ninside\n" {
		t.Errorf("exec: %v", res)
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", holder.Process.Pid))
	if err != nil || !strings.Contains(string(table), b.root+"/proc ") {
		t.Errorf("the container's /proc is not in the joined namespace (%v)", err)
	}
}

// A new user namespace has no rights over namespaces that exist already, nor has one that is joined over those that are not its own. Both can be combined with
// any of them all the same.
func TestUserNamespaceTogetherWithJoinedOnes(t *testing.T) {
	if !ours {
		t.Log("of sandlock-runtime alone, left out: Debian's runc joins no user namespace without mappings")
		return
	}
	r := newRuntime(t)
	plain := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	mapped := newBundle(t, "/bin/sleep", "1000")
	userNamespace(t, mapped)
	owner := r.start(t, mapped)

	for name, change := range map[string]func(b *bundle){
		"new": func(b *bundle) { userNamespace(t, b) },
		"joined": func(b *bundle) {
			testbundle.SetNamespacePath(b.spec, specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", owner.pid))
			shiftOwners(t, b.root, 100000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := script(t, "for n in net ipc uts; do readlink /proc/self/ns/$n; done; tr -s ' ' < /proc/self/uid_map; id -u; touch /tmp/x && stat -c %u /tmp/x")
			change(b)
			b.spec.Linux.Sysctl, b.spec.Hostname = nil, ""
			want := ""
			for kind, file := range map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts"} {
				testbundle.SetNamespacePath(b.spec, kind, fmt.Sprintf("/proc/%d/ns/%s", plain.pid, file))
			}
			for _, file := range []string{"net", "ipc", "uts"} {
				link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", plain.pid, file))
				if err != nil {
					t.Fatal(err)
				}
				want += link + "\n"
			}
			// Only who owns a network or IPC namespace may mount what shows it.
			b.spec.Mounts = slices.DeleteFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Type == "sysfs" || m.Type == "mqueue" || m.Type == "cgroup" })
			if res := r.runBundle(t, b); res.code != 0 || res.stdout != want+" 0 100000 65536\n0\n0\n" {
				t.Errorf("want %q, got %v", want, res)
			}
			assertNothingLeft(t, r, b)
		})
	}
	b := newBundle(t, "/bin/true")
	userNamespace(t, b)
	testbundle.SetNamespacePath(b.spec, specs.MountNamespace, fmt.Sprintf("/proc/%d/ns/mnt", plain.pid))
	r.runBundle(t, b).refused(t, "linux.namespaces", "mount namespace", "user namespace")
	assertNothingLeft(t, r, b)
}

func TestJoinsAPreparedNetwork(t *testing.T) {
	network, server := serverInNamespace(t, "tcp", "10.91.0.1:0", "10.91.0.1/32")
	r := newRuntime(t)
	b := script(t, "guest network connect tcp "+server.Addr.String())
	testbundle.SetNamespacePath(b.spec, specs.NetworkNamespace, network.Path())
	if res := r.runBundle(t, b); res.code != 0 || res.stdout != testnet.Banner+"\n" {
		t.Error(res)
	}
	if len(server.Peers()) != 1 {
		t.Errorf("the server saw %v", server.Peers())
	}
}

// serverInNamespace makes a network namespace with addresses on its loopback and one server.
func serverInNamespace(t *testing.T, protocol, listen string, addresses ...string) (*testnet.Namespace, *testnet.Server) {
	t.Helper()
	network := newNetwork(t, addresses...)
	return network, listenIn(t, network, protocol, listen)
}

func newNetwork(t *testing.T, addresses ...string) *testnet.Namespace {
	t.Helper()
	network, err := testnet.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	for _, a := range addresses {
		if err := network.AddAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	return network
}

func listenIn(t *testing.T, network *testnet.Namespace, protocol, listen string) *testnet.Server {
	t.Helper()
	server, err := network.Listen(protocol, listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}
