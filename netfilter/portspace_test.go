package netfilter

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// read reads a file by one way to open it.
func (c command) read() ([]byte, error) {
	name, dir := strings.ReplaceAll(c.File, "{tid}", fmt.Sprint(unix.Gettid())), unix.AT_FDCWD
	if c.Dir != "" {
		fd, err := unix.Open(c.Dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		dir = fd
	}
	var fd int
	var err error
	switch c.Call {
	case "read":
		fd, err = unix.Openat(dir, name, unix.O_RDONLY, 0)
	case "read openat2":
		fd, err = unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_RDONLY})
	case "read reopened":
		var reference int
		if reference, err = unix.Openat(dir, name, unix.O_PATH, 0); err == nil {
			defer unix.Close(reference)
			fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", reference), unix.O_RDONLY, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	return io.ReadAll(file)
}

var (
	reuseAddr = []int{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}
	reusePort = []int{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}
	only6     = []int{unix.SOL_IPV6, unix.IPV6_V6ONLY, 1}
)

// TestPortSpaces has two containers in one network namespace bind one port, and each reach its own server.
func TestPortSpaces(t *testing.T) {
	n := newNetwork(t)
	for name, p := range map[string]Policy{"no rules": {}, "rules": policy(t, "127.0.0.0/8 10.0.0.0/8 ::/0", "")} {
		t.Run(name, func(t *testing.T) {
			a, b := n.container(t, p), n.container(t, p)
			for _, row := range []struct {
				listen string
				reach  []string
				opts   [][]int
			}{
				{"0.0.0.0:80", []string{"127.0.0.1:80", "10.1.0.1:80", "127.9.9.9:80"}, nil},
				{"10.1.0.2:81", []string{"10.1.0.2:81"}, [][]int{reuseAddr}},
				{"[::]:82", []string{"[::1]:82", "127.0.0.1:82", "[fd00:1::1]:82"}, nil},
				{"[::]:83", []string{"[::1]:83"}, [][]int{only6}},
				{"127.0.0.1:5000", []string{"127.0.0.1:5000"}, [][]int{reusePort}},
			} {
				first := a.serve(row.listen, row.opts...)
				second := b.serve(row.listen, row.opts...)
				port := netip.MustParseAddrPort(row.listen).Port()
				if got := a.binding(port); got.Real != port {
					t.Errorf("%s: the first gets port %d", row.listen, got.Real)
				}
				if got := b.binding(port); got.Real == port {
					t.Errorf("%s: the second gets the port of the first", row.listen)
				}
				for _, addr := range row.reach {
					a.name(first, row.listen)
					b.name(second, row.listen)
					a.reach(first, addr)
					b.reach(second, addr)
				}
			}
		})
	}
}

// TestPortSpaceInside checks that among a container's own sockets ports are shared, or not, as ever, whether they are the same
// outside or not.
func TestPortSpaceInside(t *testing.T) {
	for _, how := range []string{"by the kernel", "on behalf", "remapped"} {
		t.Run(how, func(t *testing.T) {
			n := newNetwork(t)
			c := n.plain(t)
			if how != "by the kernel" {
				c = n.container(t, Policy{})
			}
			if how == "remapped" {
				other := n.container(t, Policy{})
				for port := 80; port < 90; port++ {
					other.serve(fmt.Sprintf("0.0.0.0:%d", port))
					other.serve(fmt.Sprintf("[::]:%d", port), only6)
				}
			}
			bind := func(want unix.Errno, addr string, options ...[]int) int {
				t.Helper()
				family := unix.AF_INET
				if strings.HasPrefix(addr, "[") {
					family = unix.AF_INET6
				}
				fd := c.socket(family, options...)
				c.expect(want, command{Call: "bind", FD: fd, Addr: addr})
				return fd
			}
			c.serve("127.0.0.1:80")
			bind(unix.EADDRINUSE, "127.0.0.1:80")
			bind(unix.EADDRINUSE, "127.0.0.1:80", reuseAddr)
			bind(unix.EADDRINUSE, "0.0.0.0:80", reuseAddr)
			bind(unix.EADDRINUSE, "[::]:80")
			bind(0, "[::]:80", only6)
			bind(0, "10.1.0.1:80")
			bind(unix.EADDRNOTAVAIL, "10.77.0.1:80")

			c.serve("0.0.0.0:81", reusePort)
			c.serve("0.0.0.0:81", reusePort)
			bind(unix.EADDRINUSE, "0.0.0.0:81")

			first := c.serve("0.0.0.0:82", reuseAddr)
			client := c.socket(unix.AF_INET)
			c.must(command{Call: "connect", FD: client, Addr: "127.0.0.1:82"})
			accepted := c.must(command{Call: "accept", FD: first}).N
			c.must(command{Call: "close", FD: first})
			c.name(accepted, "127.0.0.1:82") // though the listener is gone
			if got := c.must(command{Call: "getpeername", FD: client}).Addr; got != "127.0.0.1:82" {
				t.Errorf("getpeername says %s", got)
			}
			again := c.serve("0.0.0.0:82", reuseAddr)
			c.reach(again, "127.0.0.1:82")

			// A socket that is bound already.
			fd := bind(0, "10.1.0.1:83")
			c.expect(unix.EINVAL, command{Call: "bind", FD: fd, Addr: "10.1.0.1:84"})
			c.name(fd, "10.1.0.1:83")
			c.must(command{Call: "close", FD: fd})
			bind(0, "10.1.0.1:83")

			// Ports that the kernel picks.
			fd = bind(0, "0.0.0.0:0")
			c.must(command{Call: "listen", FD: fd})
			picked := c.must(command{Call: "getsockname", FD: fd}).Addr
			bind(unix.EADDRINUSE, picked)
			unbound := c.socket(unix.AF_INET)
			c.must(command{Call: "listen", FD: unbound})
			picked = c.must(command{Call: "getsockname", FD: unbound}).Addr
			bind(unix.EADDRINUSE, picked)

			// What is not bound at all, and what is no TCP.
			c.name(c.socket(unix.AF_INET), "0.0.0.0:0")
			c.expect(unix.ECONNREFUSED, command{Call: "connect", FD: c.socket(unix.AF_INET), Addr: "127.0.0.1:4"})
			udp := c.must(command{Call: "socket", Family: unix.AF_INET, Type: unix.SOCK_DGRAM}).N
			c.must(command{Call: "bind", FD: udp, Addr: "127.0.0.1:85"})
			c.name(udp, "127.0.0.1:85")
			c.expect(unix.EAFNOSUPPORT, command{Call: "bind", FD: c.socket(unix.AF_INET), Addr: "[::1]:86"})
		})
	}
}

// TestPortSpaceOthers checks what a container sees of ports that are not its own.
func TestPortSpaceOthers(t *testing.T) {
	n := newNetwork(t)
	a, b := n.container(t, Policy{}), n.container(t, Policy{})
	theirs := a.serve("0.0.0.0:80")
	// A server of the other's is reached where the container has none itself.
	client := b.socket(unix.AF_INET)
	b.must(command{Call: "connect", FD: client, Addr: "127.0.0.1:80"})
	a.must(command{Call: "accept", FD: theirs})
	own := b.serve("0.0.0.0:80")
	b.reach(own, "127.0.0.1:80")
	real := b.binding(80).Real
	// By its real port it is reached from outside, not from inside.
	outside := fmt.Sprintf("127.0.0.1:%d", real)
	from := a.socket(unix.AF_INET)
	a.must(command{Call: "connect", FD: from, Addr: outside})
	b.must(command{Call: "accept", FD: own})
	if got := a.must(command{Call: "getpeername", FD: from}).Addr; got != outside {
		t.Errorf("getpeername says %s, want %s", got, outside)
	}
	b.expect(unix.ECONNREFUSED, command{Call: "connect", FD: b.socket(unix.AF_INET), Addr: outside})
	// Inside the real port is free.
	b.serve(outside)
	if got := b.binding(real).Real; got == real {
		t.Errorf("port %d is two sockets'", real)
	}
	// Once the other has gone, and the own server too, the port is what it says.
	b.must(command{Call: "close", FD: own})
	a.must(command{Call: "close", FD: theirs})
	if list := b.ports.Bindings(); slices.ContainsFunc(list, func(b Binding) bool { return b.Virtual == 80 }) {
		t.Errorf("a closed socket is bound: %+v", list)
	}
}

// TestPortSpaceFastOpen connects by a send.
func TestPortSpaceFastOpen(t *testing.T) {
	n := newNetwork(t)
	a, b := n.container(t, Policy{}), n.container(t, Policy{})
	a.serve("127.0.0.1:80")
	own := b.serve("127.0.0.1:80")
	fd := b.socket(unix.AF_INET)
	b.must(command{Call: "fast open", FD: fd, Addr: "127.0.0.1:80"})
	b.must(command{Call: "accept", FD: own})
	if got := b.must(command{Call: "getpeername", FD: fd}).Addr; got != "127.0.0.1:80" {
		t.Errorf("getpeername says %s", got)
	}
}

// TestPortSpacePrivilege has somebody without capabilities bind ports that take one.
func TestPortSpacePrivilege(t *testing.T) {
	n := newNetwork(t)
	a, b := n.container(t, Policy{}), n.container(t, Policy{})
	a.serve("127.0.0.1:80")
	a.serve("127.0.0.1:2000")
	bind := func(want unix.Errno, addr string) {
		t.Helper()
		b.expect(want, command{Call: "bind", FD: b.socket(unix.AF_INET), Addr: addr, UID: 4242})
	}
	bind(unix.EACCES, "127.0.0.1:80")
	bind(unix.EACCES, "127.0.0.1:81")
	bind(0, "127.0.0.1:2000")
	bind(0, "127.0.0.1:2001")
	b.serve("127.0.0.1:80")
	n.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("81"), 0) })
	bind(unix.EACCES, "127.0.0.1:80")
	bind(0, "127.0.0.1:81")
	n.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0) })
	bind(unix.EADDRINUSE, "127.0.0.1:80")
	bind(0, "127.0.0.1:82")
}

