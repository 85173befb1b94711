package terminal

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/console"
)

// Host is the terminal that the runtime was called from. In raw mode every key goes to the container.
type Host struct {
	console.Console
	own     *os.File // /dev/tty, if that was opened for it
	restore sync.Once
}

// OpenHost finds the terminal: standard error, output or input, as only some may be redirected, or else the controlling
// terminal.
func OpenHost() (*Host, error) {
	for _, f := range []*os.File{os.Stderr, os.Stdout, os.Stdin} {
		c, err := console.ConsoleFromFile(f)
		if err == nil {
			return &Host{Console: c}, nil
		}
		if !errors.Is(err, console.ErrNotAConsole) {
			return nil, fmt.Errorf("unable to get console: %w", err)
		}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("unable to get console: %w", err)
	}
	c, err := console.ConsoleFromFile(tty)
	if err != nil {
		_ = tty.Close() // nothing was written
		return nil, fmt.Errorf("unable to get console: %w", err)
	}
	return &Host{Console: c, own: tty}, nil
}

// Restore puts the terminal back into the mode in which it was found. It may be called more than once, and from any
// goroutine: deferred, after a panic, from a signal handler.
func (h *Host) Restore() {
	h.restore.Do(func() {
		_ = h.Reset() // it fails when the terminal is gone, and with it whoever could be told
		if h.own != nil {
			_ = h.own.Close() // output does not go through this
		}
	})
}
