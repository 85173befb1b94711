package netfilter

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listening is one try to have a socket listen.
type listening struct {
	How    string // see listens
	Family int
	Port   uint16
}

func init() {
	scenarios["listen"] = func(me *self) any {
		var list []listening
		me.arguments(&list)
		var results []outcome
		for _, l := range list {
			results = append(results, l.make())
		}
		me.tell(results)
		me.wait() // with the sockets open
		return nil
	}
}

func (l listening) make() outcome {
	kind, protocol := unix.SOCK_STREAM, 0
	if l.How == "udp" {
		kind = unix.SOCK_DGRAM
	}
	if l.How == "mptcp" {
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(l.Family, kind, protocol)
	if err != nil {
		return outcome{-1, err.(unix.Errno), "socket"}
	}
	var at unix.Sockaddr = &unix.SockaddrInet4{Port: int(l.Port), Addr: [4]byte{127, 0, 0, 1}}
	if l.Family == unix.AF_INET6 {
		at = &unix.SockaddrInet6{Port: int(l.Port), Addr: [16]byte{15: 1}}
	}
	if l.How == "unix" {
		at = &unix.SockaddrUnix{Name: "@listen-test"}
	}
	if l.How == "disconnected" {
		// The port that it has had from the connection still shows, and the next one is another.
		if err := unix.Connect(fd, at); err != nil {
			return outcome{-1, err.(unix.Errno), "connect"}
		}
		unspecified := make([]byte, unix.SizeofSockaddrInet4)
		if _, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), pointer(unspecified), uintptr(len(unspecified))); errno != 0 {
			return outcome{-1, errno, "disconnect"}
		}
	} else if l.How != "unbound" {
		if err := unix.Bind(fd, at); err != nil {
			return outcome{-1, err.(unix.Errno), "bind"}
		}
	}
	r := raw("listen", unix.SYS_LISTEN, uintptr(fd), 4, 0, 0, 0, 0)
	if r.Errno == 0 {
		if again := raw("listen again", unix.SYS_LISTEN, uintptr(fd), 8, 0, 0, 0, 0); again.Errno != 0 {
			return again
		}
	}
	if accepting, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || (accepting == 1) != (r.Errno == 0) {
		return outcome{accepting, unix.EPROTO, "what became of listen"}
	}
	return r
}

func TestListen(t *testing.T) {
	n := newNetwork(t)
	other := n.listen(t, "tcp", "127.0.0.1:0")
	denied := outcome{-1, unix.EACCES, "listen"}
	list := []struct {
		listening
		want outcome
	}{
		{listening{"bound", unix.AF_INET, 8080}, outcome{}},
		{listening{"bound", unix.AF_INET6, 8080}, outcome{}},
		{listening{"bound", unix.AF_INET, 8081}, denied}, // Landlock would have refused the bind
		{listening{"bound", unix.AF_INET6, 8081}, denied},
		{listening{"unbound", unix.AF_INET, 0}, denied},
		{listening{"unbound", unix.AF_INET6, 0}, denied},
		{listening{"udp", unix.AF_INET, 8080}, outcome{-1, unix.EOPNOTSUPP, "listen"}},
		{listening{"mptcp", unix.AF_INET, 8080}, outcome{-1, unix.EPROTONOSUPPORT, "socket"}},
		{listening{"smc", unix.AF_SMC, 8080}, outcome{-1, unix.EAFNOSUPPORT, "socket"}},
		{listening{"unix", unix.AF_UNIX, 0}, outcome{}},
		{listening{"disconnected", unix.AF_INET, other.addr.Port()}, denied},
	}
	var tries []listening
	for _, l := range list {
		tries = append(tries, l.listening)
	}
	g := n.start(t, Policy{}, "listen", guestOptions{args: tries, bind: NewBindPolicy(ports(t, "8080"), nil)})
	var got []outcome
	g.hear(&got)
	for i, l := range list {
		if got[i] != l.want {
			t.Errorf("%+v: %+v, want %+v", l.listening, got[i], l.want)
		}
	}
	n.do(t, func() error {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:8080", time.Minute)
		if err == nil {
			conn.Close()
		}
		return err
	})
	var reasons []string
	for _, d := range g.denied() {
		reasons = append(reasons, d.String()[:strings.Index(d.String(), " by thread")]+d.String()[strings.LastIndex(d.String(), ": "):])
	}
	want := []string{
		"listen (tcp) on 127.0.0.1:8081: the port may not be bound", "listen (tcp) on [::1]:8081: the port may not be bound",
		"listen (tcp): the socket is not bound, and the kernel would choose a port that may not be bound",
		"listen (tcp): the socket is not bound, and the kernel would choose a port that may not be bound",
	}
	for i, w := range want {
		if i >= len(reasons) || reasons[i] != w {
			t.Fatalf("denials: %q, want %q", reasons, want)
		}
	}
	if len(reasons) != len(want)+1 {
		t.Errorf("denials: %q", reasons)
	}
	g.say("end")
}

// The port that a socket shows may be one that it does not have any more.
func TestListenAfterDisconnecting(t *testing.T) {
	n := newNetwork(t)
	other := n.listen(t, "tcp", "127.0.0.1:0")
	// Half of what the kernel chooses from: with the one that shows allowed and the one that it gets denied, sooner or later.
	var even Ports
	for p := uint16(32768); p < 60999; p += 2 {
		even = append(even, PortRange{p, p})
	}
	tries := make([]listening, 64)
	for i := range tries {
		tries[i] = listening{"disconnected", unix.AF_INET, other.addr.Port()}
	}
	g := n.start(t, Policy{}, "listen", guestOptions{args: tries, bind: NewBindPolicy(even, nil)})
	var got []outcome
	g.hear(&got)
	for _, o := range got {
		if o != (outcome{}) && o != (outcome{-1, unix.EACCES, "listen"}) {
			t.Errorf("%+v", o)
		}
	}
	n.do(t, func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		const listen = "0A" // TCP_LISTEN of the kernel's tcp_states.h
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[3] == listen && strings.HasPrefix(fields[1], "00000000:") && strings.ContainsAny(fields[1][len(fields[1])-1:], "13579BDF") {
				t.Errorf("it listens on an odd port: %s", fields[1])
			}
		}
		return nil
	})
	g.say("end")
}
