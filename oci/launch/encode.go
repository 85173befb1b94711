package launch

/*
#include "walk.h"
*/
import "C"

import (
	"fmt"
	"sort"
	"unsafe"

	"golang.org/x/sys/unix"
)

// arena is the shared mapping that carries one program to its child: the C structures of walk.h, then the buffers.
type arena struct {
	memory  []byte
	used    int
	program *C.struct_walk_program
	slots   []int64
	buffers map[*buffer]uint64
	vectors map[*string]uint64 // by their first element
}

// align keeps every structure in the arena at a multiple of its largest member.
const align = 8

func roundUp(n int) int { return (n + align - 1) &^ (align - 1) }

// size is the bytes that p needs in an arena.
func (p *Program) size(ranges int) int {
	n := roundUp(C.sizeof_struct_walk_program) +
		len(p.steps)*roundUp(C.sizeof_struct_walk_step) +
		len(p.slots)*align + roundUp(ranges*2*4)
	for _, s := range p.steps {
		for _, a := range s.args {
			if a.data != nil {
				n += roundUp(len(a.data.bytes))
			}
			for _, v := range a.vector {
				n += align + roundUp(len(v)+1)
			}
			n += 2 * align
		}
	}
	return n
}

// encode lays p out in a new mapping. sync is the child's end of the socket; everything but it, the standard descriptors and
// what p keeps is closed first.
func (p *Program) encode(sync int) (*arena, error) {
	ranges := closeRanges(append([]int{0, 1, 2, sync}, p.keep...))
	memory, err := unix.Mmap(-1, 0, p.size(len(ranges)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap of the launch program: %w", err)
	}
	a := &arena{memory: memory, buffers: make(map[*buffer]uint64), vectors: make(map[*string]uint64)}
	a.program = (*C.struct_walk_program)(a.take(C.sizeof_struct_walk_program))
	if len(p.slots) > 0 {
		a.slots = unsafe.Slice((*int64)(a.take(len(p.slots)*align)), len(p.slots))
	}
	for i := range a.slots {
		a.slots[i] = -1
	}
	steps := unsafe.Slice((*C.struct_walk_step)(a.take(len(p.steps)*C.sizeof_struct_walk_step)), len(p.steps))
	for i, s := range p.steps {
		if err := p.encodeStep(a, &steps[i], s); err != nil {
			a.free()
			return nil, fmt.Errorf("launch program, step %d (%s): %w", i, s, err)
		}
	}
	a.program.steps_count = C.uint32_t(len(p.steps))
	a.program.steps = address(unsafe.Pointer(unsafe.SliceData(steps)))
	a.program.slots = address(unsafe.Pointer(unsafe.SliceData(a.slots)))
	a.program.ranges_count = C.uint32_t(len(ranges))
	if len(ranges) > 0 {
		list := unsafe.Slice((*[2]uint32)(a.take(len(ranges)*2*4)), len(ranges))
		copy(list, ranges)
		a.program.ranges = address(unsafe.Pointer(unsafe.SliceData(list)))
	}
	a.program.sync = C.int32_t(sync)
	a.program.step = -1
	return a, nil
}

func (p *Program) encodeStep(a *arena, to *C.struct_walk_step, s step) error {
	to.operation = C.uint32_t(s.operation)
	to.number = C.uint64_t(s.number)
	to.result = C.int32_t(s.result)
	var err error
	if to.on_success, err = p.target(s.onSuccess); err != nil {
		return err
	}
	if to.on_error, err = p.target(s.onError); err != nil {
		return err
	}
	for i, e := range s.errnos {
		to.errnos[i] = C.int32_t(e)
	}
	for i, arg := range s.args {
		switch arg.kind {
		case argSlot:
			to.from_slot |= 1 << i
			to.args[i] = C.uint64_t(arg.value)
		case argBuffer:
			to.args[i] = a.buffer(arg.data)
		case argVector:
			to.args[i] = a.vector(arg.vector)
		case argPointing:
			pair := (*[2]C.uint64_t)(a.take(2 * align))
			pair[0], pair[1] = C.uint64_t(arg.value), a.buffer(arg.data)
			to.args[i] = address(unsafe.Pointer(pair))
		default:
			to.args[i] = C.uint64_t(arg.value)
		}
	}
	return nil
}

func (p *Program) target(l Label) (C.int32_t, error) {
	if l == noLabel {
		return -1, nil
	}
	at := p.labels[l].at
	if at < 0 || at >= len(p.steps) {
		return -1, fmt.Errorf("label %q is not placed before a step", p.labels[l].name)
	}
	return C.int32_t(at), nil
}

// take returns the next n bytes of the arena, which size has made large enough.
func (a *arena) take(n int) unsafe.Pointer {
	start := a.used
	a.used += roundUp(n)
	return unsafe.Pointer(unsafe.SliceData(a.memory[start:a.used]))
}

func address(p unsafe.Pointer) C.uint64_t { return C.uint64_t(uintptr(p)) }

func (a *arena) buffer(b *buffer) C.uint64_t {
	if len(b.bytes) == 0 {
		return 0
	}
	if at, ok := a.buffers[b]; ok {
		return C.uint64_t(at)
	}
	at := a.take(len(b.bytes))
	copy(unsafe.Slice((*byte)(at), len(b.bytes)), b.bytes)
	a.buffers[b] = uint64(uintptr(at))
	return address(at)
}

func (a *arena) vector(list []string) C.uint64_t {
	if at, ok := a.vectors[unsafe.SliceData(list)]; ok && len(list) > 0 {
		return C.uint64_t(at)
	}
	pointers := unsafe.Slice((*C.uint64_t)(a.take((len(list)+1)*align)), len(list)+1)
	for i, v := range list {
		at := a.take(len(v) + 1)
		copy(unsafe.Slice((*byte)(at), len(v)), v) // the mapping is zero, so the string is terminated
		pointers[i] = address(at)
	}
	if len(list) > 0 {
		a.vectors[unsafe.SliceData(list)] = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(pointers))))
	}
	return address(unsafe.Pointer(unsafe.SliceData(pointers)))
}

func (a *arena) free() {
	if a.memory != nil {
		_ = unix.Munmap(a.memory) // it can only fail for a bad address
		a.memory = nil
	}
}

// closeRanges is the complement of keep in the descriptor numbers, as pairs for close_range(2).
func closeRanges(keep []int) [][2]uint32 {
	sort.Ints(keep)
	var ranges [][2]uint32
	next := 0
	for _, fd := range keep {
		if fd > next {
			ranges = append(ranges, [2]uint32{uint32(next), uint32(fd - 1)})
		}
		if fd >= next {
			next = fd + 1
		}
	}
	return append(ranges, [2]uint32{uint32(next), ^uint32(0)})
}
