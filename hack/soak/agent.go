package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// agent is one that allows everything, and has the rules change all the time.
type agent struct {
	listener *net.UnixListener
	changed  chan error

	mu    sync.Mutex
	conn  net.Conn
	pid   int // a process of the last events, and when it started
	start uint64

	changing sync.Mutex
}

func newAgent(path string) (*agent, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	a := &agent{listener: listener, changed: make(chan error)}
	go a.serve()
	return a, nil
}

func (a *agent) path() string { return a.listener.Addr().String() }

func (a *agent) close() {
	a.listener.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		a.conn.Close()
	}
}

// serve has one conversation, for as long as the container lives. What goes wrong with it shows as steps that fail: without an agent all is denied.
func (a *agent) serve() {
	conn, err := a.listener.Accept()
	if err != nil {
		return // closed
	}
	a.mu.Lock()
	a.conn = conn
	a.mu.Unlock()
	a.say(`{"type":"hello","version":1,"categories":["network","process"],"deny_paths":true}`)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var e struct {
			Type, Error string
			ID          uint64
			Held        bool
			PID         int
			StartTime   uint64 `json:"start_time"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println("FAILED the agent was told", lines.Text())
			conn.Close()
			return
		}
		switch e.Type {
		case "event":
			a.mu.Lock()
			a.pid, a.start = e.PID, e.StartTime
			a.mu.Unlock()
			if e.Held {
				a.say(`{"type":"verdict","id":%d,"verdict":"allow"}`, e.ID)
			}
		case "changed":
			a.changed <- errorOf(e.Error)
		}
	}
}

func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return fmt.Errorf("change: %s", text)
}

// say sends a line. That nobody listens any more shows elsewhere.
func (a *agent) say(format string, values ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.conn, format+"\n", values...)
}

// changeAll narrows and grants back everything that can be, for the container and for one process, which may be gone by then.
func (a *agent) changeAll(step int) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	for _, change := range []string{
		`"op":"narrow","network":{"deny":["198.51.100.0/24"]}`, `"op":"grant","network":{"allow":["198.51.100.7"]}`, `"op":"grant","network":{}`,
		`"op":"narrow","memory":1000000000`, `"op":"grant","memory":2000000000`, `"op":"narrow","processes":60`, `"op":"grant","processes":64`,
		`"op":"restrict","deny_path":"/var/www/denied"`,
	} {
		if err := a.change(step, change); err != nil {
			return fmt.Errorf("%s: %w", change, err)
		}
	}
	a.mu.Lock()
	pid, start := a.pid, a.start
	a.mu.Unlock()
	_ = a.change(step, fmt.Sprintf(`"op":"narrow","network":{"deny":["198.51.100.0/24"]},"pid":%d,"start_time":%d`, pid, start)) // it may be gone
	return nil
}

func (a *agent) change(id int, what string) error {
	a.say(`{"type":"change","id":%d,%s}`, id+1, what)
	select {
	case err := <-a.changed:
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("no answer")
	}
}
