package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sandlock/sandlock-runtime/netfilter"
)

// Client speaks to one container's monitor. Each method is one exchange.
type Client struct {
	// Connect opens the control socket; see state.Dial.
	Connect func() (*net.UnixConn, error)
}

// Start lets the container's first process run its program. It returns when that has happened, or why it could not.
func (c Client) Start() error {
	_, _, err := c.ask(request{Verb: verbStart}, nil)
	return err
}

// Stats are the counts of the container's supervisor, nil if it has none.
func (c Client) Stats() (stats *Stats, err error) {
	answer, _, err := c.ask(request{Verb: verbStats}, nil)
	if err != nil {
		return nil, err
	}
	err = part(answer.Stats, &stats)
	return stats, err
}

// Ports are the TCP ports that the container has bound, none if they are not its own.
func (c Client) Ports() (ports []netfilter.Binding, err error) {
	answer, _, err := c.ask(request{Verb: verbPorts}, nil)
	if err != nil {
		return nil, err
	}
	err = part(answer.Ports, &ports)
	return ports, err
}

// Ruleset is the container's Landlock ruleset, nil if it has none. The caller closes it.
func (c Client) Ruleset() (*os.File, error) {
	_, ruleset, err := c.ask(request{Verb: verbJoin}, nil)
	return ruleset, err
}

// Listen hands the listener of a process, which waits, to the monitor, which answers it from then on.
func (c Client) Listen(listener *os.File, pid int) error {
	_, _, err := c.ask(request{Verb: verbListen, PID: pid}, listener)
	return err
}

// part decodes a part of an answer, if it is there.
func part(text json.RawMessage, into any) error {
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the container's monitor gave no answer: %w", err)
	}
	return nil
}

func (c Client) ask(r request, file *os.File) (answer reply, got *os.File, err error) {
	conn, err := c.Connect()
	if err != nil {
		return answer, nil, err
	}
	defer conn.Close()
	if r.Verb == verbStats || r.Verb == verbPorts { // which nothing is to wait for when the monitor is stopped
		if err := conn.SetDeadline(time.Now().Add(askWait)); err != nil {
			return answer, nil, err
		}
	}
	if err := send(conn, r, file); err != nil {
		return answer, nil, fmt.Errorf("asking the container's monitor: %w", err)
	}
	got, err = receive(conn, &answer)
	if err != nil {
		return answer, nil, fmt.Errorf("the container's monitor gave no answer: %w", err)
	}
	if answer.Error != "" {
		if got != nil {
			got.Close()
		}
		return answer, nil, errors.New(answer.Error)
	}
	return answer, got, nil
}
