package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// listen makes a socket for an agent and returns its path.
func listen(t testing.TB) (*net.UnixListener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

// theirs is the agent's end.
type theirs struct {
	t    testing.TB
	conn *net.UnixConn
	in   *bufio.Scanner
}

func (a *theirs) say(format string, values ...any) {
	a.t.Helper()
	if _, err := fmt.Fprintf(a.conn, format+"\n", values...); err != nil {
		a.t.Errorf("the agent: %v", err)
	}
}

func (a *theirs) hear() map[string]any {
	a.t.Helper()
	if !a.in.Scan() {
		a.t.Fatalf("the agent hears nothing: %v", a.in.Err())
	}
	var m map[string]any
	if err := json.Unmarshal(a.in.Bytes(), &m); err != nil {
		a.t.Fatal(err)
	}
	return m
}

// ended waits until the other side has closed.
func (a *theirs) ended() {
	a.t.Helper()
	for a.in.Scan() {
	}
	// A reset is the same with something left unread.
	if err := a.in.Err(); err != nil && !errors.Is(err, unix.ECONNRESET) {
		a.t.Error(err)
	}
}

// dial has an agent that says hello with a line accept a connection.
func dial(t testing.TB, hello string) (*Conn, *theirs, error) {
	t.Helper()
	l, path := listen(t)
	a := &theirs{t: t}
	done := make(chan error, 1)
	go func() {
		conn, err := l.AcceptUnix()
		if err == nil {
			a.conn, a.in = conn, bufio.NewScanner(conn)
			_, err = fmt.Fprint(conn, hello)
		}
		done <- err
	}()
	c, err := Dial(Config{Path: path, Container: "c0ffee"})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.conn.Close() })
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, a, err
}

const goodHello = `{"type":"hello","version":1}` + "\n"

// talk makes a conversation.
func talk(t testing.TB, change func(Change) error) (*Conn, *theirs, chan error) {
	t.Helper()
	c, a, err := dial(t, goodHello)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	c.Start(change, func(err error) { ended <- err })
	if m := a.hear(); m["type"] != "hello" || m["version"] != float64(Version) || m["container"] != "c0ffee" {
		t.Fatalf("greeting %v", m)
	}
	return c, a, ended
}

// judged is what becomes of an event, by another goroutine.
func judged(c *Conn, ctx context.Context, e seccompnotif.Event) chan error {
	result := make(chan error, 1)
	go func() {
		v, err := c.Judge(ctx, e)
		switch {
		case err != nil:
			result <- err
		case v.Decision == seccompnotif.Deny:
			result <- v.Errno
		default:
			result <- map[seccompnotif.Decision]error{seccompnotif.Allow: nil, seccompnotif.Audit: errAudit}[v.Decision]
		}
	}()
	return result
}
