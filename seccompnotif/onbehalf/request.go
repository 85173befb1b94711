package onbehalf

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// request is what an open-like call asks for, copied from the guest once.
type request struct {
	dirfd int
	path  string
	how   unix.OpenHow
	// strict is openat2(2), which refuses what the older calls ignore.
	strict bool
}

// readRequest reads the arguments of open, creat, openat or openat2.
func readRequest(c *seccompnotif.Call) (request, unix.Errno) {
	r := request{dirfd: unix.AT_FDCWD}
	path := c.Arg(0)
	switch c.Syscall() {
	case sysOpen:
		r.how.Flags, r.how.Mode = uint64(uint32(c.Arg(1))), uint64(uint32(c.Arg(2)))
	case sysCreat:
		r.how.Flags, r.how.Mode = unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, uint64(uint32(c.Arg(1)))
	case unix.SYS_OPENAT:
		r.dirfd, path = int(int32(c.Arg(0))), c.Arg(1)
		r.how.Flags, r.how.Mode = uint64(uint32(c.Arg(2))), uint64(uint32(c.Arg(3)))
	case unix.SYS_OPENAT2:
		r.dirfd, path = int(int32(c.Arg(0))), c.Arg(1)
		r.strict = true
		var errno unix.Errno
		if r.how, errno = readHow(c, c.Arg(2), c.Arg(3)); errno != 0 {
			return r, errno
		}
	default:
		return r, unix.ENOSYS
	}
	if errno := r.check(); errno != 0 {
		return r, errno
	}
	var errno unix.Errno
	r.path, errno = readPath(c, path)
	if errno == 0 && r.path == "" {
		errno = unix.ENOENT
	}
	return r, errno
}

// readPath copies a path.
func readPath(c *seccompnotif.Call, addr uint64) (string, unix.Errno) {
	path, err := c.ReadString(addr, unix.PathMax)
	return path, errnoOf(err)
}

// sizeofHow is OPEN_HOW_SIZE_VER0 of <linux/openat2.h>.
const sizeofHow = 24

// readHow copies a struct open_how. A longer one than ours is one whose further members are zero.
func readHow(c *seccompnotif.Call, addr, size uint64) (unix.OpenHow, unix.Errno) {
	switch {
	case size < sizeofHow:
		return unix.OpenHow{}, unix.EINVAL
	case size > uint64(os.Getpagesize()):
		return unix.OpenHow{}, unix.E2BIG
	}
	b := make([]byte, size)
	if err := c.ReadMemory(addr, b); err != nil {
		return unix.OpenHow{}, errnoOf(err)
	}
	return parseHow(b)
}

func parseHow(b []byte) (unix.OpenHow, unix.Errno) {
	if len(b) < sizeofHow {
		return unix.OpenHow{}, unix.EINVAL
	}
	for _, more := range b[sizeofHow:] {
		if more != 0 {
			return unix.OpenHow{}, unix.E2BIG
		}
	}
	return unix.OpenHow{
		Flags:   binary.NativeEndian.Uint64(b),
		Mode:    binary.NativeEndian.Uint64(b[8:]),
		Resolve: binary.NativeEndian.Uint64(b[16:]),
	}, 0
}

// resolveCached is RESOLVE_CACHED of <linux/openat2.h>.
const resolveCached = 0x20

// check has the kernel say whether the flags go together, which it looks at before anything else, and brings them into the form that
// the rest can count on.
func (r *request) check() unix.Errno {
	const nowhere = -1
	var err error
	if r.strict {
		_, err = unix.Openat2(nowhere, "", &r.how)
	} else {
		_, err = unix.Openat(nowhere, "", int(r.how.Flags), uint32(r.how.Mode))
	}
	if errno := errnoOf(err); errno != unix.ENOENT {
		return errno
	}
	if r.how.Resolve&resolveCached != 0 {
		return unix.EAGAIN // which anything may be answered with that is not in the caches
	}
	if r.has(unix.O_PATH) {
		return unix.ENOSYS // see package comment
	}
	r.how.Mode &= 0o7777
	return 0
}

func (r *request) has(flag uint64) bool { return r.how.Flags&flag == flag }

// writes tells whether the open file is to be written to.
func (r *request) writes() bool { return r.how.Flags&unix.O_ACCMODE != unix.O_RDONLY }
