package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/state"
)

const (
	// notifyVariable names the socket that takes a service's messages, see sd_notify(3).
	notifyVariable = "NOTIFY_SOCKET"
	// notifyInside is where the container finds its own.
	notifyInside = "/run/notify"
	notifyDir    = "notify" // in the state directory
	notifyName   = "notify.sock"
	// barrierWait is how long the service manager has to take notice.
	barrierWait = 30 * time.Second
)

// addNotify gives the container a place for a socket of its own where the runtime has been called with one. What comes from it is read by who starts the
// container.
func (c *container) addNotify() error {
	if os.Getenv(notifyVariable) == "" {
		return nil
	}
	source, err := filepath.Abs(filepath.Join(c.dir.Path(), notifyDir))
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(c.dir.Fd(), notifyDir, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: source, Err: err}
	}
	spec := c.bundle.Spec
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: notifyInside, Type: "bind", Source: source, Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"}})
	process := *spec.Process
	process.Env = append(process.Env[:len(process.Env):len(process.Env)], notifyVariable+"="+path.Join(notifyInside, notifyName))
	spec.Process = &process
	return nil
}

// notifier passes a container's word that it is ready on to the service manager.
type notifier struct {
	inside *net.UnixConn
	sender int    // the process that the service manager knows
	host   string // address of its socket
}

// newNotifier makes the container's socket; nil where there is no place for one, or nobody to tell.
func newNotifier(dir *state.Dir, sender int) (*notifier, error) {
	host := os.Getenv(notifyVariable)
	if host == "" {
		return nil, nil
	}
	address := "/proc/self/fd/" + strconv.Itoa(dir.Fd()) + "/" + notifyDir + "/" + notifyName
	inside, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // the container was created without
	}
	if err != nil {
		return nil, fmt.Errorf("%s of the container: %w", notifyVariable, withoutAddress(err))
	}
	// Whoever the container's processes are, they may speak.
	if err := os.Chmod(address, 0o777); err != nil {
		inside.Close()
		return nil, fmt.Errorf("%s of the container: %w", notifyVariable, err)
	}
	return &notifier{inside: inside, sender: sender, host: host}, nil
}

// close ends forward, wherever it is.
func (n *notifier) close() {
	if n != nil {
		n.inside.Close()
	}
}

// forward waits until the container says that it is ready, and passes that on with the pid of the process to watch from then on. It returns before where the notifier is
// closed, as it is to be when the container ends.
func (n *notifier) forward(pid int) error {
	defer n.inside.Close()
	buffer := make([]byte, 4096)
	for {
		length, err := n.inside.Read(buffer)
		if err != nil {
			return nil // closed
		}
		for line := range bytes.SplitSeq(buffer[:length], []byte("\n")) {
			if bytes.HasPrefix(line, []byte("READY=")) {
				if err := n.tell(string(line), pid); err != nil {
					return fmt.Errorf("%s: %w", notifyVariable, withoutAddress(err))
				}
				return nil
			}
		}
	}
}

// tell says to the service manager what the container has said, and which process to watch, and waits until it has taken notice.
func (n *notifier) tell(ready string, pid int) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.host, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, message := range []string{ready + "\n", "MAINPID=" + strconv.Itoa(pid) + "\n"} {
		if err := n.send(conn, message, nil); err != nil {
			return err
		}
	}
	return n.barrier(conn)
}

// send speaks in the name of the process that the service manager knows, where this process may.
func (n *notifier) send(conn *net.UnixConn, message string, rights []byte) error {
	credentials := unix.UnixCredentials(&unix.Ucred{Pid: int32(n.sender), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
	err := sendmsg(conn, message, append(credentials, rights...))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ESRCH) {
		err = sendmsg(conn, message, rights)
	}
	return err
}

// sendmsg is sendmsg(2), which package net does not have for connected datagram sockets.
func sendmsg(conn *net.UnixConn, message string, control []byte) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendmsg(int(fd), []byte(message), control, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return failed
}

// barrier sends the end of a pipe that the service manager closes when it has read all that came before; see sd_notify_barrier(3).
func (n *notifier) barrier(conn *net.UnixConn) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = n.send(conn, "BARRIER=1", unix.UnixRights(int(write.Fd())))
	write.Close()
	if err != nil {
		return err
	}
	if err := read.SetReadDeadline(time.Now().Add(barrierWait)); err != nil {
		return err
	}
	var one [1]byte
	switch _, err := read.Read(one[:]); {
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded): // it may not know of barriers
		return nil
	case err != nil:
		return err
	}
	return errors.New("the service manager wrote into the barrier")
}

// withoutAddress takes the address off a network error.
func withoutAddress(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