// TestPortSpaceJudges: rules are about the ports that the container knows.
func TestPortSpaceJudges(t *testing.T) {
	n := newNetwork(t)
	p := policy(t, "127.0.0.1:80", "")
	a, b := n.container(t, p), n.container(t, p)
	a.serve("127.0.0.1:80")
	a.serve("127.0.0.1:90")
	own := b.serve("127.0.0.1:80")
	b.serve("127.0.0.1:90")
	b.reach(own, "127.0.0.1:80")
	b.expect(deniedErrno, command{Call: "connect", FD: b.socket(unix.AF_INET), Addr: "127.0.0.1:90"})
	b.expect(deniedErrno, command{Call: "connect", FD: b.socket(unix.AF_INET), Addr: fmt.Sprintf("127.0.0.1:%d", b.binding(90).Real)})
}

// TestPortSpaceView looks at /proc/net/tcp as the two containers are to see it.
func TestPortSpaceView(t *testing.T) {
	n := newNetwork(t)
	a, b := n.container(t, Policy{}), n.container(t, Policy{})
	foreign := a.serve("0.0.0.0:80")
	own := b.serve("0.0.0.0:80")
	b.serve("[::]:81")
	client := b.socket(unix.AF_INET)
	b.must(command{Call: "connect", FD: client, Addr: "127.0.0.1:80"})
	b.must(command{Call: "accept", FD: own})
	port := netip.MustParseAddrPort(b.must(command{Call: "getsockname", FD: client}).Addr).Port()
	real := b.binding(80).Real
	// Others: a connection of theirs to the port that inside is the container's own, one to a port of their own, one to the container.
	theirs := func(server int, addr string) (port uint16) {
		t.Helper()
		fd := a.socket(unix.AF_INET)
		a.must(command{Call: "connect", FD: fd, Addr: addr})
		if server != 0 {
			a.must(command{Call: "accept", FD: server})
		} else {
			b.must(command{Call: "accept", FD: own})
		}
		return netip.MustParseAddrPort(a.must(command{Call: "getsockname", FD: fd}).Addr).Port()
	}
	theirs(foreign, "127.0.0.1:80")
	toThem, toUs := theirs(a.serve("0.0.0.0:90"), "127.0.0.1:90"), theirs(0, fmt.Sprintf("127.0.0.1:%d", real))
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", b.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	summary := func(text []byte) []string {
		var lines []string
		for line := range bytes.Lines(text) {
			if l, ok := parseTCPLine(line); ok {
				lines = append(lines, fmt.Sprintf("%s %s %02X", l.local, l.remote, l.state))
			}
		}
		slices.Sort(lines)
		return lines
	}
	local := func(addr netip.Addr) bool { return addr.IsLoopback() }
	inside := b.ports.view(b.binding(80).where.network, text, local)
	want := []string{
		"0.0.0.0:80 0.0.0.0:0 0A",
		fmt.Sprintf("127.0.0.1:%d 127.0.0.1:80 01", port),
		fmt.Sprintf("127.0.0.1:80 127.0.0.1:%d 01", port),
		"0.0.0.0:90 0.0.0.0:0 0A",
		fmt.Sprintf("127.0.0.1:%d 127.0.0.1:90 01", toThem),
		fmt.Sprintf("127.0.0.1:90 127.0.0.1:%d 01", toThem),
		fmt.Sprintf("127.0.0.1:%d 127.0.0.1:80 01", toUs),
		fmt.Sprintf("127.0.0.1:80 127.0.0.1:%d 01", toUs),
	}
	slices.Sort(want)
	if got := summary(inside); !slices.Equal(got, want) {
		t.Errorf("the container sees %v, want %v", got, want)
	}
	if real == 80 || !slices.Contains(summary(text), fmt.Sprintf("0.0.0.0:%d 0.0.0.0:0 0A", real)) {
		t.Errorf("port %d is not among %v", real, summary(text))
	}
	if heading, _, _ := bytes.Cut(text, []byte("\n")); !bytes.HasPrefix(inside, heading) {
		t.Errorf("the heading is gone: %s", inside)
	}
}

