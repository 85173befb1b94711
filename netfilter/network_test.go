package netfilter

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a network namespace.
type network struct {
	jobs chan func()
}

// newNetwork makes a network namespace whose loopback interface has, besides its own, the addresses 10.1.0.1, 10.1.0.2,
// fd00:1::1 and fd00:1::2. What is sent to 10.9.0.2 is lost without an answer.
func newNetwork(t testing.TB) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: network namespaces and impersonation take root")
	}
	n := &network{jobs: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the test
		for job := range n.jobs {
			job()
		}
	}()
	t.Cleanup(func() { close(n.jobs) })
	n.do(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		for _, command := range []string{
			"link set lo up",
			"addr add 10.1.0.1/32 dev lo", "addr add 10.1.0.2/32 dev lo",
			"addr add fd00:1::1/128 dev lo nodad", "addr add fd00:1::2/128 dev lo nodad",
			"link add lost type veth peer name nowhere", "addr add 10.9.0.1/24 dev lost",
			"link set lost up", "link set nowhere up", "neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev lost",
		} {
			if err := ip(command); err != nil {
				return err
			}
		}
		return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	})
	return n
}

// ip runs ip(8) in the namespace of the calling thread.
func ip(command string) error {
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, out)
	}
	return nil
}

// do runs f on the thread that is in the namespace. Sockets that f makes, and processes that it starts, stay there.
func (n *network) do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	n.jobs <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// server receives over TCP or UDP at one address.
type server struct {
	t       testing.TB
	network *network
	addr    netip.AddrPort
	tcp     *net.TCPListener
	udp     *net.UDPConn
}

// listen starts a server; network is "tcp" or "udp". A port 0 is replaced by a free one.
func (n *network) listen(t testing.TB, network, addr string) *server {
	t.Helper()
	s := &server{t: t, network: n}
	n.do(t, func() (err error) {
		at := netip.MustParseAddrPort(addr)
		if network == "tcp" {
			s.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
			if err == nil {
				s.addr = s.tcp.Addr().(*net.TCPAddr).AddrPort()
			}
			return err
		}
		s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err == nil {
			s.addr = s.udp.LocalAddr().(*net.UDPAddr).AddrPort()
		}
		return err
	})
	t.Cleanup(func() {
		if s.tcp != nil {
			s.tcp.Close()
		} else {
			s.udp.Close()
		}
	})
	return s
}

// next waits for the next datagram, or for the next connection and all that is sent over it.
func (s *server) next() string {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute) // so that a failing test ends
	if s.udp != nil {
		_ = s.udp.SetReadDeadline(deadline)
		b := make([]byte, 65536)
		n, _, err := s.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			s.t.Fatal(err)
		}
		return string(b[:n])
	}
	_ = s.tcp.SetDeadline(deadline)
	conn, err := s.tcp.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	b, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// heard tells whether a datagram is there, or came with an error.
func (s *server) heard() bool {
	s.t.Helper()
	raw, err := s.udp.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	n, b := 0, make([]byte, 1)
	if err := raw.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_PEEK) }); err != nil {
		s.t.Fatal(err)
	}
	return n > 0
}

// untouched checks that nothing has arrived since the last next: what the test itself sends now arrives first.
func (s *server) untouched() {
	s.t.Helper()
	const sentinel = "sent by the test itself"
	s.network.do(s.t, func() error {
		kind := "tcp"
		if s.udp != nil {
			kind = "udp"
		}
		conn, err := net.Dial(kind, s.addr.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte(sentinel))
		return err
	})
	if got := s.next(); got != sentinel {
		s.t.Errorf("%s got %q of the guest", s.addr, got)
	}
}
