package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// Two servers at two addresses: one that rules allow, one that they do not.
const (
	allowedHost = "10.91.0.1"
	deniedHost  = "10.92.0.1"
	allowedV6   = "fd91::1"
	deniedV6    = "fd92::1"
)

// egress is a network namespace with an allowed and a denied server for each protocol and family.
type egress struct {
	network *testnet.Namespace
	servers map[string]*testnet.Server // by "tcp allowed", "udp6 denied" and so on
}

func newEgress(t *testing.T) *egress {
	t.Helper()
	e := &egress{network: newNetwork(t, allowedHost+"/32", deniedHost+"/32", allowedV6+"/128", deniedV6+"/128"), servers: map[string]*testnet.Server{}}
	for _, protocol := range []string{"tcp", "udp"} {
		for verdict, hosts := range map[string][2]string{"allowed": {allowedHost, allowedV6}, "denied": {deniedHost, deniedV6}} {
			e.servers[protocol+" "+verdict] = listenIn(t, e.network, protocol, hosts[0]+":7000")
			e.servers[protocol+"6 "+verdict] = listenIn(t, e.network, protocol, "["+hosts[1]+"]:7000")
		}
	}
	return e
}

// join makes a bundle that runs a script inside the network.
func (e *egress) join(t *testing.T, text string, annotations ...string) *bundle {
	t.Helper()
	b := script(t, text)
	testbundle.SetNamespacePath(b.spec, specs.NetworkNamespace, e.network.Path())
	b.annotate(annotations...)
	return b
}

func TestPolicyEgressOfEveryCall(t *testing.T) {
	calls := []struct{ how, protocol string }{
		{"connect", "tcp"}, {"connect-nonblock", "tcp"}, {"fastopen", "tcp"},
		{"connect", "udp"}, {"sendto", "udp"}, {"sendmsg", "udp"}, {"sendmmsg", "udp"},
	}
	families := []struct{ name, suffix, allowed, denied string }{
		{"IPv4", "", allowedHost + ":7000", deniedHost + ":7000"},
		{"IPv6", "6", "[" + allowedV6 + "]:7000", "[" + deniedV6 + "]:7000"},
		{"mapped", "", "[::ffff:" + allowedHost + "]:7000", "[::ffff:" + deniedHost + "]:7000"},
	}
	rules := fmt.Sprintf("tcp://%[1]s:7000;udp://%[1]s:7000;tcp://[%[2]s]:7000;udp://[%[2]s]:7000", allowedHost, allowedV6)
	for _, call := range calls {
		for _, family := range families {
			t.Run(call.how+" "+call.protocol+" "+family.name, func(t *testing.T) {
				e, r := newEgress(t), newRuntime(t)
				guest := "guest network " + call.how + " " + call.protocol + " "
				res := r.runBundle(t, e.join(t, guest+family.denied+"; "+guest+family.allowed, "io.sandlock.network.allow", rules))
				lines := strings.Split(strings.TrimSpace(res.stdout), "\n")
				if len(lines) != 2 || !refusal(lines[0]) || lines[1] != testnet.Banner {
					t.Errorf("want a refusal, then the banner: %v", res)
				}
				protocol := call.protocol + family.suffix
				if peers := e.servers[protocol+" denied"].Peers(); len(peers) != 0 {
					t.Errorf("the denied server was reached: %v", peers)
				}
				if peers := e.servers[protocol+" allowed"].Peers(); len(peers) == 0 {
					t.Error("the allowed server was not reached")
				}
			})
		}
	}
}

// refusal tells whether errno is one that a denied call may get.
func refusal(errno string) bool {
	return errno == "EACCES" || errno == "EPERM" || errno == "ECONNREFUSED"
}

