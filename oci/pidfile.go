package oci

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// writePidFile writes a pid in one step: whoever watches the file never sees part of it. An empty path is no file.
func writePidFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	_, err = temporary.WriteString(strconv.Itoa(pid))
	if err == nil {
		err = temporary.Chmod(0o666 &^ umask())
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) // what went wrong before is what matters
		return fmt.Errorf("--pid-file: %w", err)
	}
	return nil
}

// umask is the process's; the kernel tells it only by setting another.
func umask() os.FileMode {
	mask := unix.Umask(0)
	unix.Umask(mask)
	return os.FileMode(mask)
}

// What --pidfd-socket is told beside the pidfd, in runc's words: whose it is.
const (
	pidfdOfInit = "standard"
	pidfdOfExec = "setns"
)

// sendPidfd sends a pidfd over a Unix socket, as runc's --pidfd-socket does.
func sendPidfd(socket, whose string, pidfd *os.File) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("--pidfd-socket: %w", err)
	}
	defer conn.Close()
	_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte(whose), unix.UnixRights(int(pidfd.Fd())), nil)
	if err != nil {
		return fmt.Errorf("--pidfd-socket: %w", err)
	}
	return nil
}
