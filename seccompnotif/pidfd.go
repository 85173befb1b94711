package seccompnotif

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// pidfdThread is PIDFD_THREAD of <linux/pidfd.h> (Linux 6.9), which the header defines as O_EXCL.
const pidfdThread = unix.O_EXCL

// pidfd owns a pidfd, of a process or of a thread. Its methods are safe for concurrent use: the descriptor is not closed, and
// its number not given to another file, while one of them uses it.
type pidfd struct {
	mu sync.RWMutex
	fd int // -1 once closed
}

// openPIDFD opens the process pid, or with pidfdThread the thread.
func openPIDFD(pid, flags int) (int, error) {
	for {
		fd, err := unix.PidfdOpen(pid, flags)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// use calls f with the descriptor; ESRCH if it is closed.
func (p *pidfd) use(f func(fd int) error) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return unix.ESRCH
	}
	return f(p.fd)
}

// duplicate returns a copy, close-on-exec, of the task's descriptor target. ESRCH means that the task is gone.
func (p *pidfd) duplicate(target int) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return -1, unix.ESRCH
	}
	return unix.PidfdGetfd(p.fd, target, 0)
}

// exited tells whether the task has ended, reaped or not. While it has not, its number names no other task.
func (p *pidfd) exited() bool {
	err := p.use(func(fd int) error {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err == nil && n > 0 {
				return unix.ESRCH
			}
			return err
		}
	})
	return err != nil
}

func (p *pidfd) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}
