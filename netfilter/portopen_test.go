package netfilter

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPortTables has a container look at its sockets by every route that there is to their tables.
func TestPortTables(t *testing.T) {
	n, elsewhere := newNetwork(t), newNetwork(t)
	a, b, far := n.container(t, Policy{}), n.container(t, Policy{}), elsewhere.container(t, Policy{})
	dir := t.TempDir()
	for link, target := range map[string]string{
		"table": "/proc/net/tcp", "twice": "table", "net": "/proc/self/net", "thread": "/proc/thread-self", "table6": "/proc/thread-self/net/tcp6", "comm": "/proc/self/comm",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tcp"), []byte("a file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprint(b.cmd.Process.Pid)
	routes := []command{
		{File: "/proc/net/tcp"}, {File: "/proc//self/../net/./tcp"}, {File: "/proc/self/net/tcp"}, {File: "/proc/thread-self/net/tcp"}, {File: "/proc/self/task/{tid}/net/tcp"},
		{File: "/proc/self/task/../../{tid}/net/tcp"},
		{File: "/proc/" + own + "/net/tcp"}, {File: "/proc/" + own + "/task/" + own + "/net/tcp"}, {File: fmt.Sprintf("/proc/%d/net/tcp", a.cmd.Process.Pid)},
		{File: filepath.Join(dir, "table")}, {File: filepath.Join(dir, "twice")}, {File: filepath.Join(dir, "net/tcp")}, {File: filepath.Join(dir, "thread/net/tcp")},
		{File: "tcp", Dir: "/proc/self/net"}, {File: "net/tcp", Dir: "/proc"}, {File: "twice", Dir: dir}, {File: "../" + filepath.Base(dir) + "/table", Dir: dir},
		{File: "/proc/self/root/proc/net/tcp"}, {File: "proc/net/tcp", Dir: "/"},
	}
	ways := []string{"read", "read openat2", "read reopened"}
	look := func(where string, has, lacks []string, call command) {
		t.Helper()
		text := b.must(call).Text
		for _, port := range has {
			if !strings.Contains(text, port) {
				t.Errorf("%s: %+v lacks %s: %s", where, call, port, text)
			}
		}
		for _, port := range lacks {
			if strings.Contains(text, port) {
				t.Errorf("%s: %+v has %s: %s", where, call, port, text)
			}
		}
	}
	a.serve("0.0.0.0:80")
	far.serve("0.0.0.0:80")
	listening := func(port uint16) string { return fmt.Sprintf(":%04X 00000000:0000 0A", port) }
	look("before", []string{listening(80)}, nil, command{Call: "read", File: "/proc/net/tcp"})
	b.serve("0.0.0.0:80")
	b.serve("[::]:80", only6)
	real := b.binding(80).Real
	if real == 80 {
		t.Fatal("the port is not another one")
	}
	for _, way := range ways {
		for _, route := range routes {
			route.Call = way
			look("remapped", []string{listening(80)}, []string{fmt.Sprintf(":%04X", real)}, route)
		}
		look("IPv6", []string{":0050 "}, nil, command{Call: way, File: filepath.Join(dir, "table6")})
		// What is no table of theirs stays what it is.
		for name, want := range map[string]string{"tcp": "a file\n", "comm": b.must(command{Call: "read", File: "/proc/self/comm"}).Text} {
			if got := b.must(command{Call: way, File: filepath.Join(dir, name)}).Text; got != want {
				t.Errorf("%s: %s is %q, want %q", way, name, got, want)
			}
		}
		look("another network", []string{listening(80)}, nil, command{Call: way, File: fmt.Sprintf("/proc/%d/net/tcp", far.cmd.Process.Pid)})
		for name, want := range map[string]unix.Errno{"nothing": unix.ENOENT, "tcp/x": unix.ENOTDIR, "net/nothing": unix.ENOENT} {
			b.expect(want, command{Call: way, File: filepath.Join(dir, name)})
		}
	}
	// The kernel's own table is another one, and whoever has no remapped port reads that.
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", b.cmd.Process.Pid)); err != nil || !strings.Contains(string(text), listening(real)) {
		t.Errorf("outside: %v, %s", err, text)
	}
	if text := a.must(command{Call: "read", File: "/proc/net/tcp"}).Text; !strings.Contains(text, listening(80)) || !strings.Contains(text, listening(real)) {
		t.Errorf("the other container sees %s", text)
	}
}

// TestPortTablesAtOnce looks at tables while sockets come and go.
func TestPortTablesAtOnce(t *testing.T) {
	n := newNetwork(t)
	a, b := n.container(t, Policy{}), n.container(t, Policy{})
	for port := 80; port < 90; port++ {
		a.serve(fmt.Sprintf("0.0.0.0:%d", port))
	}
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				b.ports.Bindings()
				b.ports.view(1, []byte(strings.Repeat("   0: 0100007F:0050 0100007F:0051 01 \n", 20)), func(netip.Addr) bool { return true })
			}
		})
	}
	for range 20 {
		var fds []int
		for port := 80; port < 90; port++ {
			fds = append(fds, b.serve(fmt.Sprintf("0.0.0.0:%d", port)))
		}
		text := b.must(command{Call: "read", File: "/proc/net/tcp"}).Text
		for port := 80; port < 90; port++ {
			if strings.Count(text, fmt.Sprintf(":%04X 00000000:0000 0A", port)) != 1 {
				t.Errorf("port %d: %s", port, text)
			}
		}
		for _, fd := range fds {
			b.must(command{Call: "close", FD: fd})
		}
	}
	close(stop)
	group.Wait()
}

// FuzzPortView has a table of whatever rewritten: what is not a line of it stays as it is, and none is made up.
func FuzzPortView(f *testing.F) {
	f.Add([]byte(tableHeading + "local_address rem_address   st\n   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"))
	f.Add([]byte("   1: 0100007F:C000 0100007F:0050 01\n"))
	f.Add([]byte("   1: 00000000000000000000000001000000:C000 00000000000000000000000001000000:0050 01\n"))
	f.Add([]byte("x 0100007F:C000 0100007F:0050 01"))
	f.Add([]byte(":: 0100007F:C000 0100007F:0050 01"))
	p := &PortSpace{virtual: map[uint16][]*Binding{}, real: map[uint16][]*Binding{}, past: map[uint16]*Binding{}}
	b := &Binding{Virtual: 80, Real: 0xc000, where: place{network: 1, addr: netip.IPv4Unspecified()}}
	p.virtual[80], p.real[0xc000] = []*Binding{b}, []*Binding{b}
	f.Fuzz(func(t *testing.T, text []byte) {
		view := p.view(1, text, netip.Addr.IsLoopback)
		if len(view) > len(text) {
			t.Fatalf("%q became %q", text, view)
		}
		rest := view
		for line := range bytes.Lines(text) {
			_, ok := parseTCPLine(line)
			if ok && (len(rest) < len(line) || !sameBut(line, rest[:len(line)])) {
				continue // left out
			}
			if len(rest) < len(line) || !ok && !bytes.Equal(line, rest[:len(line)]) {
				t.Fatalf("%q became %q", text, view)
			}
			rest = rest[len(line):]
		}
		if len(rest) > 0 {
			t.Fatalf("%q became %q", text, view)
		}
	})
}

// sameBut tells whether two lines differ in nothing but their ports.
func sameBut(a, b []byte) bool {
	blank := func(line []byte) []byte {
		line = bytes.Clone(line)
		putPorts(line, 0, 0)
		return line
	}
	return bytes.Equal(blank(a), blank(b))
}
