package oci

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/state"
)

// watch is the rest of the monitor's life. It returns when the container has ended and that is on record.
func (c *container) watch() {
	c.monitor.Serve(c.socket, authorise, true)
	c.finish(nil)
}

// authorise lets root and the monitor's own user speak to it.
func authorise(conn *net.UnixConn) error {
	_, err := state.CheckPeer(conn)
	return err
}

// finish records the end. status is nil where this process is not told of it.
func (c *container) finish(status *unix.WaitStatus) {
	if status == nil {
		status = c.monitor.ExitStatus()
	}
	exit := state.Exit{Time: time.Now().UTC(), Reason: "the exit status is known to the parent only"}
	if status != nil {
		exit.Reason = ""
		exit.Code = exitCode(*status)
		if status.Signaled() {
			exit.Signal = int(status.Signal())
		}
	}
	if kills, err := c.cgroup.OOMKills(); err == nil && kills > 0 {
		exit.Reason = "the kernel has killed processes of the container for want of memory"
	}
	// A delete may be ahead of us, and there is nobody left to tell.
	if err := c.dir.SaveExit(exit); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.runtime.Log.Warn(err)
	}
	c.denials.close()
	c.monitor.Close()
}

// exitCode is what a shell would say.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// toNull lets go of the caller's standard streams: whoever reads them waits for the last writer.
func toNull() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	for fd := 0; fd <= 2; fd++ {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("dup3: %w", err)
		}
	}
	return nil
}

// closeInherited lets go of the caller's other descriptors, for the same reason, and so that no hook gets them. They are those that are not
// close-on-exec: this process's own all are.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// release lets the process that the user called go: from here on this process is nothing but the monitor.
func (c *container) release() error {
	if err := toNull(); err != nil {
		return err
	}
	if err := closeInherited(); err != nil {
		return err
	}
	if c.caller == nil {
		return nil
	}
	return c.caller.Finish(0)
}
