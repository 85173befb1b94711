package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// agentEvent is what the runtime tells an agent, as docs/agent.md has it.
type agentEvent struct {
	Type      string   `json:"type"`
	Version   int      `json:"version"`
	Container string   `json:"container"`
	ID        uint64   `json:"id"`
	Syscall   string   `json:"syscall"`
	Category  string   `json:"category"`
	Held      bool     `json:"held"`
	Denied    bool     `json:"denied"`
	PID       int      `json:"pid"`
	ParentPID int      `json:"ppid"`
	StartTime uint64   `json:"start_time"`
	GuestPID  int      `json:"guest_pid"`
	GuestPPID int      `json:"guest_ppid"`
	Protocol  string   `json:"protocol"`
	Addr      string   `json:"addr"`
	Port      int      `json:"port"`
	Size      uint64   `json:"size"`
	Flags     uint32   `json:"flags"`
	Argv      []string `json:"argv"`
	ArgvTotal int      `json:"argv_total"`
	ArgvCut   bool     `json:"argv_cut"`
	Error     string   `json:"error"`
}

// Verdicts, as an agent says them.
const (
	allow = `"verdict":"allow"`
	deny  = `"verdict":"deny"`
	audit = `"verdict":"audit"`
)

const helloAll = `{"type":"hello","version":1}`

// testAgent is an agent of one container.
type testAgent struct {
	t        testing.TB
	path     string
	listener *net.UnixListener
	judge    func(agentEvent) string // returns a verdict, or "" to keep silent
	changed  chan agentEvent
	ended    chan struct{} // the runtime has closed the connection

	mu     sync.Mutex
	conn   *net.UnixConn
	events []agentEvent
}

// newAgent starts an agent that greets with hello.
func newAgent(t testing.TB, hello string, judge func(agentEvent) string) *testAgent {
	t.Helper()
	a := &testAgent{t: t, path: filepath.Join(shortTempDir(t), "agent.sock"), judge: judge, changed: make(chan agentEvent, 100), ended: make(chan struct{})}
	var err error
	if a.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: a.path, Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.listener.Close() })
	go a.serve(hello)
	return a
}

func (a *testAgent) serve(hello string) {
	defer close(a.ended)
	conn, err := a.listener.AcceptUnix()
	if err != nil {
		return
	}
	defer conn.Close()
	a.mu.Lock()
	a.conn = conn
	a.mu.Unlock()
	a.say("%s", hello)
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var e agentEvent
		if err := json.Unmarshal(line, &e); err != nil {
			a.t.Errorf("the agent was told %q: %v", line, err)
			return
		}
		switch e.Type {
		case "changed":
			a.changed <- e
		case "event":
			a.mu.Lock()
			a.events = append(a.events, e)
			a.mu.Unlock()
			if !e.Held {
				continue
			}
			if verdict := a.judge(e); verdict != "" {
				a.say(`{"type":"verdict","id":%d,%s}`, e.ID, verdict)
			}
		}
	}
}

// say sends a line. It is no error that nobody listens any more.
func (a *testAgent) say(format string, values ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.conn, format+"\n", values...)
}

// hangUp ends the conversation.
func (a *testAgent) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.Close()
}

// change asks for a change and returns the error it got.
func (a *testAgent) change(format string, values ...any) string {
	a.t.Helper()
	a.say(`{"type":"change","id":5,`+format+`}`, values...)
	e, open := <-a.changed
	if !open || e.ID != 5 {
		a.t.Fatalf("answer to a change: %+v", e)
	}
	return e.Error
}

// find returns the events so far that match.
func (a *testAgent) find(match func(agentEvent) bool) (found []agentEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// newRuntimeWithAgent returns the runtime under test, with an operator whose containers all have the agent at path.
func newRuntimeWithAgent(t testing.TB, path string) *ociRuntime {
	t.Helper()
	r := newRuntime(t)
	config := filepath.Join(shortTempDir(t), "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[policy]\nsocket = %q\n", path), 0o600); err != nil {
		t.Fatal(err)
	}
	r.args = append(r.args, "--config", config)
	return r
}

func allowAll(agentEvent) string { return allow }
