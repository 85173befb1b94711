package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// Relay carries bytes between a container's terminal and its user until the container's output ends.
type Relay struct {
	master  int // our duplicate
	host    *Host
	winch   chan os.Signal
	broken  chan os.Signal // SIGPIPE, nobody reads it: see Start
	stop    [2]int         // pipe; its write end is closed to end the input
	finish  [2]int         // pipe; its write end is closed when no more output is to be waited for
	input   sync.WaitGroup
	output  chan error
	ended   sync.Once
	closing sync.Once
}

// Start begins to relay between master and in and out. host, if not nil, is put into raw mode, and its size, now and when it
// changes, becomes the container's. The caller keeps master, and does not read or write it meanwhile; it is put into
// non-blocking mode.
//
// Whatever happens then, call Close: it restores the terminal, also when deferred while a panic passes through. A caller
// that a signal may end has to catch that signal and call it, or Host.Restore.
func Start(master *os.File, host *Host, in *os.File, out io.Writer) (_ *Relay, err error) {
	fd, err := descriptor(master)
	if err != nil {
		return nil, err
	}
	r := &Relay{master: -1, host: host, stop: [2]int{-1, -1}, finish: [2]int{-1, -1}, output: make(chan error, 1)}
	defer func() {
		if err != nil {
			r.release()
			if host != nil {
				host.Restore()
			}
		}
	}()
	if r.master, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if err := unix.SetNonblock(r.master, true); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if err := errors.Join(unix.Pipe2(r.stop[:], unix.O_CLOEXEC), unix.Pipe2(r.finish[:], unix.O_CLOEXEC)); err != nil {
		return nil, fmt.Errorf("terminal: pipe: %w", err)
	}
	if host != nil {
		// Raw mode, as the library sets it, still turns line feed into carriage return and line feed on the way out, so
		// the container's side must not.
		if err := console.ClearONLCR(uintptr(r.master)); err != nil {
			return nil, fmt.Errorf("terminal: %w", err)
		}
		if err := host.SetRaw(); err != nil {
			return nil, fmt.Errorf("failed to set the terminal from the stdin: %w", err)
		}
		// Writing to a standard output that nobody reads would end the process, with the terminal in raw mode.
		r.broken = make(chan os.Signal, 1)
		signal.Notify(r.broken, unix.SIGPIPE)
		r.followSize()
	}
	r.input.Add(1)
	go r.guarded(func() { defer r.input.Done(); r.copyIn(in) })
	go r.guarded(func() { r.output <- r.copyOut(out) })
	return r, nil
}

// guarded restores the terminal before a panic of f ends the process.
func (r *Relay) guarded(f func()) {
	defer func() {
		if p := recover(); p != nil {
			if r.host != nil {
				r.host.Restore()
			}
			panic(p)
		}
	}()
	f()
}

// followSize gives the container's terminal the host's size, at once and at each SIGWINCH. That a size cannot be had or
// set is not worth an error, for runc neither.
func (r *Relay) followSize() {
	r.winch = make(chan os.Signal, 1)
	signal.Notify(r.winch, unix.SIGWINCH)
	r.resize()
	r.input.Add(1)
	go r.guarded(func() {
		defer r.input.Done()
		for range r.winch {
			r.resize()
		}
	})
}

