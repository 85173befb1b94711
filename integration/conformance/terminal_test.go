package conformance

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// onTerminal runs a script on a terminal and returns what it printed.
func (x *trial) onTerminal(script string, change func(p *specs.Process)) string {
	b := x.bundle(script)
	b.spec.Process.Terminal = true
	change(b.spec.Process)
	path := filepath.Join(x.tempDir(), "socket")
	socket := x.listen(path)
	c := x.create(b, "--console-socket", path)
	_, files := x.receive(socket)
	if len(files) != 1 {
		x.fatalf("%d descriptors came for the terminal", len(files))
	}
	x.must("start", c.id)
	text, _ := io.ReadAll(files[0]) // a terminal ends with EIO
	x.end(c)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// listen makes a Unix socket.
func (x *trial) listen(path string) *net.UnixListener {
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	x.noError(err)
	x.cleanup(func() { socket.Close() })
	return socket
}

// receive takes one connection and reads it to its end: the bytes, and the descriptors that came with the first of them.
func (x *trial) receive(socket *net.UnixListener) (string, []*os.File) {
	x.noError(socket.SetDeadline(time.Now().Add(commandTimeout)))
	conn, err := socket.AcceptUnix()
	x.noError(err)
	defer conn.Close()
	x.noError(conn.SetDeadline(time.Now().Add(commandTimeout)))
	text, rights := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4*16))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, rights)
	x.noError(err)
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	x.noError(err)
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		x.noError(err)
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "received")
			x.cleanup(func() { f.Close() })
			files = append(files, f)
		}
	}
	rest, err := io.ReadAll(conn)
	x.noError(err)
	return string(text[:n]) + string(rest), files
}
