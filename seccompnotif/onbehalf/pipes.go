package onbehalf

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// pipes connect a worker with who gives it jobs. A byte through a pipe wakes the reader at once and on the same CPU, since the kernel knows that
// the writer is about to wait; a channel between threads takes several times as long.
type pipes struct {
	jobs  [2]int // a byte for each job
	tells [2]int // a byte for each thing that the worker tells
}

// What a worker tells.
const (
	tellDone  byte = iota
	tellAsk        // job.ask is to be run
	tellWaits      // job.look is to be called from time to time
	tellGoOn       // the other way: what was asked is done
)

func newPipes() (pipes, error) {
	var p pipes
	if err := unix.Pipe2(p.jobs[:], unix.O_CLOEXEC); err != nil {
		return p, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.Pipe2(p.tells[:], unix.O_CLOEXEC); err != nil {
		closeAll(p.jobs[:]...)
		return p, fmt.Errorf("pipe: %w", err)
	}
	return p, nil
}

func sendByte(fd int, b byte) error {
	for {
		_, err := unix.Write(fd, []byte{b})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receiveByte waits for a byte; false is that nobody is there to send one.
func receiveByte(fd int) (byte, bool) {
	var b [1]byte
	for {
		n, err := unix.Read(fd, b[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			return 0, false
		default:
			return b[0], true
		}
	}
}

// readable waits until there is something to read, for a while at most.
func readable(fd int, limit unix.Timespec) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Ppoll(p, &limit, nil)
	return err == nil && n > 0
}