func TestPolicyEgressRules(t *testing.T) {
	reach := func(address string) string { return "guest network connect tcp " + address }
	for _, c := range []struct {
		name        string
		annotations []string
		allowed     []string
		denied      []string
	}{
		{"by address and port", []string{"io.sandlock.network.allow", allowedHost + ":7000"}, []string{allowedHost + ":7000"}, []string{deniedHost + ":7000"}},
		{"by network", []string{"io.sandlock.network.allow", "10.91.0.0/16"}, []string{allowedHost + ":7000"}, []string{deniedHost + ":7000"}},
		{"deny alone", []string{"io.sandlock.network.deny", "10.92.0.0/16"}, []string{allowedHost + ":7000", "[" + allowedV6 + "]:7000"}, []string{deniedHost + ":7000", "[::ffff:" + deniedHost + "]:7000"}},
		{"deny wins", []string{"io.sandlock.network.allow", "*:7000", "io.sandlock.network.deny", deniedHost}, []string{allowedHost + ":7000"}, []string{deniedHost + ":7000"}},
		{"any address at one TCP port", []string{"io.sandlock.network.allow", "tcp://:7000"}, []string{allowedHost + ":7000", deniedHost + ":7000"}, []string{allowedHost + ":7001"}},
		{"no rule at all", nil, []string{allowedHost + ":7000", deniedHost + ":7000"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, r := newEgress(t), newRuntime(t)
			listenIn(t, e.network, "tcp", allowedHost+":7001")
			var text, want []string
			for _, address := range c.denied {
				text = append(text, reach(address)+" | grep -qE '^(EACCES|EPERM|ECONNREFUSED)$' && echo refused")
				want = append(want, "refused")
			}
			for _, address := range c.allowed {
				text = append(text, reach(address))
				want = append(want, testnet.Banner)
			}
			res := r.runBundle(t, e.join(t, strings.Join(text, "; "), c.annotations...))
			if res.stdout != strings.Join(want, "\n")+"\n" {
				t.Errorf("want %q, got %v", want, res)
			}
		})
	}
}

func TestPolicySockets(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	kinds := "for k in tcp unix udp ping raw mptcp; do echo $k $(guest socket $k); done"
	res := r.runBundle(t, e.join(t, kinds, "io.sandlock.network.allow", "tcp://"+allowedHost+":7000"))
	for _, line := range strings.Split(strings.TrimSpace(res.stdout), "\n") {
		kind, answer, _ := strings.Cut(line, " ")
		if open := kind == "tcp" || kind == "unix"; (answer == "opened") != open {
			t.Errorf("%s under a TCP rule: %s", kind, answer)
		}
	}
	res = r.runBundle(t, e.join(t, "guest socket udp; guest socket raw", "io.sandlock.network.allow", "udp://"+allowedHost))
	if lines := strings.Fields(res.stdout); len(lines) != 2 || lines[0] != "opened" || lines[1] == "opened" {
		t.Errorf("under a UDP rule: %v", res)
	}
}

// The exec'd process is under the container's policy too.
func TestPolicyHoldsForExec(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	c := r.start(t, e.join(t, "echo up; sleep 1000", "io.sandlock.network.allow", allowedHost+":7000", "io.sandlock.filesystem.deny", "/home"))
	c.line(t)
	for range 3 {
		res := c.shell(t, "guest network connect tcp "+deniedHost+":7000; guest network connect tcp "+allowedHost+":7000; ls /home/user 2>/dev/null || echo refused; cat /etc/hosts")
		lines := strings.SplitN(res.stdout, "\n", 3)
		if len(lines) != 3 || !refusal(lines[0]) || lines[1] != testnet.Banner || lines[2] != "refused\n127.0.0.1 localhost\n" {
			t.Errorf("%v", res)
		}
	}
	if peers := e.servers["tcp denied"].Peers(); len(peers) != 0 {
		t.Errorf("the denied server was reached: %v", peers)
	}
}

// A further process gets no capability that the first one is refused with.
func TestPolicyHoldsForCapabilitiesOfExec(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	b.annotate("io.sandlock.network.allow", "10.0.0.0/8:443")
	c := r.start(t, b)
	c.shell(t, "true", "--cap", "CAP_NET_ADMIN").refused(t, "io.sandlock.network.allow", "CAP_NET_ADMIN")
	if res := c.shell(t, "grep CapEff /proc/self/status", "--cap", "CAP_SYS_TIME"); res.code != 0 || res.stdout != "CapEff:\t00000000aa0425fb\n" {
		t.Errorf("another capability: %v", res)
	}
	free := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	if res := free.shell(t, "grep CapEff /proc/self/status", "--cap", "CAP_NET_ADMIN"); res.code != 0 || res.stdout != "CapEff:\t00000000a80435fb\n" {
		t.Errorf("without rules: %v", res)
	}
}

