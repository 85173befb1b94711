package monitor

/*
#include "idle.h"
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long nothing must have been asked of a monitor for it to count as idle.
	quiet = 20 * time.Millisecond
	// again is how often an idle monitor lets go of what Go's own housekeeping (a collection every two minutes) has had mapped.
	again = time.Minute
)

// activity tells the waiting thread that something goes on; see idle.c.
type activity struct{ file *os.File }

func newActivity() (*activity, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &activity{os.NewFile(uintptr(fd), "activity")}, nil
}

func (a *activity) note() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = a.file.Write(one[:]) // the monitor stays a little larger, at worst
}

// idle blocks until the container's first process has ended, and keeps the monitor small meanwhile.
func (m *Monitor) idle(a *activity) {
	debug.FreeOSMemory()
	ranges := cleanFileMappings()
	var first *C.struct_idle_range
	if len(ranges) > 0 {
		first = (*C.struct_idle_range)(unsafe.Pointer(unsafe.SliceData(ranges)))
	}
	C.idle_wait(C.int(m.init.Fd()), C.int(a.file.Fd()), first, C.int(len(ranges)), C.int(quiet.Milliseconds()), C.int(again.Milliseconds()))
	runtime.KeepAlive(ranges)
}
