package terminal

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		terminal, detach bool
		socket           string
		want             error
	}{
		{false, false, "", nil},
		{true, false, "", nil},
		{false, true, "", nil},
		{true, true, "/s", nil},
		{true, true, "", errNoSocket},
		{true, false, "/s", errUnusedSocket},
		{false, true, "/s", errUnusedSocket},
		{false, false, "/s", errUnusedSocket},
	} {
		if got := Check(tt.terminal, tt.detach, tt.socket); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestSend(t *testing.T) {
	for name, dir := range map[string]string{"short": t.TempDir(), "long": filepath.Join(t.TempDir(), strings.Repeat("d", 150))} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			handle, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer handle.Close()
			// The listener's address is short in any case.
			t.Chdir(dir)
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "s", Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s, err := Connect(filepath.Join(dir, "s"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			peer, err := l.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			master, slave := pair(t)
			if err := s.Send(master, DefaultName); err != nil {
				t.Fatal(err)
			}
			text, oob := make([]byte, 100), make([]byte, 100)
			n, oobn, _, _, err := peer.ReadMsgUnix(text, oob)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(text[:n]); got != DefaultName {
				t.Errorf("name %q", got)
			}
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil || len(messages) != 1 {
				t.Fatalf("%d messages, %v", len(messages), err)
			}
			fds, err := unix.ParseUnixRights(&messages[0])
			if err != nil || len(fds) != 1 {
				t.Fatalf("%v, %v", fds, err)
			}
			got := os.NewFile(uintptr(fds[0]), "got")
			defer got.Close()
			// What the program writes comes out of the received master.
			if _, err := slave.WriteString("hello\n"); err != nil {
				t.Fatal(err)
			}
			// The kernel passes "hello" on before it has made "\r\n" of the newline: one read may get a part.
			echo := make([]byte, len("hello\r\n"))
			if n, err := io.ReadFull(got, echo); err != nil || string(echo) != "hello\r\n" {
				t.Errorf("read %q, %v", echo[:n], err)
			}
		})
	}
}

func TestConnectErrors(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none"), filepath.Join(dir, strings.Repeat("d", 150), "none")} {
		_, err := Connect(path)
		if err == nil || !strings.HasPrefix(err.Error(), "--console-socket") || !strings.Contains(err.Error(), "no such file") || strings.Contains(err.Error(), "/proc/") {
			t.Errorf("got %v", err)
		}
	}
}
