package terminal

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPath is the longest path that a socket's address has room for: sun_path of unix(7), less the final NUL.
const maxPath = 107

// DefaultName is the name that runc gives to the master it sends: the path by which it opened it in the container.
const DefaultName = "/dev/pts/ptmx"

// Socket is the connection to the listener of --console-socket.
type Socket struct{ conn *net.UnixConn }

// Connect connects to the listener. Do it before the container is made: then a wrong path costs nothing.
func Connect(path string) (*Socket, error) {
	address := path
	if len(path) > maxPath {
		// The socket's directory is addressed through a descriptor, then.
		fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("--console-socket: %w", &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err})
		}
		defer unix.Close(fd)
		address = "/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(path)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("--console-socket %s: %w", path, err)
	}
	return &Socket{conn}, nil
}

// Send hands a duplicate of the master over, with its name as the message (SCM_RIGHTS, unix(7)), as runc does. The caller
// keeps its own.
func (s *Socket) Send(master *os.File, name string) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("--console-socket: %w", err)
	}
	fd, err := descriptor(master)
	if err != nil {
		return err
	}
	rights := unix.UnixRights(fd)
	var failed error
	err = raw.Write(func(socket uintptr) bool {
		failed = unix.Sendmsg(int(socket), []byte(name), rights, nil, unix.MSG_NOSIGNAL)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err == nil {
		err = os.NewSyscallError("sendmsg", failed)
	}
	if err != nil {
		return fmt.Errorf("--console-socket: %w", err)
	}
	return nil
}

// Close closes the connection.
func (s *Socket) Close() error { return s.conn.Close() }

// descriptor is the number of f's descriptor, without putting it into blocking mode as f.Fd would.
func descriptor(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}