func (r *Relay) resize() {
	size, err := r.host.Size()
	if err != nil {
		return
	}
	// The next change tells the size anew.
	_ = unix.IoctlSetWinsize(r.master, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
}

// Finish waits until all output that the container has written so far is relayed, and ends the relay. Call it when the
// container's process has ended: other processes may still hold the terminal open, and are not waited for. The error is that
// of writing to out; the container's output was thrown away from then on.
func (r *Relay) Finish() error {
	r.ended.Do(func() { closeFD(&r.finish[1]) })
	err := <-r.output
	r.output <- err // for Close
	r.Close()
	return err
}

// Close ends the relay at once and restores the terminal. Output not yet relayed is lost; see Finish.
func (r *Relay) Close() {
	r.closing.Do(func() {
		if r.host != nil {
			r.host.Restore()
		}
		if r.winch != nil {
			signal.Stop(r.broken)
			signal.Stop(r.winch)
			close(r.winch)
		}
		closeFD(&r.stop[1])
		r.output <- <-r.output
		r.input.Wait()
		r.release()
	})
}

func (r *Relay) release() {
	for _, fd := range []*int{&r.master, &r.stop[0], &r.stop[1], &r.finish[0], &r.finish[1]} {
		closeFD(fd)
	}
}

func closeFD(fd *int) {
	if *fd >= 0 {
		_ = unix.Close(*fd) // of a terminal or pipe: there is nothing that could be lost
		*fd = -1
	}
}

const (
	// buffer is how much is carried at once, in bytes.
	buffer = 32 << 10
	// pending is more than a pseudo terminal can hold of output not yet read, in bytes: its flip buffers are limited to 8 KiB
	// (drivers/tty/pty.c), its line discipline to 4 KiB. Who has read so much since the end of the container's process has read
	// all that was written before it.
	pending = 64 << 10
)

// copyIn carries input until it ends or the relay does. It reads only what is there, so that what is typed after the
// container's end is left for whoever reads the terminal next.
func (r *Relay) copyIn(in *os.File) {
	from, err := descriptor(in)
	if err != nil {
		return
	}
	data := make([]byte, buffer)
	for {
		ready, err := poll(-1, readable(from), readable(r.stop[0]))
		if err != nil || ready[1] != 0 {
			return
		}
		n, err := unix.Read(from, data)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n == 0 || !r.writeMaster(data[:n]) {
			return
		}
	}
}

// writeMaster writes all of data to the container's terminal. It reports false when the relay has ended, or the terminal:
// a container that does not read must not keep the relay from ending.
func (r *Relay) writeMaster(data []byte) bool {
	for len(data) > 0 {
		ready, err := poll(-1, unix.PollFd{Fd: int32(r.master), Events: unix.POLLOUT}, readable(r.stop[0]))
		if err != nil || ready[1] != 0 {
			return false
		}
		n, err := unix.Write(r.master, data)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return false
		}
		data = data[n:]
	}
	return true
}

// copyOut carries output to its end. The end is EIO, which a master gives when nobody has its terminal open any more (after
// all that was written to it), or that Finish was called and nothing more is there: poll(2) on a master flushes what the
// kernel still holds, so "nothing there" is then the truth.
func (r *Relay) copyOut(out io.Writer) (failed error) {
	data := make([]byte, buffer)
	wait, left := -1, pending
	for left > 0 {
		ready, err := poll(wait, readable(r.master), readable(r.finish[0]), readable(r.stop[0]))
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		if ready[2] != 0 {
			return failed
		}
		if ready[0] == 0 {
			if wait == 0 {
				return failed
			}
			wait = 0 // Finish was called: look once more
			continue
		}
		n, err := unix.Read(r.master, data)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.EIO || err == nil && n == 0:
			return failed
		case err != nil:
			return fmt.Errorf("terminal: read: %w", err)
		}
		if ready[1] != 0 {
			left -= n
		}
		// After an error the output is still read: the container should not hang for it.
		if failed == nil {
			if _, err := out.Write(data[:n]); err != nil {
				failed = fmt.Errorf("terminal: %w", err)
			}
		}
	}
	return failed
}

func readable(fd int) unix.PollFd { return unix.PollFd{Fd: int32(fd), Events: unix.POLLIN} }

// poll waits for any of fds, wait milliseconds, or for ever if that is negative, and returns what each is ready for.
func poll(wait int, fds ...unix.PollFd) ([3]int16, error) {
	for {
		_, err := unix.Poll(fds, wait)
		if err == unix.EINTR {
			continue
		}
		var ready [3]int16
		for i := range fds {
			ready[i] = fds[i].Revents
		}
		return ready, os.NewSyscallError("poll", err)
	}
}