func TestPolicyDenialsAreLogged(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	path := filepath.Join(shortTempDir(t), "runtime.log")
	r.args = []string{"--log", path, "--log-format", "json"}
	res := r.runBundle(t, e.join(t, "guest network connect tcp "+deniedHost+":7000; guest network connect tcp "+allowedHost+":7000", "io.sandlock.network.allow", allowedHost+":7000"))
	if !strings.Contains(res.stdout, testnet.Banner) {
		t.Fatal(res)
	}
	log := readText(t, filepath.Dir(path), filepath.Base(path))
	if !strings.Contains(log, deniedHost) || !strings.Contains(log, "connect") {
		t.Errorf("the log does not tell of the denial: %s", log)
	}
	if strings.Contains(log, allowedHost+":7000") {
		t.Errorf("the log tells of what was allowed: %s", log)
	}
}

func TestPolicyFilesystem(t *testing.T) {
	policy := func(pairs ...string) func(*testing.T, *bundle) {
		return func(_ *testing.T, b *bundle) { b.annotate(pairs...) }
	}
	const try = `try() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }; `
	probeAll(t, []probe{
		{name: "nothing given: the whole root", change: policy("io.sandlock.filesystem.deny", "/home"),
			script: try + "try cat /etc/passwd; try touch /etc/new; try mv /etc/new /tmp/new; try ls /home/user", want: "yes\nyes\nyes\nno\n"},
		{name: "read", change: policy("io.sandlock.filesystem.read", "/bin;/etc"),
			script: try + "try cat /etc/passwd; try ls /bin; try touch /etc/new; try ls /home; try cat /var/www/index.html", want: "yes\nyes\nno\nno\nno\n"},
		{name: "write", change: policy("io.sandlock.filesystem.read", "/bin", "io.sandlock.filesystem.write", "/tmp;/home"),
			script: try + "try touch /tmp/a; try mv /tmp/a /home/a; try ln /home/a /tmp/b; try mkdir /tmp/d; try mv /tmp/b /tmp/d/b; try truncate -s 10 /home/a; try rm /home/a; try touch /etc/a; try cat /etc/passwd",
			want:   "yes\nyes\nyes\nyes\nyes\nyes\nyes\nno\nno\n"},
		{name: "deny beats both lists", change: policy("io.sandlock.filesystem.write", "/", "io.sandlock.filesystem.deny", "/etc/passwd;/var"),
			script: try + "try grep root /etc/passwd; try ls /var/www; try cat /var/www/index.html; try touch /var/x; try cat /etc/group; try touch /etc/x", want: "no\nno\nno\nno\nyes\nyes\n"},
		{name: "deny holds through links and renames", change: policy("io.sandlock.filesystem.deny", "/var/www"),
			script: try + "ln -s /var/www /tmp/link; try cat /tmp/link/index.html; try ln /var/www/index.html /tmp/hard; try mv /var/www /tmp/moved; try cat /tmp/moved/index.html; try cat /proc/self/root/var/www/index.html; try touch /tmp/ok",
			want:   "no\nno\nno\nno\nno\nyes\n"},
		{name: "the lists never take the devices away", change: policy("io.sandlock.filesystem.read", "/bin"),
			script: try + "try sh -c 'echo x > /dev/null'; try head -c 1 /dev/urandom; try touch /dev/shm/x; try ls /dev/pts; try cat /proc/self/status; try ls /etc", want: "yes\nyes\nyes\nyes\nyes\nno\n"},
		{name: "mounts are under the lists too", change: func(t *testing.T, b *bundle) {
			b.mount("/in", "bind", hostDir(t), "rbind")
			b.mount("/out", "bind", hostDir(t), "rbind")
			b.annotate("io.sandlock.filesystem.read", "/bin;/in")
		}, script: try + "try cat /in/file; try touch /in/x; try cat /out/file", want: "yes\nno\nno\n"},
		{name: "the default denials", change: policy("io.sandlock.network.allow", allowedHost+":7000"),
			script: try + "try unshare -U true; try mount -t tmpfs x /tmp; try true", want: "no\nno\nyes\n"},
	})
}

// inspect tells the policy in force.
func TestPolicyInspect(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	c := r.start(t, e.join(t, "echo up; sleep 1000", "io.sandlock.network.allow", allowedHost+":7000"))
	c.line(t)
	if out := r.must(t, "inspect", c.id); !strings.Contains(out, allowedHost) || !strings.Contains(out, "connect") {
		t.Errorf("inspect: %s", out)
	}
}
