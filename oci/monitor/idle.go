package monitor

/*
#include "idle.h"
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// settle is how long nothing must have been asked of a new monitor before it makes itself small, which takes some milliseconds of a processor. A container
	// that is created and started at once, and has done its work by then, is spared that.
	settle = time.Second
	// quiet is how long nothing must have been asked of a monitor for it to count as idle.
	quiet = 20 * time.Millisecond
	// calm is how long it takes from then until what is done in the background has ended: the log of denials is written within two seconds.
	calm = 3 * time.Second
	// again is how often an idle monitor lets go of what Go's own housekeeping (a collection every two minutes) has had mapped.
	again = time.Minute
	// worth is how many page faults tell that there is memory to give back. An exec costs some fifty, what Go's housekeeping does some hundred, and a megabyte of
	// heap that has been used for the first time 256.
	worth = 512
	// heapGrowth is how much a monitor's heap may grow, in percent of what is in use, until garbage is collected. Go's default of 100 means no collection
	// below 4 MiB, which is more than all that a monitor needs.
	heapGrowth = 50
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

// idle blocks until the container's first process has ended, and keeps the monitor small meanwhile, once it has been quiet for a while.
func (m *Monitor) idle(a *activity) {
	if m.endsBefore(a, settle) {
		return
	}
	debug.SetGCPercent(heapGrowth)
	times := C.struct_idle_times{C.int(quiet.Milliseconds()), C.int(calm.Milliseconds()), C.int(again.Milliseconds())}
	for {
		debug.FreeOSMemory()
		ranges := cleanFileMappings()
		var first *C.struct_idle_range
		if len(ranges) > 0 {
			first = (*C.struct_idle_range)(unsafe.Pointer(unsafe.SliceData(ranges)))
		}
		busy := C.idle_wait(C.int(m.init.Fd()), C.int(a.file.Fd()), first, C.int(len(ranges)), times, worth)
		runtime.KeepAlive(ranges)
		if busy == 0 {
			return
		}
	}
}

// endsBefore blocks until there has been no activity for as long as patience says, or the container's first process has ended: then it returns true.
func (m *Monitor) endsBefore(a *activity, patience time.Duration) bool {
	files := []unix.PollFd{{Fd: int32(m.init.Fd()), Events: unix.POLLIN}, {Fd: int32(a.file.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(files, int(patience.Milliseconds()))
		switch {
		case err == nil && n == 0:
			return false
		case err != nil && !errors.Is(err, unix.EINTR):
			return false // the C code waits, too
		case err == nil && files[0].Revents != 0:
			return true
		case err == nil:
			var times [8]byte
			if _, err := unix.Read(int(a.file.Fd()), times[:]); err != nil {
				return false
			}
		}
	}
}
