package integration

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// debianScript makes a bundle that runs a shell script with the machine's own programs, and with the guest in /opt, in a network.
func debianScript(t *testing.T, network *testnet.Namespace, text string, annotations ...string) *bundle {
	t.Helper()
	b := newBundle(t, "/bin/sh", "-c", text)
	b.root = filepath.Join(b.dir, "debian")
	b.spec.Root.Path = b.root
	if err := testbundle.Debian(b.root); err != nil {
		t.Fatal(err)
	}
	guest, err := os.ReadFile(guestPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(b.root, "opt"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.root, "opt/guest"), guest, 0o755); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = slices.Insert(b.spec.Mounts, 0, testbundle.MountUsr())
	b.mount("/tmp", "tmpfs", "tmpfs")
	b.spec.Process.Env = append(b.spec.Process.Env, "HOME=/root")
	testbundle.SetNamespacePath(b.spec, specs.NetworkNamespace, network.Path())
	b.annotate(annotations...)
	return b
}

// webSite is an HTTP server, or one of redis, that counts who comes.
type webSite struct{ visits atomic.Int64 }

// site serves handler at an address of a network.
func site(t *testing.T, network *testnet.Namespace, address string, handler http.Handler) *webSite {
	t.Helper()
	s := &webSite{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.visits.Add(1)
		handler.ServeHTTP(w, r)
	})}
	go server.Serve(listenerIn(t, network, address))
	t.Cleanup(func() { server.Close() })
	return s
}

func listenerIn(t *testing.T, network *testnet.Namespace, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	if err := network.Do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// pong serves as much of redis as a ping takes.
func pong(t *testing.T, network *testnet.Namespace, address string) *webSite {
	t.Helper()
	s := &webSite{}
	listener := listenerIn(t, network, address)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.visits.Add(1)
			go func() {
				defer conn.Close()
				// A command is lines, of which the last of each names it or is an argument.
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if strings.EqualFold(lines.Text(), "ping") {
						fmt.Fprint(conn, "+PONG\r\n")
					}
				}
			}()
		}
	}()
	return s
}

// repository makes a bare git repository with one commit in it, to be served by a web server that knows nothing of git.
func repository(t *testing.T) string {
	t.Helper()
	dir := shortTempDir(t)
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir, "GIT_DIR=repo.git")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "--bare")
	tree := git("hash-object", "-w", "-t", "tree", "/dev/null")
	commit := git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit-tree", "-m", "x", tree)
	git("update-ref", "HEAD", commit)
	git("update-server-info")
	return dir
}

// attempts is the beginning of a script: try NAME COMMAND... prints whether the command succeeds.
const attempts = `try() { name=$1; shift; if timeout 20 "$@" >/tmp/out 2>&1; then echo "$name yes"; else echo "$name no"; fi; }
`

