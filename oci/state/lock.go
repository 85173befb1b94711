package state

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// Lock waits until nobody else holds the container's lock, or ctx ends, and returns what releases it. The lock belongs to
// this call, not to the process, and goes with the process. The error is ErrNotExist when the container was removed
// meanwhile, and ctx's if that ends first.
func (d *Dir) Lock(ctx context.Context) (unlock func() error, err error) {
	f, err := d.open(lockFile, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		if d.removed() {
			return nil, fmt.Errorf("%w: %q", ErrNotExist, d.id)
		}
		return nil, err
	}
	// flock(2) has no timeout and a signal is no way to end it in Go, so it is tried again and again.
	const shortest, longest = time.Millisecond, 32 * time.Millisecond
	for delay := shortest; ; delay = min(2*delay, longest) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			_ = f.Close()
			return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("container %q is locked by another command: %w", d.id, ctx.Err())
		case <-time.After(delay):
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink == 0 {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %q", ErrNotExist, d.id)
	}
	return f.Close, nil
}

// removed tells that the directory has been removed since it was opened.
func (d *Dir) removed() bool {
	var st unix.Stat_t
	return unix.Fstat(d.Fd(), &st) == nil && st.Nlink == 0
}
