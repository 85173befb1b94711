package monitor

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// Client speaks to one container's monitor. Each method is one exchange.
type Client struct {
	// Connect opens the control socket; see state.Dial.
	Connect func() (*net.UnixConn, error)
}

// Start lets the container's first process run its program. It returns when that has happened, or why it could not.
func (c Client) Start() error {
	_, err := c.ask(verbStart, nil)
	return err
}

// Ruleset is the container's Landlock ruleset, nil if it has none. The caller closes it.
func (c Client) Ruleset() (*os.File, error) { return c.ask(verbJoin, nil) }

// Listen hands a listener to the monitor, which answers it from then on.
func (c Client) Listen(listener *os.File) error {
	_, err := c.ask(verbListen, listener)
	return err
}

func (c Client) ask(v verb, file *os.File) (*os.File, error) {
	conn, err := c.Connect()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := send(conn, request{v}, file); err != nil {
		return nil, fmt.Errorf("asking the container's monitor: %w", err)
	}
	var answer reply
	got, err := receive(conn, &answer)
	if err != nil {
		return nil, fmt.Errorf("the container's monitor gave no answer: %w", err)
	}
	if answer.Error != "" {
		if got != nil {
			got.Close()
		}
		return nil, errors.New(answer.Error)
	}
	return got, nil
}
