package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const socketFile = "monitor.sock"

// ErrNoMonitor is what Dial gets when nobody serves the container's control socket (any more).
var ErrNoMonitor = errors.New("the container's monitor does not answer")

// Listen makes the control socket. A socket's address has room for 107 bytes (sun_path, unix(7)), which --root may well
// exceed, so both ends address it through the descriptor of the directory.
func (d *Dir) Listen() (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.inProc(socketFile), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s/%s: %w", d.Path(), socketFile, bareOp(err))
	}
	// It goes with the directory. Unlinking it by its address could hit another file: descriptor numbers are reused.
	l.SetUnlinkOnClose(false)
	return l, nil
}

// Dial connects to the container's monitor. The error is ErrNoMonitor when there is none.
func (d *Dir) Dial(ctx context.Context) (*net.UnixConn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", d.inProc(socketFile))
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %q", ErrNoMonitor, d.id)
		}
		return nil, fmt.Errorf("control socket %s/%s: %w", d.Path(), socketFile, bareOp(err))
	}
	return conn.(*net.UnixConn), nil
}

// bareOp takes the address in /proc off a network error.
func bareOp(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// CheckPeer refuses a connection unless its other end is root's or our own user's, as the kernel recorded it when the
// connection was made (SO_PEERCRED, unix(7)).
func CheckPeer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	if !trusted(cred.Uid, os.Geteuid()) {
		return cred, fmt.Errorf("peer credentials: uid %d may not control this container", cred.Uid)
	}
	return cred, nil
}

func trusted(peer uint32, own int) bool { return peer == 0 || int(peer) == own }
