package testguest

import (
	"encoding/gob"
	"net"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Options are what a guest is started with.
type Options struct {
	Variable string            // the one of Main
	Program  []unix.SockFilter // nil: no filter
	Flags    uintptr           // of seccomp(2), besides those that ask for a listener and for all threads
	Setting  any               // what Self.Setting reads; nil if it is not called
	Change   func(*exec.Cmd)   // changes the command before it is started, if it is not nil
}

// Guest is a running guest, seen from the test. It is not for more than one goroutine at a time.
type Guest[Order, Outcome any] struct {
	testing.TB
	Cmd *exec.Cmd

	conn     *net.UnixConn
	in       *gob.Decoder
	out      *gob.Encoder
	listener int // -1: none, or taken
}

// Start starts a guest and waits until it is confined. It ends with the test.
func Start[Order, Outcome any](t testing.TB, o Options) *Guest[Order, Outcome] {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(pair[1]), "guest"), os.NewFile(uintptr(pair[0]), "test")
	defer theirs.Close()
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), o.Variable+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if o.Change != nil {
		o.Change(cmd)
	}
	c, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Close()
		t.Fatal(err)
	}
	theirs.Close() // or a guest that ends would go unnoticed
	g := &Guest[Order, Outcome]{TB: t, Cmd: cmd, conn: c.(*net.UnixConn), listener: -1}
	t.Cleanup(g.End)
	g.in, g.out = gob.NewDecoder(g.conn), gob.NewEncoder(g.conn)
	if err := g.out.Encode(filter{o.Program, o.Flags}); err != nil {
		t.Fatal(err)
	}
	if o.Setting != nil {
		if err := g.out.Encode(o.Setting); err != nil {
			t.Fatal(err)
		}
	}
	g.receiveListener(o.Program != nil)
	return g
}

// receiveListener waits until the guest is confined.
func (g *Guest[Order, Outcome]) receiveListener(filtered bool) {
	g.Helper()
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := g.conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		g.Fatalf("the guest is gone: %v", err)
	}
	if !filtered {
		return
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		g.Fatalf("no listener from the guest: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		g.Fatal(err)
	}
	g.listener = fds[0]
}

// TakeListener hands the guest's listener over.
func (g *Guest[Order, Outcome]) TakeListener() int {
	fd := g.listener
	g.listener = -1
	return fd
}

// End kills the guest, waits for it and closes its listener, unless that was taken. It may be called again.
func (g *Guest[Order, Outcome]) End() {
	g.conn.Close()
	_ = g.Cmd.Process.Kill()
	_ = g.Cmd.Wait()
	if g.listener >= 0 {
		unix.Close(g.listener)
		g.listener = -1
	}
}

// Send asks the guest for something without waiting for the outcome.
func (g *Guest[Order, Outcome]) Send(o Order) {
	g.Helper()
	if err := g.out.Encode(o); err != nil {
		g.Fatal(err)
	}
}

// Receive waits for the outcome of what was asked for.
func (g *Guest[Order, Outcome]) Receive() Outcome {
	g.Helper()
	var r Outcome
	if err := g.in.Decode(&r); err != nil {
		g.Fatalf("the guest is gone: %v", err)
	}
	return r
}

// Do asks the guest for something and waits for the outcome.
func (g *Guest[Order, Outcome]) Do(o Order) Outcome {
	g.Helper()
	g.Send(o)
	return g.Receive()
}
