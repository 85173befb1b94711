package netfilter

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// weakSet remembers guests' sockets without keeping them open, and tells which of them are open still.
//
// It is an epoll that is never waited on. An epoll holds no reference to a file: when the last descriptor of a socket is
// closed, wherever that was, the socket drops out, and until then the epoll's entry in /proc/self/fdinfo names it, see
// proc_pid_fdinfo(5).
type weakSet struct{ fd int }

func newWeakSet() (*weakSet, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &weakSet{fd}, nil
}

func (w *weakSet) close() error { return unix.Close(w.fd) }

// add remembers the socket fd, by a number.
func (w *weakSet) add(fd int, number uint64) error {
	event := unix.EpollEvent{Fd: int32(number), Pad: int32(number >> 32)} // no event at all
	if err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// open returns the numbers of the sockets that are open.
func (w *weakSet) open() (map[uint64]bool, error) {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(w.fd))
	if err != nil {
		return nil, err
	}
	return parseEpollInfo(text), nil
}

// parseEpollInfo returns the data of each entry that fdinfo tells of an epoll.
func parseEpollInfo(text []byte) map[uint64]bool {
	numbers := map[uint64]bool{}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		for i := range fields {
			if i > 0 && bytes.Equal(fields[i-1], []byte("data:")) {
				if n, err := strconv.ParseUint(string(fields[i]), 16, 64); err == nil {
					numbers[n] = true
				}
			}
		}
	}
	return numbers
}