func TestLocalAddresses(t *testing.T) {
	trie := []byte("Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.7.0.0\n        /16 host LOCAL\n" +
		"     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n")
	list := []byte("00000000000000000000000000000001 01 80 10 80       lo\nfd000000000000000000000000000002 04 40 00 82     eth0\n")
	for addr, want := range map[string]bool{
		"192.0.2.2": true, "192.0.2.255": false, "192.0.2.3": false, "10.7.8.9": true, "10.8.0.1": false,
		"fd00::2": true, "fd00::3": false, "::1": true,
	} {
		a, look, text := netip.MustParseAddr(addr), localInTrie, trie
		if a.Is6() {
			look, text = localInList, list
		}
		if got := look(text, a); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// TestPortSpaceBindPolicy: which ports may be bound is about the ports inside.
func TestPortSpaceBindPolicy(t *testing.T) {
	n := newNetwork(t)
	other := n.container(t, Policy{})
	other.serve("0.0.0.0:80")
	c := n.boundContainer(t, Policy{}, NewBindPolicy(Ports{{80, 81}}, nil))
	bind := func(want unix.Errno, addr string) int {
		t.Helper()
		fd := c.socket(unix.AF_INET)
		c.expect(want, command{Call: "bind", FD: fd, Addr: addr})
		return fd
	}
	c.reach(c.serve("0.0.0.0:80"), "127.0.0.1:80") // though its port outside is none of them
	c.must(command{Call: "listen", FD: bind(0, "0.0.0.0:81")})
	bind(unix.EACCES, "0.0.0.0:82")
	bind(unix.EACCES, "0.0.0.0:0")
	c.expect(unix.EACCES, command{Call: "listen", FD: c.socket(unix.AF_INET)})
	unixSocket := c.must(command{Call: "socket", Family: unix.AF_UNIX, Type: unix.SOCK_STREAM}).N
	c.expect(unix.EINVAL, command{Call: "listen", FD: unixSocket}) // not bound, as the kernel says
}
