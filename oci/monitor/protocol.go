package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The control protocol: one connection, one request, one reply. A message is a JSON object on a line of at most maxMessage bytes, with at
// most one descriptor beside it.

// request is what a verb asks of the monitor.
type request struct {
	Verb verb `json:"verb"`
	PID  int  `json:"pid,omitempty"` // of listen: the process that has made the listener, and waits
}

type verb string

const (
	verbStart  verb = "start"  // let the parked process go on; the reply comes when it runs its program or has failed to
	verbJoin   verb = "join"   // the reply carries the container's Landlock ruleset, if it has one
	verbPorts  verb = "ports"  // the reply tells which TCP ports the container has bound, if they are its own
	verbListen verb = "listen" // the request carries a listener that the monitor is to answer
	verbStats  verb = "stats"  // the reply carries what the supervisor has counted
)

// reply is the monitor's answer; an empty Error is success. What few verbs want is encoded apart: encoding/json gets to know its types for those alone.
type reply struct {
	Error string          `json:"error,omitempty"`
	Stats json.RawMessage `json:"stats,omitempty"` // of Stats
	Ports json.RawMessage `json:"ports,omitempty"` // of []netfilter.Binding
}

const maxMessage = 64 << 10

// send writes one message, with a descriptor unless file is nil.
func send(c *net.UnixConn, message any, file *os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		data, err = json.Marshal(reply{Error: "the answer is too long for the control socket"})
		if err != nil {
			return err
		}
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	_, _, err = c.WriteMsgUnix(append(data, '\n'), rights, nil)
	return err
}

// receive reads one message into message, and the descriptor that came with it, which may be nil.
func receive(c *net.UnixConn, message any) (*os.File, error) {
	line, file, err := receiveLine(c)
	if err == nil {
		err = json.Unmarshal(line, message)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return file, nil
}

// receiveLine reads up to the end of a line. The first descriptor that comes with it is the message's.
func receiveLine(c *net.UnixConn) (line []byte, file *os.File, err error) {
	part := make([]byte, 4096)
	rights := make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := c.ReadMsgUnix(part, rights)
		if err != nil {
			return nil, file, err
		}
		got, err := descriptor(rights[:oobn])
		if err != nil {
			return nil, file, err
		}
		if file == nil {
			file = got
		} else if got != nil {
			got.Close()
		}
		line = append(line, part[:n]...)
		switch {
		case n == 0:
			return nil, file, errors.New("the other side has closed the connection")
		case flags&unix.MSG_CTRUNC != 0 || len(line) > maxMessage:
			return nil, file, errors.New("message too long")
		case line[len(line)-1] == '\n':
			return line, file, nil
		}
	}
}

// descriptor is the one descriptor in a control message; nil if there is none.
func descriptor(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	var file *os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // some other control message
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if file != nil {
				unix.Close(fd)
				continue
			}
			file = os.NewFile(uintptr(fd), "received")
		}
	}
	return file, nil
}
