package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

const (
	allowBindKey = "io.sandlock.network.allow_bind"
	denyBindKey  = "io.sandlock.network.deny_bind"
)

func TestPolicyBind(t *testing.T) {
	for _, c := range []struct {
		name        string
		annotations []string
		allowed     []string // arguments of guest listen
		refused     []string
		trapped     bool
	}{
		{"no rule", nil, []string{"127.0.0.1:22", "[::1]:8080", "127.0.0.1:0", "unbound"}, nil, false},
		{"allowed ports", []string{allowBindKey, "80,8000-8010"},
			[]string{"127.0.0.1:80", "0.0.0.0:8000", "[::]:8010", "[::ffff:127.0.0.1]:8005", "udp 127.0.0.1:53"},
			[]string{"127.0.0.1:81", "[::1]:7999", "[::ffff:127.0.0.1]:8011", "127.0.0.1:0", "[::1]:0", "unbound"}, true},
		{"two elements of a list", []string{allowBindKey, "80; 443"}, []string{"127.0.0.1:80", "127.0.0.1:443"}, []string{"127.0.0.1:81"}, true},
		{"all", []string{allowBindKey, "*"}, []string{"127.0.0.1:22", "127.0.0.1:0", "unbound"}, nil, false},
		{"a denied port", []string{denyBindKey, "22,8080-8081"}, []string{"127.0.0.1:23", "127.0.0.1:8082", "127.0.0.1:0", "unbound"}, []string{"127.0.0.1:22", "[::1]:8080"}, false},
		{"deny wins", []string{allowBindKey, "8000-8010", denyBindKey, "8005"}, []string{"127.0.0.1:8004"}, []string{"127.0.0.1:8005", "127.0.0.1:22"}, true},
		{"none", []string{denyBindKey, "*"}, []string{"udp 127.0.0.1:53"}, []string{"127.0.0.1:80", "127.0.0.1:0", "unbound"}, true},
		{"with the ports that the kernel chooses from", []string{allowBindKey, "80,32768-60999"}, []string{"127.0.0.1:80", "127.0.0.1:0", "unbound"}, []string{"127.0.0.1:81"}, false},
		{"beside egress rules", []string{allowBindKey, "80", allowKey, "127.0.0.1"}, []string{"127.0.0.1:80"}, []string{"127.0.0.1:81", "unbound", "udp 127.0.0.1:53"}[:2], true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRuntime(t)
			var text, want []string
			for _, at := range c.allowed {
				text = append(text, "guest listen "+at)
				want = append(want, map[bool]string{false: "listening", true: "bound"}[strings.HasPrefix(at, "udp")])
			}
			for _, at := range c.refused {
				text, want = append(text, "guest listen "+at), append(want, "EACCES")
			}
			b := script(t, strings.Join(text, "; ")+"; echo up; sleep 1000")
			b.annotate(c.annotations...)
			running := r.start(t, b)
			for i, w := range want {
				if got := running.line(t); got != w {
					t.Errorf("%s: %s, want %s", text[i], got, w)
				}
			}
			if got := running.line(t); got != "up" {
				t.Fatal(got)
			}
			// exec is under the same rules.
			if len(c.refused) > 0 {
				if res := running.shell(t, "guest listen "+c.refused[0]+"; guest listen "+c.allowed[0]); res.stdout != "EACCES\n"+want[0]+"\n" {
					t.Errorf("exec: %v", res)
				}
			}
			inspection := r.must(t, "inspect", running.id)
			if got := hasRow(inspection, "supervised", "listen"); got != c.trapped {
				t.Errorf("listen is trapped: %v, want %v: %s", got, c.trapped, inspection)
			}
			if len(c.refused) > 0 && !strings.Contains(inspection, "bind TCP") {
				t.Errorf("inspect does not tell of the ports: %s", inspection)
			}
		})
	}
}

// hasRow tells whether a line of a table has these columns.
func hasRow(table string, columns ...string) bool {
	for line := range strings.Lines(table) {
		if slices.Equal(strings.Fields(line), columns) {
			return true
		}
	}
	return false
}

