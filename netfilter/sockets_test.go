package netfilter

import (
	"encoding/json"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { scenarios["sockets"] = socketCommands }

// command is one system call that a test has a guest make.
type command struct {
	Call   string
	FD     int
	Family int
	Type   int
	Option []int // level, name, value
	Addr   string
	File   string // {tid} is the caller
	Dir    string // where File begins; empty is the working directory
	UID    int    // make the call as this user, without capabilities
}

// reply is what came of it.
type reply struct {
	N     int
	Errno unix.Errno
	Addr  string
	Text  string
}

// socketCommands makes the calls that the test names, until it is over.
func socketCommands(me *self) any {
	for {
		var c command
		if err := json.Unmarshal([]byte(me.wait()), &c); err != nil {
			panic(err)
		}
		if c.UID == 0 {
			me.tell(c.make())
			continue
		}
		done := make(chan reply)
		go func() {
			runtime.LockOSThread() // and never unlock
			become(c.UID, c.UID)
			done <- c.make()
		}()
		me.tell(<-done)
	}
}

func (c command) make() reply {
	var sa []byte
	if c.Addr != "" {
		sa = sockaddr(netip.MustParseAddrPort(c.Addr))
	}
	of := func(n int, err error) reply { return reply{N: n, Errno: errnoOf(err, 0)} }
	name := func(trap uintptr) reply {
		b, size := make([]byte, 200), uint32(200)
		_, _, errno := unix.Syscall(trap, uintptr(c.FD), pointer(b), uintptr(unsafe.Pointer(&size)))
		if errno != 0 {
			return reply{Errno: errno}
		}
		at, _ := inetAddress(b[:size])
		return reply{N: int(size), Addr: at.String()}
	}
	switch c.Call {
	case "socket":
		return of(unix.Socket(c.Family, c.Type, 0))
	case "option":
		return of(0, unix.SetsockoptInt(c.FD, c.Option[0], c.Option[1], c.Option[2]))
	case "bind":
		r := raw("bind", unix.SYS_BIND, uintptr(c.FD), pointer(sa), uintptr(len(sa)), 0, 0, 0)
		return reply{N: r.N, Errno: r.Errno}
	case "listen":
		return of(0, unix.Listen(c.FD, 5))
	case "connect":
		r := raw("connect", unix.SYS_CONNECT, uintptr(c.FD), pointer(sa), uintptr(len(sa)), 0, 0, 0)
		return reply{N: r.N, Errno: r.Errno}
	case "fast open":
		data := []byte("fast")
		r := raw("sendto", unix.SYS_SENDTO, uintptr(c.FD), pointer(data), uintptr(len(data)), unix.MSG_FASTOPEN, pointer(sa), uintptr(len(sa)))
		return reply{N: r.N, Errno: r.Errno}
	case "accept":
		n, _, errno := unix.Syscall(unix.SYS_ACCEPT, uintptr(c.FD), 0, 0)
		return reply{N: int(n), Errno: errno}
	case "getsockname":
		return name(unix.SYS_GETSOCKNAME)
	case "getpeername":
		return name(unix.SYS_GETPEERNAME)
	case "close":
		return of(0, unix.Close(c.FD))
	case "read", "read openat2", "read reopened":
		text, err := c.read()
		return reply{Errno: errnoOf(err, 0), Text: string(text)}
	}
	panic(c.Call)
}

// container is a guest with a port space of its own.
type container struct {
	*guest
	ports *PortSpace
}

// plain is a guest whom nobody supervises: what it sees is the kernel's own doing.
func (n *network) plain(t *testing.T) *container {
	t.Helper()
	return &container{guest: n.start(t, Policy{}, "sockets", guestOptions{})}
}

func (n *network) container(t *testing.T, p Policy) *container {
	t.Helper()
	return n.boundContainer(t, p, BindPolicy{})
}

// boundContainer is a container that may bind some ports only. What Landlock would do beside is not done.
func (n *network) boundContainer(t *testing.T, p Policy, bind BindPolicy) *container {
	t.Helper()
	ports, err := NewPortSpace(PortSpaceConfig{Bind: bind})
	if err != nil {
		t.Fatal(err)
	}
	c := &container{n.start(t, p, "sockets", guestOptions{ports: ports}), ports}
	t.Cleanup(func() {
		c.end()
		ports.Close()
	})
	return c
}

func (c *container) call(cmd command) reply {
	c.t.Helper()
	text, err := json.Marshal(cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	c.say(string(text))
	var r reply
	c.hear(&r)
	return r
}

// must makes a call that has to succeed.
func (c *container) must(cmd command) reply {
	c.t.Helper()
	r := c.call(cmd)
	if r.Errno != 0 {
		c.t.Fatalf("%+v: %v", cmd, r.Errno)
	}
	return r
}

// expect makes a call that has to end with an errno.
func (c *container) expect(want unix.Errno, cmd command) {
	c.t.Helper()
	if r := c.call(cmd); r.Errno != want {
		c.t.Errorf("%+v: %v, want %v", cmd, r.Errno, want)
	}
}

func (c *container) socket(family int, options ...[]int) int {
	c.t.Helper()
	fd := c.must(command{Call: "socket", Family: family, Type: unix.SOCK_STREAM}).N
	for _, o := range options {
		c.must(command{Call: "option", FD: fd, Option: o})
	}
	return fd
}

// serve binds a socket and listens, and returns it.
func (c *container) serve(addr string, options ...[]int) int {
	c.t.Helper()
	family := unix.AF_INET
	if strings.HasPrefix(addr, "[") {
		family = unix.AF_INET6
	}
	fd := c.socket(family, options...)
	c.must(command{Call: "bind", FD: fd, Addr: addr})
	c.must(command{Call: "listen", FD: fd})
	return fd
}

// name checks what getsockname says.
func (c *container) name(fd int, want string) {
	c.t.Helper()
	if got := c.must(command{Call: "getsockname", FD: fd}).Addr; got != want {
		c.t.Errorf("getsockname says %s, want %s", got, want)
	}
}

// reach connects to an address and checks that the listener is what it gets to, and what both ends say of each other.
func (c *container) reach(listener int, addr string) {
	c.t.Helper()
	family := unix.AF_INET
	if strings.HasPrefix(addr, "[") {
		family = unix.AF_INET6
	}
	fd := c.socket(family)
	c.must(command{Call: "connect", FD: fd, Addr: addr})
	peer := c.must(command{Call: "accept", FD: listener}).N
	if got := c.must(command{Call: "getpeername", FD: fd}).Addr; got != addr {
		c.t.Errorf("connected to %s, getpeername says %s", addr, got)
	}
	ours, theirs := c.must(command{Call: "getsockname", FD: fd}).Addr, c.must(command{Call: "getpeername", FD: peer}).Addr
	if netip.MustParseAddrPort(ours).Port() != netip.MustParseAddrPort(theirs).Port() {
		c.t.Errorf("the client is %s, the server says %s", ours, theirs)
	}
	if got := netip.MustParseAddrPort(c.must(command{Call: "getsockname", FD: peer}).Addr).Port(); got != netip.MustParseAddrPort(addr).Port() {
		c.t.Errorf("connected to %s, the accepted socket is at port %d", addr, got)
	}
	c.must(command{Call: "close", FD: fd})
	c.must(command{Call: "close", FD: peer})
}

func (c *container) binding(virtual uint16) Binding {
	c.t.Helper()
	for _, b := range c.ports.Bindings() {
		if b.Virtual == virtual {
			return b
		}
	}
	c.t.Fatalf("no binding of %d in %+v", virtual, c.ports.Bindings())
	return Binding{}
}
