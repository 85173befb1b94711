package seccompnotif

import (
	"bytes"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// smallestPage is the page size of amd64 and the smallest of arm64. A stretch that crosses no boundary of the smallest page
// crosses none of a larger one.
const smallestPage = 4096

// MemoryError is a failed access to the guest's memory.
type MemoryError struct {
	Op     string // "read", "write" or "read string"
	Addr   uint64 // where the access began
	Length int    // bytes wanted; for a string, the limit
	Err    error  // EFAULT, ENAMETOOLONG, ErrGone, or what process_vm_readv(2) says
}

// Error says it in one line.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("guest memory: %s of %d bytes at %#x: %v", e.Op, e.Length, e.Addr, e.Err)
}

// Unwrap returns Err.
func (e *MemoryError) Unwrap() error { return e.Err }

// ReadMemory fills into from the guest's memory at addr. The notification is checked before and after, so that what was read
// is the memory of the task that called and not of one that got its pid. A null address and a read that ends early are
// EFAULT, a notification that ended is [ErrGone], both in a [MemoryError]; into is then undefined.
func (c *Call) ReadMemory(addr uint64, into []byte) error {
	return c.access("read", unix.SYS_PROCESS_VM_READV, addr, into)
}

// WriteMemory copies from into the guest's memory at addr. A page that the guest may not write is EFAULT, and so is a write
// that ends early, whose beginning stays written. While an execve's arguments are judged ([JudgeExec]) it waits, and for that
// execve itself it is EBUSY. The rest is as in [Call.ReadMemory].
func (c *Call) WriteMemory(addr uint64, from []byte) error {
	if c.frozen {
		return &MemoryError{Op: "write", Addr: addr, Length: len(from), Err: unix.EBUSY}
	}
	c.tracer.pass()
	defer c.tracer.passed()
	return c.access("write", unix.SYS_PROCESS_VM_WRITEV, addr, from)
}

func (c *Call) access(op string, trap uintptr, addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	err := error(ErrGone)
	if c.Valid() {
		if err = c.transfer(trap, addr, b); err == nil {
			if c.Valid() {
				return nil
			}
			err = ErrGone
		}
	}
	return &MemoryError{Op: op, Addr: addr, Length: len(b), Err: err}
}

// transfer moves len(b) bytes between b and the guest, without checking the notification.
func (c *Call) transfer(trap uintptr, addr uint64, b []byte) error {
	if addr == 0 || addr+uint64(len(b)) < addr {
		return unix.EFAULT
	}
	local := unix.Iovec{Base: &b[0]}
	local.SetLen(len(b))
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(b)}
	// Not a raw system call: a page of the guest may be backed by something slow, and the Go scheduler must know of it.
	n, _, e := unix.Syscall6(trap, uintptr(c.n.pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	switch {
	case e != 0:
		return e
	case int(n) != len(b):
		return unix.EFAULT
	}
	return nil
}

var stringPages = sync.Pool{New: func() any { return new([smallestPage]byte) }}

// ReadString reads the NUL-terminated string at addr. limit is the most bytes that are looked at, the NUL included, as
// PATH_MAX counts; with no NUL among them the error is ENAMETOOLONG. A page is read only when the one before it held no NUL,
// so a string that ends at the end of a mapping is read. Errors come in a [MemoryError], never with a truncated string.
func (c *Call) ReadString(addr uint64, limit int) (string, error) {
	fail := func(err error) (string, error) {
		return "", &MemoryError{Op: "read string", Addr: addr, Length: limit, Err: err}
	}
	if !c.Valid() {
		return fail(ErrGone)
	}
	page := stringPages.Get().(*[smallestPage]byte)
	defer stringPages.Put(page)
	s, err := readString(addr, limit, page, func(at uint64, into []byte) error {
		return c.transfer(unix.SYS_PROCESS_VM_READV, at, into)
	})
	if err != nil {
		return fail(err)
	}
	if !c.Valid() {
		return fail(ErrGone)
	}
	return s, nil
}

// readString is the arithmetic of [Call.ReadString]: read is asked for stretches that cross no page boundary.
func readString(addr uint64, limit int, page *[smallestPage]byte, read func(at uint64, into []byte) error) (string, error) {
	if addr == 0 {
		return "", unix.EFAULT
	}
	var before []byte // what the earlier pages held
	for limit > 0 {
		stretch := page[:min(limit, smallestPage-int(addr%smallestPage))]
		if err := read(addr, stretch); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(stretch, 0); end >= 0 {
			return string(append(before, stretch[:end]...)), nil
		}
		before = append(before, stretch...)
		limit -= len(stretch)
		addr += uint64(len(stretch))
		if addr == 0 { // past the end of the address space
			return "", unix.EFAULT
		}
	}
	return "", unix.ENAMETOOLONG
}
