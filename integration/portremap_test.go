package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// webServer makes a bundle that serves its name at port 80 of a network, once it has said so.
func webServer(t *testing.T, network *testnet.Namespace, name string, annotations ...string) *bundle {
	t.Helper()
	b := script(t, "echo "+name+" > /var/www/index.html; httpd -p 0.0.0.0:80 -h /var/www && echo up; sleep 1000")
	testbundle.SetNamespacePath(b.spec, specs.NetworkNamespace, network.Path())
	for link, target := range map[string]string{"ports": "/proc/net/tcp", "mine": "ports", "net": "/proc/self/net"} {
		if err := os.Symlink(target, filepath.Join(b.root, link)); err != nil {
			t.Fatal(err)
		}
	}
	b.annotate(annotations...)
	return b
}

// seesItsPorts checks that a container whose port 80 is another one outside reads of port 80 alone, by whatever route and those given.
func (c *container) seesItsPorts(t *testing.T, real int, ways ...string) {
	t.Helper()
	for _, way := range append([]string{
		"netstat -ltn", "cat /proc/net/tcp", "cat /proc/self/net/tcp", "cat /proc/1/net/tcp", "cd /proc/net && cat tcp", "cd /proc/1 && cat net/tcp", "guest openat2 /proc/net/tcp",
		"cat /proc/thread-self/net/tcp", "cat /proc/1/task/1/net/tcp", "cat /ports", "cat /mine", "cat /net/tcp", "cd /tmp && cat ../ports",
		"exec 9</net; cat /proc/self/fd/9/tcp", "cat /proc/self/root/ports",
	}, ways...) {
		listening := c.shell(t, way).stdout
		if hex := fmt.Sprintf(":%04X ", real); strings.Contains(listening, fmt.Sprintf(":%d ", real)) || strings.Contains(listening, hex) ||
			!strings.Contains(listening, ":80 ") && !strings.Contains(listening, ":0050 ") {
			t.Errorf("%s: %s", way, listening)
		}
	}
}

