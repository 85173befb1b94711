package integration

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serviceManager takes what services say, as systemd does.
type serviceManager struct {
	path  string
	heard chan spoken
}

// spoken is a message and the process that it came from.
type spoken struct {
	text string
	pid  int
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	m := &serviceManager{path: filepath.Join(shortTempDir(t), "notify"), heard: make(chan spoken, 16)}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil {
		t.Fatal(err)
	}
	go func() {
		text, control := make([]byte, 4096), make([]byte, 1024)
		for {
			n, oobn, _, _, err := socket.ReadMsgUnix(text, control)
			if err != nil {
				return // the test is over
			}
			said := spoken{text: string(text[:n])}
			messages, err := unix.ParseSocketControlMessage(control[:oobn])
			if err != nil {
				t.Error(err)
			}
			for i := range messages {
				if credentials, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
					said.pid = int(credentials.Pid)
				}
				fds, _ := unix.ParseUnixRights(&messages[i])
				for _, fd := range fds {
					unix.Close(fd) // the barrier
				}
			}
			m.heard <- said
		}
	}()
	return m
}

// ready checks that the manager hears that the service is ready and which its process is, from the process that it knows, and nothing else. It returns that
// process. 0 is any.
func (m *serviceManager) ready(t *testing.T, main, sender int) int {
	t.Helper()
	for _, want := range []string{"READY=1\n", "MAINPID=", "BARRIER=1"} {
		select {
		case got := <-m.heard:
			if text, ok := strings.CutPrefix(got.text, "MAINPID="); ok && want == "MAINPID=" {
				pid, err := strconv.Atoi(strings.TrimSuffix(text, "\n"))
				if err != nil || main > 0 && pid != main {
					t.Errorf("the service manager heard that the process is %q, want %d", text, main)
				}
				main, got.text = pid, want
			}
			if got.text != want || sender > 0 && got.pid != sender {
				t.Errorf("the service manager heard %q from %d, want %q from %d", got.text, got.pid, want, sender)
			}
		case <-time.After(commandTimeout):
			t.Fatalf("the service manager did not hear %q", want)
		}
	}
	return main
}

// with adds to the environment of a command.
func with(cmd *exec.Cmd, variables ...string) *exec.Cmd {
	cmd.Env = append(os.Environ(), variables...)
	return cmd
}

// A container whose runtime has a service manager tells it when it is ready, and nothing else.
func TestNotifySocket(t *testing.T) {
	const said = "guest notify READY=1 STATUS=serving STOPPING=1; echo $NOTIFY_SOCKET; touch /run/notify/x 2>/dev/null || echo read-only; "
	r := newRuntime(t)
	t.Run("create and start", func(t *testing.T) {
		m := newServiceManager(t)
		b := script(t, said+"sleep 1000")
		b.write(t)
		pidFile := filepath.Join(b.dir, "pid")
		if res := finish(t, with(r.command(t.Context(), "create", "--bundle", b.dir, "--pid-file", pidFile, b.id), "NOTIFY_SOCKET="+m.path)); res.code != 0 {
			t.Fatal(res)
		}
		pid := readPid(t, pidFile)
		start := with(r.command(t.Context(), "start", b.id), "NOTIFY_SOCKET="+m.path)
		if res := finish(t, start); res.code != 0 {
			t.Fatal(res)
		}
		m.ready(t, pid, start.Process.Pid)
		if res := r.run(t, "exec", b.id, "/bin/sh", "-c", "echo ${NOTIFY_SOCKET-none}"); res.stdout != "none\n" {
			t.Errorf("exec: %v", res)
		}
		r.must(t, "delete", "--force", b.id)
		assertNothingLeft(t, r, b)
	})
	t.Run("run detached", func(t *testing.T) {
		m := newServiceManager(t)
		b := script(t, said+"sleep 1000")
		b.write(t)
		run := with(r.command(t.Context(), "run", "--detach", "--bundle", b.dir, b.id), "NOTIFY_SOCKET="+m.path)
		if res := finish(t, run); res.code != 0 {
			t.Fatal(res)
		}
		m.ready(t, r.state(t, b.id).Pid, run.Process.Pid)
		r.must(t, "delete", "--force", b.id)
		assertNothingLeft(t, r, b)
	})
	t.Run("run", func(t *testing.T) {
		m := newServiceManager(t)
		b := script(t, said+"read line")
		b.write(t)
		run := with(r.command(t.Context(), "run", "--bundle", b.dir, b.id), "NOTIFY_SOCKET="+m.path)
		stdin, err := run.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan result, 1)
		go func() { ended <- finish(t, run) }()
		main := m.ready(t, 0, 0)
		stdin.Close()
		if res := <-ended; res.stdout != "sent\n/run/notify/notify.sock\nread-only\n" {
			t.Error(res)
		}
		if main != run.Process.Pid {
			t.Errorf("the process to watch is %d, want the one that was called, %d", main, run.Process.Pid)
		}
		assertNothingLeft(t, r, b)
	})
	if !ours {
		t.Log("ends without a word: runc run waits for ever, left out")
		return
	}
	t.Run("ends without a word", func(t *testing.T) {
		m := newServiceManager(t)
		b := script(t, "exit 3")
		b.write(t)
		if res := finish(t, with(r.command(t.Context(), "run", "--bundle", b.dir, b.id), "NOTIFY_SOCKET="+m.path)); res.code != 3 {
			t.Error(res)
		}
		select {
		case got := <-m.heard:
			t.Errorf("the service manager heard %q", got.text)
		default:
		}
		assertNothingLeft(t, r, b)
	})
}

// Sockets that systemd has opened for the service are the container's, before those of --preserve-fds; those meant for another process are not.
func TestListenFDs(t *testing.T) {
	const list = "echo ${LISTEN_FDS-none} ${LISTEN_PID-none}; for fd in 3 4 5; do if [ -e /proc/self/fd/$fd ]; then basename $(readlink /proc/self/fd/$fd); else echo closed; fi; done"
	for name, row := range map[string]struct{ pid, want string }{
		"ours":      {"$$", "2 1\na\nb\nc\n"},
		"another's": {"1", "none none\na\nclosed\nclosed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, list)
			b.write(t)
			dir := shortTempDir(t)
			cmd := r.command(context.Background(), "run", "--bundle", b.dir, "--preserve-fds", "1", b.id)
			wrapped := exec.Command("/bin/sh", append([]string{"-c", "LISTEN_PID=" + row.pid + ` LISTEN_FDS=2 exec "$@"`, "sh"}, cmd.Args...)...)
			for _, file := range []string{"a", "b", "c"} {
				f, err := os.Create(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				wrapped.ExtraFiles = append(wrapped.ExtraFiles, f)
			}
			if res := finish(t, wrapped); res.code != 0 || res.stdout != row.want {
				t.Errorf("want %q, got %v", row.want, res)
			}
			assertNothingLeft(t, r, b)
		})
	}
}
