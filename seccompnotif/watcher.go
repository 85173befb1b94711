package seccompnotif

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sweepInterval is how often the process index is searched for exits that nobody reported.
const sweepInterval = 5 * time.Minute

// watcher waits for events on any number of descriptors with one goroutine and no thread: its epoll descriptor is itself
// watched by Go's network poller.
type watcher struct {
	epfd  int      // the number behind file
	file  *os.File // owner of epfd
	sweep func()   // called every sweepInterval; set before the first add

	start   sync.Once
	stopped chan struct{}

	mu      sync.Mutex
	last    uint64
	targets map[uint64]func()
	closed  bool
}

// watch is one descriptor's registration; its zero value is none.
type watch struct {
	token uint64 // never used twice, unlike descriptor numbers
}

func newWatcher() (*watcher, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &watcher{
		epfd:    epfd,
		file:    os.NewFile(uintptr(epfd), "epoll"),
		stopped: make(chan struct{}),
		targets: map[uint64]func(){},
	}, nil
}

// add calls f once, on the watcher's goroutine, when one of events, an error or a hang-up happens to fd.
func (w *watcher) add(to *watch, fd int, events uint32, f func()) error {
	w.start.Do(func() { go w.run() })
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	w.last++
	// One shot: a file that somebody else holds open would otherwise report the same hang-up for ever.
	event := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(uint32(w.last)), Pad: int32(uint32(w.last >> 32))}
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	to.token = w.last
	w.targets[to.token] = f
	return nil
}

// remove makes sure that the watch's function is not begun any more. The descriptor leaves the epoll set when it is closed.
func (w *watcher) remove(of *watch) {
	w.mu.Lock()
	delete(w.targets, of.token)
	w.mu.Unlock()
}

func (w *watcher) run() {
	defer close(w.stopped)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return // closed before it began
	}
	var events [64]unix.EpollEvent
	_ = w.file.SetReadDeadline(time.Now().Add(sweepInterval)) // it fails when the file is closed, and then so does the read
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events[:], 0) // it does not wait, so nothing interrupts it
			return n > 0
		})
		switch {
		case err == nil:
			for _, e := range events[:n] {
				w.fire(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
			}
		case os.IsTimeout(err):
			if w.sweep != nil {
				w.sweep()
			}
			_ = w.file.SetReadDeadline(time.Now().Add(sweepInterval)) // as above
		default:
			return // closed
		}
	}
}

func (w *watcher) fire(token uint64) {
	w.mu.Lock()
	f := w.targets[token]
	delete(w.targets, token)
	w.mu.Unlock()
	if f != nil {
		f()
	}
}

// close ends the watcher's goroutine.
func (w *watcher) close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	err := w.file.Close()
	started := true
	w.start.Do(func() { started = false })
	if started {
		<-w.stopped
	}
	return err
}
