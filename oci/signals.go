package oci

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// forwardSignals passes the signals that this process gets on to the container, but for those that mean this process itself.
func forwardSignals(send func(unix.Signal) error) (stop func()) {
	received := make(chan os.Signal, 64) // a burst; what does not fit is lost, as with any process
	signal.Notify(received)
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-received:
				number, ok := s.(unix.Signal)
				if !ok || own(number) {
					continue
				}
				_ = send(number) // a container that has just ended needs no signal
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(received)
		close(quit)
	}
}

// own says whether a signal is this process's own business: its children, its terminal's size, its pipes, its job control and the Go scheduler.
func own(s unix.Signal) bool {
	switch s {
	case unix.SIGCHLD, unix.SIGWINCH, unix.SIGPIPE, unix.SIGURG, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT:
		return true
	}
	return false
}
