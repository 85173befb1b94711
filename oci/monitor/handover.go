package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/oci/plan"
)

// handOver gives the listener of the spec's own filter, if it has one, to the agent at linux.seccomp.listenerPath, with the container's state. The
// child is parked, and stays so if even the call that it waits in is one that the agent has to answer.
func handOver(child *launch.Child, l *plan.Launch, profile *specs.LinuxSeccomp, state specs.State) error {
	if !l.HasSpecListener {
		return nil
	}
	listener, err := child.Take(l.SpecListener)
	if err != nil {
		return err
	}
	defer listener.Close()
	message, err := json.Marshal(specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: child.PID, Metadata: profile.ListenerMetadata, State: state,
	})
	if err != nil {
		return err
	}
	if err := sendFile(profile.ListenerPath, message, int(listener.Fd())); err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath %s: %w", profile.ListenerPath, err)
	}
	return nil
}

// sendFile connects to a Unix stream socket and sends one message with one descriptor.
func sendFile(path string, message []byte, fd int) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return withoutAddress(err)
	}
	defer conn.Close()
	n, _, err := conn.WriteMsgUnix(message, unix.UnixRights(fd), nil)
	if err == nil && n < len(message) {
		_, err = conn.Write(message[n:])
	}
	return err
}

// withoutAddress leaves out what the caller says of a failed connection.
func withoutAddress(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
