package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
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
	b.annotate(annotations...)
	return b
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
			for _, way := range []string{"netstat -ltn", "cat /proc/net/tcp", "cat /proc/self/net/tcp", "cat /proc/1/net/tcp", "cd /proc/net && cat tcp", "cd /proc/1 && cat net/tcp", "guest openat2 /proc/net/tcp"} {
				listening := second.shell(t, way).stdout
				if hex := fmt.Sprintf(":%04X ", real); strings.Contains(listening, fmt.Sprintf(":%d ", real)) || strings.Contains(listening, hex) ||
					!strings.Contains(listening, ":80 ") && !strings.Contains(listening, ":0050 ") {
					t.Errorf("%s: %s", way, listening)
				}
			}
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
