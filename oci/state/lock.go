package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits until nobody else holds the container's lock, or ctx ends, and returns what releases it. The lock belongs to
// this call, not to the process, and goes with the process. The error is ErrNotExist when the container was removed
// meanwhile, and ctx's if that ends first.
//
// What is locked is the directory itself: a lock file in it would have to be made, and could be while Remove empties it.
func (d *Dir) Lock(ctx context.Context) (unlock func() error, err error) {
	f, err := d.open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotExist, d.id)
	}
	if err != nil {
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
			_ = f.Close() // nothing was written
			return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("container %q is locked by another command: %w", d.id, ctx.Err())
		case <-time.After(delay):
		}
	}
	if named, err := d.named(); err != nil || !named {
		_ = f.Close() // nothing was written
		if err == nil {
			err = fmt.Errorf("%w: %q", ErrNotExist, d.id)
		}
		return nil, err
	}
	return f.Close, nil
}
