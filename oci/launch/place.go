package launch

/*
#include "walk.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Place is where a child is to be born: a thread of this process that has made namespaces for it. The kernel takes a good part of a
// millisecond to make a network namespace; with a Place that happens while the caller gets the rest ready.
type Place struct {
	ready  chan error
	births chan birth
}

type birth struct {
	program *C.struct_walk_program
	how     C.struct_walk_clone
	result  chan born
}

// born is what walk_start returns.
type born struct{ pid, pidfd int }

// Unshare makes a thread with new namespaces, of those that a thread may have to itself: mount, UTS, IPC and network. A namespace that is to be owned by a
// new user namespace cannot be made this way. The caller ends the Place with [Start], by way of [Options], or with [Place.Close].
func Unshare(namespaces uint64) *Place {
	p := &Place{ready: make(chan error, 1), births: make(chan birth)}
	go func() {
		// Never unlocked: the thread ends with this goroutine, and its namespaces with it unless a child lives in them.
		runtime.LockOSThread()
		if namespaces != 0 {
			if err := unix.Unshare(int(namespaces)); err != nil {
				p.ready <- fmt.Errorf("unshare: %w", err)
				return
			}
		}
		p.ready <- nil
		if b, ok := <-p.births; ok {
			var pidfd C.int = -1
			b.how.heap, b.how.heap_size = heap(p)
			pid := C.walk_start(b.program, &b.how, &pidfd)
			b.result <- born{int(pid), int(pidfd)}
		}
	}()
	return p
}

// arenaSize is the size and the alignment of what Go takes its heap from (heapArenaBytes in runtime/malloc.go, Linux, 64 bits). All memory in such a range is Go's heap.
const arenaSize = 64 << 20

// heap is the part of Go's heap that p is in, which is mostly all of it. The child runs no Go, and what it looks at is in its program's own mapping.
func heap(p *Place) (address, size C.uint64_t) {
	return C.uint64_t(uintptr(unsafe.Pointer(p)) &^ (arenaSize - 1)), arenaSize
}

// bear makes a child in the place, once.
func (p *Place) bear(b birth) (born, error) {
	if err := <-p.ready; err != nil {
		return born{}, err
	}
	b.result = make(chan born, 1)
	p.births <- b
	close(p.births)
	return <-b.result, nil
}

// Close ends a place where nobody is to be born any more.
func (p *Place) Close() {
	go func() {
		if <-p.ready == nil {
			close(p.births)
		}
	}()
}