// Sources tighten: what the profile does not allow, no annotation does, and denied ports add up.
func TestPolicyBindOfTwoSources(t *testing.T) {
	r := newRuntime(t)
	r.args = profileArgs(t, "[network]\nallow_bind = [\"80\", \"8000-8010\"]\ndeny_bind = [\"8001\"]\n")
	b := script(t, "for p in 80 81 8000 8001 8002 8003; do guest listen 127.0.0.1:$p; done")
	b.annotate(allowBindKey, "8000-9000", denyBindKey, "8002")
	if res := r.runBundle(t, b); res.stdout != "EACCES\nEACCES\nlistening\nEACCES\nEACCES\nlistening\n" {
		t.Error(res)
	}
}

// Neither protocols that carry TCP, nor io_uring, nor a Unix socket make a difference.
func TestPolicyBindWaysRound(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "guest socket mptcp; guest socket tcp; guest socket udp; nc -l -p 81 </dev/null 2>&1 | grep -o denied; guest listen unix /tmp/s; guest listen unbound")
	b.spec.Process.User.UID, b.spec.Process.User.GID = 1000, 1000
	b.annotate(allowBindKey, "80")
	if res := r.runBundle(t, b); res.stdout != "EPROTONOSUPPORT\nopened\nopened\ndenied\nlistening as 1000\nEACCES\n" {
		t.Error(res)
	}
}

func TestPolicyBindDenialsAreLogged(t *testing.T) {
	r := newRuntime(t)
	path := filepath.Join(shortTempDir(t), "runtime.log")
	r.args = []string{"--log", path, "--log-format", "json"}
	b := script(t, "guest listen unbound; guest listen 127.0.0.1:80")
	b.annotate(allowBindKey, "80")
	if res := r.runBundle(t, b); res.stdout != "EACCES\nlistening\n" {
		t.Fatal(res)
	}
	log := readText(t, filepath.Dir(path), filepath.Base(path))
	if !strings.Contains(log, "listen") || !strings.Contains(log, "not bound") {
		t.Errorf("the log does not tell of the denial: %s", log)
	}
}

func TestPolicyBindBadInput(t *testing.T) {
	r := newRuntime(t)
	for value, words := range map[string][]string{
		"80,x":    {"80,x", `"x`, "1 to 65535"},
		"0":       {"is not a port"},
		"*,80":    {"stands beside other ports"},
		"90-80":   {"write 80-90"},
		"80;;443": {"empty element"},
	} {
		b := script(t, "echo started")
		b.annotate(allowBindKey, value)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], `"`, "")
		}
		r.runBundle(t, b).refused(t, append(words, allowBindKey+": ")...)
		assertNothingLeft(t, r, b)
	}
}

// Where a network namespace has the kernel choose from other ports, the rules go by those: whether it is set by the spec, or was before.
func TestPolicyBindOtherEphemeralPorts(t *testing.T) {
	const look = "guest listen 127.0.0.1:0; guest listen unbound; guest listen 127.0.0.1:81"
	set := func(b *bundle, value string) { b.spec.Linux.Sysctl["net.ipv4.ip_local_port_range"] = value }
	join := func(t *testing.T, b *bundle, value string) {
		network := newNetwork(t)
		if err := network.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(value), 0) }); err != nil {
			t.Fatal(err)
		}
		testbundle.SetNamespacePath(b.spec, specs.NetworkNamespace, network.Path())
	}
	for _, how := range []string{"spec", "joined"} {
		for value, want := range map[string]string{"20000 20999": "listening\nlistening\nEACCES\n", "20000 21000": "EACCES\nEACCES\nEACCES\n"} {
			t.Run(how+" "+value, func(t *testing.T) {
				r, b := newRuntime(t), script(t, look)
				if how == "spec" {
					set(b, value)
				} else {
					join(t, b, value)
				}
				b.annotate(allowBindKey, "80,20000-20999")
				if res := r.runBundle(t, b); res.stdout != want {
					t.Errorf("want %q: %v", want, res)
				}
			})
		}
	}
	r, b := newRuntime(t), script(t, look)
	set(b, "nonsense")
	b.annotate(allowBindKey, "80")
	r.runBundle(t, b).refused(t, fmt.Sprintf("linux.sysctl[%s]", "net.ipv4.ip_local_port_range")[:13], "not two ports")
}
