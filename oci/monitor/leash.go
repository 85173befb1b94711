package monitor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// leash ties the life of a process to that of this one: when this process ends in whatever way, the kernel kills the other.
//
// The kernel has no call for that between processes that are not parent and child. But it sends a signal of one's choice
// (F_SETSIG) to a process of one's choice (F_SETOWN_EX) when the last writer of a pipe goes away (O_ASYNC), and a process that
// dies closes its descriptors one after the other. If the write end goes first, the read end is still there to signal. The order is
// the kernel's business, so there are two pipes, one for either order. A dead owner gets nothing: the kernel holds the process, not its
// number. The kernel does not let such a signal kill the init of a PID namespace; the tie of package caller does.
type leash struct {
	files []*os.File
}

func newLeash(pid int) (*leash, error) {
	l := &leash{}
	for _, readFirst := range []bool{true, false} {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			l.release()
			return nil, fmt.Errorf("pipe2: %w", err)
		}
		read, write := ends[0], ends[1]
		if (read < write) != readFirst {
			// A duplicate gets the lowest free number at or above the one asked for.
			low, high := min(read, write), max(read, write)
			moved, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, high+1)
			if err != nil {
				unix.Close(read)
				unix.Close(write)
				l.release()
				return nil, fmt.Errorf("fcntl(F_DUPFD_CLOEXEC): %w", err)
			}
			unix.Close(low)
			if low == read {
				read = moved
			} else {
				write = moved
			}
		}
		l.files = append(l.files, os.NewFile(uintptr(write), "leash"), os.NewFile(uintptr(read), "leash"))
		if err := tie(read, pid); err != nil {
			l.release()
			return nil, err
		}
	}
	return l, nil
}

func tie(read, pid int) error {
	owner := fileOwner{kind: ownerProcess, pid: int32(pid)}
	if err := setOwner(read, &owner); err != nil {
		return fmt.Errorf("fcntl(F_SETOWN_EX): %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(read), unix.F_SETSIG, int(unix.SIGKILL)); err != nil {
		return fmt.Errorf("fcntl(F_SETSIG): %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(read), unix.F_SETFL, unix.O_ASYNC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("fcntl(F_SETFL): %w", err)
	}
	return nil
}

// release lets go of the process without killing it: the read ends, which would signal, go first.
func (l *leash) release() {
	for i := 1; i < len(l.files); i += 2 {
		l.files[i].Close()
	}
	for i := 0; i < len(l.files); i += 2 {
		l.files[i].Close()
	}
}