// get asks a server for a page from within a network.
func get(t *testing.T, network *testnet.Namespace, address string) string {
	t.Helper()
	var conn net.Conn
	err := network.Do(func() (err error) {
		conn, err = net.Dial("tcp", address) // by the thread that is in the network, since nothing has to be looked up
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// Two containers in one network bind port 80, and each has its own.
func TestPolicyPortRemap(t *testing.T) {
	network, r := newNetwork(t), newRuntime(t)
	first := r.start(t, webServer(t, network, "first"))
	first.line(t)

	// Without a port space of its own the second has no chance.
	if line := r.start(t, webServer(t, network, "second")).line(t); !strings.Contains(line, "Address already in use") {
		t.Fatalf("without port_remap the second says %q", line)
	}

	for name, annotations := range map[string][]string{
		"alone":           {"io.sandlock.network.port_remap", "true"},
		"address rules":   {"io.sandlock.network.port_remap", "true", "io.sandlock.network.allow", "127.0.0.0/8"},
		"rules for ports": {"io.sandlock.network.port_remap", "true", "io.sandlock.network.allow", "tcp://*:80"},
	} {
		t.Run(name, func(t *testing.T) {
			second := r.start(t, webServer(t, network, "second", annotations...))
			if line := second.line(t); line != "up" {
				t.Fatalf("the second says %q", line)
			}
			for _, c := range []struct {
				*container
				want string
			}{{first, "first"}, {second, "second"}} {
				if got := c.shell(t, "wget -qO- http://127.0.0.1:80/"); got.stdout != c.want+"\n" {
					t.Errorf("the %s container gets %v", c.want, got)
				}
			}
			var inspection struct{ Ports []struct{ Virtual, Real int } }
			if err := json.Unmarshal([]byte(r.must(t, "inspect", "--format", "json", second.id)), &inspection); err != nil {
				t.Fatal(err)
			}
			if len(inspection.Ports) != 1 || inspection.Ports[0].Virtual != 80 || inspection.Ports[0].Real == 80 {
				t.Fatalf("inspect tells of %+v", inspection.Ports)
			}
			real := inspection.Ports[0].Real
			if got := get(t, network, fmt.Sprintf("127.0.0.1:%d", real)); got != "second" {
				t.Errorf("port %d outside is %q", real, got)
			}
			if got := get(t, network, "127.0.0.1:80"); got != "first" {
				t.Errorf("port 80 outside is %q", got)
			}
			if text := r.must(t, "inspect", second.id); !strings.Contains(text, fmt.Sprintf("0.0.0.0:80  is port %d outside", real)) {
				t.Errorf("inspect: %s", text)
			}
			// What it says of itself inside.
			second.seesItsPorts(t, real)
			r.must(t, "kill", second.id, "KILL")
			second.wait(t)
			var event struct {
				Verdict, Target string
				Real            int `json:"real_port"`
			}
			line, _, _ := strings.Cut(r.must(t, "events", "--follow", second.id), "\n")
			if err := json.Unmarshal([]byte(line), &event); err != nil || event.Verdict != "remapped" || event.Target != "0.0.0.0:80" || event.Real != real {
				t.Errorf("events: %s, %v", line, err)
			}
		})
	}
}

// TestPolicyPortRemapBesideAgent has a container see its own ports where an agent judges its opens and can deny paths.
func TestPolicyPortRemapBesideAgent(t *testing.T) {
	network := newNetwork(t)
	newRuntime(t).start(t, webServer(t, network, "first")).line(t)
	for name, c := range map[string]struct {
		hello string
		opens bool // the agent is asked about them
		paths bool // and can deny them
	}{
		"asked about all":   {helloAll, true, true},
		"asked about opens": {`{"type":"hello","version":1,"syscalls":["open","openat","openat2"]}`, true, false},
		"paths":             {`{"type":"hello","version":1,"syscalls":[],"deny_paths":true}`, false, true},
		"neither":           {`{"type":"hello","version":1,"syscalls":["socket"]}`, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, c.hello, allowAll)
			second := newRuntimeWithAgent(t, a.path).start(t, webServer(t, network, "second", "io.sandlock.network.port_remap", "true"))
			if line := second.line(t); line != "up" {
				t.Fatalf("the second says %q", line)
			}
			var inspection struct{ Ports []struct{ Virtual, Real int } }
			if err := json.Unmarshal([]byte(second.rt.must(t, "inspect", "--format", "json", second.id)), &inspection); err != nil {
				t.Fatal(err)
			}
			if len(inspection.Ports) != 1 || inspection.Ports[0].Real == 80 {
				t.Fatalf("inspect tells of %+v", inspection.Ports)
			}
			real := inspection.Ports[0].Real
			second.seesItsPorts(t, real, "cat /proc/1/root/ports")
			read := func() string { return second.shell(t, "cat /ports >/tmp/seen && cat /tmp/seen || echo refused").stdout }
			if c.opens {
				asked := func() int { return len(a.find(func(e agentEvent) bool { return e.Syscall == "openat" && e.Held })) }
				before := asked()
				if text := read(); !strings.Contains(text, ":0050 ") {
					t.Errorf("it reads %s", text)
				}
				if asked() == before {
					t.Error("the agent was not asked about the opens")
				}
			}
			if !c.paths {
				return
			}
			// What is denied beside the tables makes no difference to them, and a table that is denied is not shown.
			if err := a.change(`"op":"restrict","deny_path":"/etc/group"`); err != "" {
				t.Fatal(err)
			}
			if res := second.shell(t, "cat /etc/group || echo refused"); res.stdout != "refused\n" {
				t.Errorf("what is denied: %v", res)
			}
			second.seesItsPorts(t, real)
			if err := a.change(`"op":"restrict","deny_path":"/proc/1/net/tcp"`); err != "" {
				t.Fatal(err)
			}
			if text := second.shell(t, "cat /proc/1/net/tcp || echo refused").stdout; text != "refused\n" {
				t.Errorf("a table that is denied: %s", text)
			}
		})
	}
}
