package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/state"
)

// denialReader reads the denial log while it grows.
type denialReader struct {
	dir  *state.Dir
	file *os.File // nil while there is no log
	rest []byte   // of a line whose end is not written yet
}

// next calls each with the lines that have come since the last call, without their newlines.
func (d *denialReader) next(each func(line []byte) error) error {
	if d.file == nil {
		fd, err := unix.Openat(d.dir.Fd(), denialFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", denialFile, err)
		}
		d.file = os.NewFile(uintptr(fd), denialFile)
	}
	// The log is bounded by maxDenialFile.
	more, err := io.ReadAll(d.file)
	if err != nil {
		return err
	}
	d.rest = append(d.rest, more...)
	for {
		line, rest, whole := bytes.Cut(d.rest, []byte{'\n'})
		if !whole {
			return nil
		}
		if err := each(line); err != nil {
			return err
		}
		d.rest = rest
	}
}

// records calls each with the records that have come since the last call.
func (d *denialReader) records(each func(DenialRecord) error) error {
	return d.next(func(line []byte) error {
		var record DenialRecord
		if err := json.Unmarshal(line, &record); err != nil {
			return fmt.Errorf("%s: %w", denialFile, err)
		}
		return each(record)
	})
}

func (d *denialReader) close() {
	if d.file != nil {
		d.file.Close()
	}
}

// directoryWatch tells when files of the state directory are made or grow.
type directoryWatch struct{ file *os.File }

func watchDirectory(dir *state.Dir) (*directoryWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	w := &directoryWatch{os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, "/proc/self/fd/"+strconv.Itoa(dir.Fd()), unix.IN_CREATE|unix.IN_MODIFY|unix.IN_ONLYDIR); err != nil {
		w.close()
		return nil, fmt.Errorf("%s: inotify_add_watch: %w", dir.Path(), err)
	}
	return w, nil
}

// run calls told after one change or several, until the watch is closed.
func (w *directoryWatch) run(told func()) {
	buffer := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buffer); err != nil {
			return
		}
		told()
	}
}

func (w *directoryWatch) close() { w.file.Close() }
