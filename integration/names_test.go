package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// place is a host of the test's own as far as names go: a network namespace with a name server, and an /etc/hosts. Runtimes that run in it ask nobody
// else for a name. Its containers are in another network, that of egress.
type place struct {
	*egress
	host *testnet.Namespace
	dns  *testnet.DNS
	dir  string
}

// nameServer is where the name server of a place is.
const nameServer = "10.93.0.53"

func newPlace(t *testing.T, hosts string, zone map[string][]string) *place {
	t.Helper()
	p := &place{egress: newEgress(t), host: newNetwork(t, nameServer+"/32"), dir: shortTempDir(t)}
	var err error
	if p.dns, err = p.host.ServeDNS(nameServer+":53", zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.dns.Close() })
	p.file(t, "hosts", hosts)
	p.file(t, "resolv.conf", "nameserver "+nameServer+"\noptions timeout:1 attempts:1\n")
	p.file(t, "nsswitch.conf", "hosts: files dns\n")
	return p
}

func (p *place) file(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runtime is the runtime under test in the place.
func (p *place) runtime(t *testing.T) *ociRuntime {
	t.Helper()
	r := newRuntime(t)
	inside := "cd " + p.dir + "; for f in hosts resolv.conf nsswitch.conf; do test -e /etc/$f || exit 99; mount --bind $f /etc/$f || exit 98; done; cd -; exec \"$@\""
	script := fmt.Sprintf("#!/bin/sh\nexec nsenter --net=%s unshare --mount --propagation private sh -c '%s' sh %s \"$@\" >&1\n", p.host.Path(), inside, r.path)
	script = strings.ReplaceAll(script, "cd -;", "cd - >/dev/null;")
	r.path = filepath.Join(p.dir, "runtime")
	if err := os.WriteFile(r.path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

const allowKey = "io.sandlock.network.allow"

func TestPolicyNames(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		allowed     []string // reached by name
		refused     []string // by address
		hosts       string   // lines that /etc/hosts must have
		leftOut     string   // words that it must not have
		hostHosts   string
		zone        map[string][]string
		more        []string
	}{
		{name: "by DNS", rules: "api.example.com:7000", zone: map[string][]string{"api.example.com": {allowedHost}},
			allowed: []string{"api.example.com:7000"}, refused: []string{deniedHost + ":7000", allowedHost + ":7001"}, hosts: allowedHost + "\tapi.example.com"},
		{name: "by the host's hosts file, which does not leak", rules: "tcp://API:7000", hostHosts: "127.0.0.1 localhost\n" + allowedHost + " api secret-alias\n10.99.0.1 secret-host\n",
			allowed: []string{"api:7000"}, refused: []string{deniedHost + ":7000"}, hosts: allowedHost + "\tapi", leftOut: "secret"},
		{name: "several addresses of both families", rules: "api.example.com:7000", zone: map[string][]string{"api.example.com": {allowedHost, allowedV6}},
			allowed: []string{"api.example.com:7000", allowedHost + ":7000", "[" + allowedV6 + "]:7000"}, refused: []string{"[" + deniedV6 + "]:7000"},
			hosts: allowedHost + "\tapi.example.com\n" + allowedV6 + "\tapi.example.com"},
		{name: "IPv6 alone", rules: "api.example.com", zone: map[string][]string{"api.example.com": {allowedV6}},
			allowed: []string{"api.example.com:7000"}, refused: []string{allowedHost + ":7000"}, hosts: allowedV6 + "\tapi.example.com"},
		{name: "name and prefix", rules: "api.example.com:7000;10.92.0.0/16:7001", zone: map[string][]string{"api.example.com": {allowedHost}},
			allowed: []string{"api.example.com:7000"}, refused: []string{deniedHost + ":7000"}},
		{name: "a denied address of a name", rules: "api.example.com:7000", zone: map[string][]string{"api.example.com": {deniedHost, allowedHost}}, more: []string{"io.sandlock.network.deny", deniedHost},
			allowed: []string{"api.example.com:7000"}, refused: []string{deniedHost + ":7000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.hostHosts == "" {
				c.hostHosts = "127.0.0.1 localhost\n"
			}
			p := newPlace(t, c.hostHosts, c.zone)
			listenIn(t, p.network, "tcp", allowedHost+":7001")
			r := p.runtime(t)
			var text, want []string
			for _, address := range c.allowed {
				text, want = append(text, "guest network connect tcp "+address), append(want, testnet.Banner)
			}
			for _, address := range c.refused {
				text, want = append(text, "guest network connect tcp "+address), append(want, "EACCES")
			}
			res := r.runBundle(t, p.join(t, strings.Join(append(text, "cat /etc/hosts"), "; "), append([]string{allowKey, c.rules}, c.more...)...))
			if !strings.HasPrefix(res.stdout, strings.Join(want, "\n")+"\n") {
				t.Fatalf("want %q, got %v", want, res)
			}
			hosts := strings.Split(res.stdout, "\n")
			for _, line := range append(strings.Split(c.hosts, "\n"), "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback") {
				if line != "" && !contains(hosts, line) {
					t.Errorf("/etc/hosts lacks %q: %v", line, res)
				}
			}
			if c.leftOut != "" && strings.Contains(res.stdout, c.leftOut) {
				t.Errorf("/etc/hosts has %q: %v", c.leftOut, res)
			}
		})
	}
}

func contains(list []string, element string) bool {
	for _, e := range list {
		if e == element {
			return true
		}
	}
	return false
}

// What a name means is decided once: neither another answer of the name server nor an entry of the container's own changes it, and exec finds the same.
func TestPolicyNamesArePinned(t *testing.T) {
	p := newPlace(t, "127.0.0.1 localhost\n", map[string][]string{"api.example.com": {allowedHost}})
	r := p.runtime(t)
	b := p.join(t, "echo up; sleep 1000", allowKey, "api.example.com:7000")
	own := filepath.Join(b.dir, "hosts")
	p.file(t, "own", "")
	if err := os.WriteFile(own, []byte("127.0.0.1 localhost\n172.17.0.2 c0ffee\n"+deniedHost+" API.example.com alias\n# kept\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.mount("/etc/hosts", "bind", own, "rbind", "rprivate")
	c := r.start(t, b)
	c.line(t)
	p.dns.Set(map[string][]string{"api.example.com": {deniedHost}})
	const look = "guest network connect tcp api.example.com:7000; guest network connect tcp alias:7000; cat /etc/hosts; echo x 2>/dev/null >/etc/hosts || echo read-only"
	want := fmt.Sprintf("%s\nEACCES\n# Loopback, and the host names of network.allow as they were resolved when the container was created.\n"+
		"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\tapi.example.com\n# The container's own:\n172.17.0.2 c0ffee\n%s\talias\n# kept\nread-only\n", testnet.Banner, allowedHost, deniedHost)
	for range 2 {
		if res := c.shell(t, look); res.stdout != want {
			t.Errorf("want %q, got %v", want, res)
		}
	}
	if peers := p.servers["tcp denied"].Peers(); len(peers) != 0 {
		t.Errorf("the denied server was reached: %v", peers)
	}
	if text, err := os.ReadFile(own); err != nil || !strings.Contains(string(text), deniedHost+" API") {
		t.Errorf("the file that was mounted has been changed: %s, %v", text, err)
	}
	text := r.must(t, "inspect", c.id)
	if !strings.Contains(text, "api.example.com") || !strings.Contains(text, allowedHost) {
		t.Errorf("inspect does not say what the name stands for: %s", text)
	}
	var inspection struct {
		Plan struct {
			Network struct{ Names map[string][]string }
		}
	}
	if err := json.Unmarshal([]byte(r.must(t, "inspect", "--format", "json", c.id)), &inspection); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(inspection.Plan.Network.Names); got != "map[api.example.com:["+allowedHost+"]]" {
		t.Errorf("names in inspect: %s", got)
	}
	if mounts := c.shell(t, "grep ' /etc/hosts ' /proc/self/mountinfo").stdout; strings.Contains(mounts, b.dir) || strings.Count(mounts, "\n") != 1 {
		t.Errorf("mounts at /etc/hosts: %s", mounts)
	}
}

// A source can only tighten: a name of the profile is reached only if the annotation allows one of its addresses, whatever it calls them.
func TestPolicyNamesOfTwoSources(t *testing.T) {
	zone := map[string][]string{"api.example.com": {allowedHost, deniedHost}, "other.example.com": {deniedHost}}
	for _, c := range []struct {
		name, profile, annotation, reached, refused string
	}{
		{"name, then prefix", "api.example.com:7000", "10.91.0.0/16", allowedHost + ":7000", deniedHost + ":7000"},
		{"prefix, then name", "10.92.0.0/16", "api.example.com", deniedHost + ":7000", allowedHost + ":7000"},
		{"name, then name", "api.example.com", "other.example.com:7000", deniedHost + ":7000", allowedHost + ":7000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, "127.0.0.1 localhost\n", zone)
			r := p.runtime(t)
			r.args = profileArgs(t, fmt.Sprintf("[network]\nallow = [%q]\n", c.profile))
			res := r.runBundle(t, p.join(t, "guest network connect tcp "+c.reached+"; guest network connect tcp "+c.refused, allowKey, c.annotation))
			if res.stdout != testnet.Banner+"\nEACCES\n" {
				t.Errorf("%v", res)
			}
		})
	}
}

// profileArgs writes a profile and returns the flags that have a runtime use it.
func profileArgs(t *testing.T, profile string) []string {
	t.Helper()
	dir := shortTempDir(t)
	for name, text := range map[string]string{"config.toml": fmt.Sprintf("[profiles]\ndirectory = %q\n", dir), "test.toml": profile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--config", filepath.Join(dir, "config.toml"), "--profile", "test"}
}

func TestPolicyNamesThatFail(t *testing.T) {
	p := newPlace(t, "127.0.0.1 localhost\n0.0.0.0 blocked.example.com\n", map[string][]string{"silent.example.com": {}})
	r := p.runtime(t)
	for rule, reason := range map[string]string{
		"nosuch.example.com:443": "no such host, says " + nameServer + ":53",
		"silent.example.com":     "no answer in time from " + nameServer + ":53",
		"blocked.example.com":    "stands for 0.0.0.0, which is no destination",
	} {
		b := p.join(t, "echo started", allowKey, "10.0.0.1;"+rule)
		res := r.runBundle(t, b)
		res.refused(t, allowKey+": ", rule, ": "+reason)
		if res.stdout != "" {
			t.Errorf("it started: %v", res)
		}
		assertNothingLeft(t, r, b)
	}
	res := r.runBundle(t, p.join(t, "echo started", "io.sandlock.network.deny", "api.example.com"))
	res.refused(t, "io.sandlock.network.deny: ", "api.example.com", "is a host name, which only rules that allow can have")

	r.args = profileArgs(t, "[limits]\nprocesses = 10\n[network]\nallow = [\n\"nosuch.example.com\"]\n")
	res = r.runBundle(t, p.join(t, "echo started", allowKey, "10.0.0.1"))
	res.refused(t, "test.toml:4: network.allow: ", "no such host")
}

// Nobody is asked where no rule has a name.
func TestPolicyNamesAskNobody(t *testing.T) {
	p := newPlace(t, "127.0.0.1 localhost\n", nil)
	r := p.runtime(t)
	res := r.runBundle(t, p.join(t, "cat /etc/hosts", allowKey, allowedHost+":7000"))
	if res.stdout != "127.0.0.1 localhost\n" || len(p.dns.Asked()) != 0 {
		t.Errorf("asked %q: %v", p.dns.Asked(), res)
	}
}

// Ten thousand rules in one annotation are rules like any others, for every verb that reads them.
func TestPolicyManyRules(t *testing.T) {
	e, r := newEgress(t), newRuntime(t)
	rules := make([]string, 10000)
	for i := range rules {
		rules[i] = fmt.Sprintf("tcp://172.%d.%d.%d:%d", 16+i>>16, i>>8&0xff, i&0xff, 1000+i)
	}
	rules[7777] = "tcp://" + allowedHost + ":7000"
	b := e.join(t, "echo up; sleep 1000", allowKey, strings.Join(rules, ";"))
	c := r.start(t, b)
	c.line(t)
	if res := c.shell(t, "guest network connect tcp "+deniedHost+":7000; guest network connect tcp "+allowedHost+":7000; guest network connect tcp "+allowedHost+":7001"); res.stdout != "EACCES\n"+testnet.Banner+"\nEACCES\n" {
		t.Error(res)
	}
	if peers := e.servers["tcp denied"].Peers(); len(peers) != 0 {
		t.Errorf("the denied server was reached: %v", peers)
	}
	if out := r.must(t, "inspect", c.id); !strings.Contains(out, "and 9999 more") || !strings.Contains(out, rules[9999]) {
		t.Errorf("inspect says %d bytes, without the rules", len(out))
	}
	rules = append(rules, make([]string, 7000)...)
	for i := range rules[10000:] {
		rules[10000+i] = fmt.Sprintf("10.%d.%d.1", i>>8, i&0xff)
	}
	b = e.join(t, "echo started", allowKey, strings.Join(rules, ";"))
	r.runBundle(t, b).refused(t, allowKey+": more than 16384 elements")
}