// answersOf reads what such a script prints.
func answersOf(t *testing.T, res result) map[string]string {
	t.Helper()
	answers := map[string]string{}
	for line := range strings.Lines(res.stdout) {
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 {
			answers[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	if len(answers) == 0 {
		t.Fatalf("no answers: %v", res)
	}
	return answers
}

// clients are programs that reach a host, %[1]s, of which %[2]s is a name that the name server knows.
var clients = []struct{ name, command string }{
	{"curl", "curl -sf http://%[1]s/"},
	{"wget", "wget -q -t 1 -O - http://%[1]s/"},
	{"busybox", "busybox wget -q -O - http://%[1]s/"},
	{"python", `python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()' http://%[1]s/`},
	{"node", `node -e 'require("http").get(process.argv[1], r => process.exit(r.statusCode == 200 ? 0 : 1)).on("error", () => process.exit(1))' http://%[1]s/`},
	{"git", "git ls-remote --exit-code http://%[1]s/repo.git"},
	{"redis", "redis-cli -h %[1]s ping"},
	{"ping", "ping -n -c 1 -W 5 %[1]s"},
	{"go", "/opt/guest fetch " + allowedHost + ":53 http://%[2]s/"},
	{"nginx", "curl -sf http://127.0.0.1:8080/%[2]s/"},
}

const nginxConfig = `daemon on; user root; worker_processes 1; pid /tmp/nginx.pid; error_log /dev/null;
events { worker_connections 64; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
server { listen 127.0.0.1:8080;
  location /allowed.example/ { proxy_pass http://` + allowedHost + `/; }
  location /denied.example/ { proxy_pass http://` + deniedHost + `/; } } }
`

// TestPolicyPrograms has programs of Debian reach a host that the rules allow and one that they do not, and servers serve inside.
func TestPolicyPrograms(t *testing.T) {
	network, r := newNetwork(t, allowedHost+"/32", deniedHost+"/32"), newRuntime(t)
	dns, err := network.ServeDNS(allowedHost+":53", map[string][]string{"allowed.example": {allowedHost}, "denied.example": {deniedHost}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Close() })
	pages := http.FileServer(http.Dir(repository(t)))
	allowed, denied := site(t, network, allowedHost+":80", pages), site(t, network, deniedHost+":80", pages)
	allowedRedis, deniedRedis := pong(t, network, allowedHost+":6379"), pong(t, network, deniedHost+":6379")

	script := attempts + "nginx -c /etc/nginx.conf\n"
	for _, c := range clients {
		script += "try '" + c.name + " denied' " + fmt.Sprintf(c.command, deniedHost, "denied.example") + "\n"
		script += "try '" + c.name + " allowed' " + fmt.Sprintf(c.command, allowedHost, "allowed.example") + "\n"
	}
	script += `redis-server --port 6380 --bind 127.0.0.1 --save '' --daemonize yes --logfile /dev/null >/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do redis-cli -p 6380 ping >/dev/null 2>&1 && break; sleep 0.1; done
try 'redis-server allowed' redis-cli -p 6380 set key value
try 'redis-benchmark allowed' redis-benchmark -p 6380 -q -n 1000 -t set,get
kill $(cat /tmp/nginx.pid)
redis-cli -p 6380 shutdown nosave
`
	rules := []string{"io.sandlock.network.allow", strings.Join([]string{allowedHost, "icmp://" + allowedHost, "127.0.0.0/8"}, ";")}
	run := func(annotations ...string) map[string]string {
		b := debianScript(t, network, script, annotations...)
		writeFile(t, b.root, "etc/nginx.conf", nginxConfig, 0o644)
		return answersOf(t, r.runBundle(t, b))
	}
	under := run(rules...)
	if allowed.visits.Load() == 0 || denied.visits.Load() != 0 {
		t.Errorf("the allowed site had %d visits, the denied one %d", allowed.visits.Load(), denied.visits.Load())
	}
	if allowedRedis.visits.Load() == 0 || deniedRedis.visits.Load() != 0 {
		t.Errorf("the allowed redis had %d visits, the denied one %d", allowedRedis.visits.Load(), deniedRedis.visits.Load())
	}
	// Without rules all of it is reached, so that it means something above.
	free := run()
	for _, answers := range []map[string]string{under, free} {
		if len(answers) != 2*len(clients)+2 {
			t.Errorf("%d answers: %v", len(answers), answers)
		}
	}
	for name, answer := range free {
		if answer != "yes" {
			t.Errorf("without rules: %s: %s", name, answer)
		}
	}
	for name, answer := range under {
		if want := map[bool]string{true: "yes", false: "no"}[strings.HasSuffix(name, " allowed")]; answer != want {
			t.Errorf("%s: %s", name, answer)
		}
	}
}

// TestPolicyMetadata hides a metadata service, whatever it is called and whoever points there.
func TestPolicyMetadata(t *testing.T) {
	network, r := newNetwork(t, metadata+"/32", allowedHost+"/32"), newRuntime(t)
	dns, err := network.ServeDNS(allowedHost+":53", map[string][]string{"rebound.example": {metadata}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Close() })
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a page") })
	secret := site(t, network, metadata+":80", page)
	other := http.NewServeMux()
	other.Handle("/", page)
	other.Handle("/away", http.RedirectHandler("http://"+metadata+"/", http.StatusFound))
	site(t, network, allowedHost+":80", other)

	ways := []struct{ name, command string }{
		{"by address", "curl -sf http://" + metadata + "/"},
		{"by a number", "curl -sf http://2852039166/"},
		{"by octal numbers", "curl -sf http://0251.0376.0251.0376/"},
		{"as IPv6", "curl -sgf http://[::ffff:" + metadata + "]/"},
		{"redirected", "curl -sLf http://" + allowedHost + "/away"},
		{"by a name", "/opt/guest fetch " + allowedHost + ":53 http://rebound.example/"},
		{"by python", `python3 -c 'import urllib.request; urllib.request.urlopen("http://` + metadata + `/").read()'`},
	}
	script := attempts + "try 'something else' curl -sf http://" + allowedHost + "/\n"
	for _, w := range ways {
		script += "try '" + w.name + "' " + w.command + "\n"
	}
	under := answersOf(t, r.runBundle(t, debianScript(t, network, script, "io.sandlock.network.deny", metadata)))
	if n := secret.visits.Load(); n != 0 {
		t.Errorf("the service had %d visits", n)
	}
	free := answersOf(t, r.runBundle(t, debianScript(t, network, script)))
	for _, w := range ways {
		if under[w.name] != "no" || free[w.name] != "yes" {
			t.Errorf("%s: %s under the rule, %s without", w.name, under[w.name], free[w.name])
		}
	}
	if under["something else"] != "yes" {
		t.Errorf("nothing else is reached: %v", under)
	}
}
