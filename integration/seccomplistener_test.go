package integration

import (
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// notification and notificationAnswer are struct seccomp_notif and struct seccomp_notif_resp of linux/seccomp.h.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type notificationAnswer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// handedOver is what the agent of a seccomp profile gets.
type handedOver struct {
	state    specs.ContainerProcessState
	listener int
}

// profileAgent listens at a path for the listeners of seccomp profiles.
type profileAgent struct {
	path string
	got  chan handedOver
}

func newProfileAgent(t *testing.T) *profileAgent {
	t.Helper()
	a := &profileAgent{path: filepath.Join(shortTempDir(t), "agent"), got: make(chan handedOver, 16)}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		for {
			conn, err := socket.AcceptUnix()
			if err != nil {
				return // the test is over
			}
			h, err := receiveListener(conn)
			conn.Close()
			if err != nil {
				t.Errorf("what the agent received: %v", err)
				continue
			}
			a.got <- h
		}
	}()
	return a
}

func receiveListener(conn *net.UnixConn) (h handedOver, err error) {
	message, control := make([]byte, 64<<10), make([]byte, 1024)
	n, oobn, _, _, err := conn.ReadMsgUnix(message, control)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(message[:n], &h.state); err != nil {
		return h, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil {
		return h, err
	}
	if len(messages) != 1 {
		return h, errors.New("not one control message")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return h, err
	}
	if len(fds) != len(h.state.Fds) || len(fds) != 1 {
		return h, errors.New("not one descriptor")
	}
	h.listener = fds[0]
	return h, nil
}

// next is the next listener that arrives.
func (a *profileAgent) next(t *testing.T) handedOver {
	t.Helper()
	select {
	case h := <-a.got:
		return h
	case <-time.After(commandTimeout):
		t.Fatal("no listener came")
		return handedOver{}
	}
}

// serve answers mkdir with ENOMEDIUM, which it would never fail with otherwise, and lets everything else pass, until nobody is left who could ask.
func (h handedOver) serve(t *testing.T) {
	ask := func(request uintptr, arg unsafe.Pointer) error {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(h.listener), request, uintptr(arg)); e != 0 {
			return e
		}
		return nil
	}
	go func() {
		defer unix.Close(h.listener)
		for {
			ready := []unix.PollFd{{Fd: int32(h.listener), Events: unix.POLLIN}}
			if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
				t.Errorf("poll of the listener: %v", err)
				return
			}
			if ready[0].Revents&unix.POLLIN == 0 {
				if ready[0].Revents != 0 {
					return
				}
				continue
			}
			var n notification
			if err := ask(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
				continue // it has been killed meanwhile
			}
			answer := notificationAnswer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
			if slices.Contains(mkdirs, int(n.nr)) {
				answer = notificationAnswer{id: n.id, errno: -int32(unix.ENOMEDIUM)}
			}
			_ = ask(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer)) // it may have been killed
		}
	}()
}

// notifying gives the bundle a profile that has the agent asked about these calls, besides mkdir.
func (b *bundle) notifying(a *profileAgent, calls ...string) {
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: a.path, ListenerMetadata: "what the agent is to know",
		Syscalls: []specs.LinuxSyscall{{Names: append([]string{"mkdir", "mkdirat"}, calls...), Action: specs.ActNotify}},
	}
}

const (
	askMkdir   = "mkdir /made 2>&1; rmdir /made 2>/dev/null && echo made"
	refusedDir = "mkdir: can't create directory '/made': No medium found"
)

// Config-linux.md, Seccomp: listenerPath, listenerMetadata and the container process state.
func TestSeccompListener(t *testing.T) {
	for name, calls := range map[string][]string{
		"one call":                          nil,
		"calls that the start itself takes": {"read", "execve", "close"},
	} {
		if calls != nil && !ours {
			t.Logf("%s: runc's create waits for an agent that answers, left out", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			a, r := newProfileAgent(t), newRuntime(t)
			b := script(t, askMkdir+"; sleep 1000")
			b.annotate("org.example.key", "value")
			b.notifying(a, calls...)
			c := r.create(t, b)
			h := a.next(t)
			got := h.state
			want := specs.ContainerProcessState{
				Version: got.Version, Fds: []string{"seccompFd"}, Pid: c.pid, Metadata: "what the agent is to know",
				State: specs.State{Version: got.State.Version, ID: b.id, Status: specs.StateCreating, Pid: c.pid, Bundle: b.dir, Annotations: b.spec.Annotations},
			}
			if text, _ := json.Marshal(got); string(text) != mustJSON(t, want) {
				t.Errorf("of init: got %s, want %s", text, mustJSON(t, want))
			}
			// Who waits for start may be the agent itself.
			r.must(t, "start", c.id)
			h.serve(t)
			if line := c.line(t); line != refusedDir {
				t.Errorf("init: %q", line)
			}
			answered := make(chan handedOver, 1)
			go func() {
				h := <-a.got
				h.serve(t)
				answered <- h
			}()
			if out := r.must(t, "exec", c.id, "/bin/sh", "-c", askMkdir+"; true"); out != refusedDir+"\n" {
				t.Errorf("exec: %q", out)
			}
			got = (<-answered).state
			if got.Pid == c.pid || got.Pid == 0 || got.State.Pid != c.pid || got.State.Status != specs.StateRunning || got.State.ID != b.id {
				t.Errorf("of exec: %s", mustJSON(t, got))
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What nobody could answer is refused, and leaves nothing.
func TestSeccompListenerRefused(t *testing.T) {
	for name, row := range map[string]struct {
		change func(p *specs.LinuxSeccomp)
		word   string
	}{
		"nobody listens":   {func(p *specs.LinuxSeccomp) { p.ListenerPath += "-not" }, "no such file"},
		"no path":          {func(p *specs.LinuxSeccomp) { p.ListenerPath, p.ListenerMetadata = "", "" }, "listenerPath"},
		"write":            {func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = []string{"write"} }, "write"},
		"for all the rest": {func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActNotify }, "SCMP_ACT_NOTIFY"},
	} {
		t.Run(name, func(t *testing.T) {
			a, r := newProfileAgent(t), newRuntime(t)
			b := script(t, "echo ran")
			b.notifying(a)
			row.change(b.spec.Linux.Seccomp)
			got := r.runBundle(t, b)
			if got.code == 0 || got.stdout != "" || !strings.Contains(got.stderr, row.word) {
				t.Error(got)
			}
			assertNothingLeft(t, r, b)
		})
	}
}

// A process can have one listener: a policy that takes one and a profile that has one do not go together.
func TestPolicyWithSeccompListener(t *testing.T) {
	a, r := newProfileAgent(t), newRuntime(t)
	b := script(t, "echo ran")
	b.notifying(a)
	b.annotate("io.sandlock.network.allow", "tcp://127.0.0.1:1")
	got := r.runBundle(t, b)
	if got.code == 0 || got.stdout != "" || !strings.Contains(got.stderr, "io.sandlock.network.allow") || !strings.Contains(got.stderr, "SCMP_ACT_NOTIFY") {
		t.Error(got)
	}
	assertNothingLeft(t, r, b)
}
