package onbehalf

import (
	"encoding/binary"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// readChange reads the arguments of a call of [Changes]. What is not a path is copied here, too, and checked by the kernel when the call is made.
func readChange(c *seccompnotif.Call) (change, unix.Errno) {
	integer := func(i int) int { return int(int32(c.Arg(i))) }
	path := func(addr int, follow bool) []operand {
		return []operand{{dirfd: unix.AT_FDCWD, addr: c.Arg(addr), follow: follow}}
	}
	pathAt := func(flags, known int) ([]operand, unix.Errno) {
		if flags&^known != 0 {
			return nil, unix.EINVAL
		}
		return []operand{{dirfd: integer(0), addr: c.Arg(1), follow: flags&unix.AT_SYMLINK_NOFOLLOW == 0, empty: flags&unix.AT_EMPTY_PATH != 0}}, 0
	}
	entry := func(addr int) operand { return operand{dirfd: unix.AT_FDCWD, addr: c.Arg(addr), entry: true} }
	entryAt := func(dirfd int) operand { return operand{dirfd: integer(dirfd), addr: c.Arg(dirfd + 1), entry: true} }

	switch c.Syscall() {
	case sysLink:
		return link(operand{dirfd: unix.AT_FDCWD, addr: c.Arg(0)}, entry(1)), 0
	case unix.SYS_LINKAT:
		flags := integer(4)
		if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
			return change{}, unix.EINVAL
		}
		old := operand{dirfd: integer(0), addr: c.Arg(1), follow: flags&unix.AT_SYMLINK_FOLLOW != 0, empty: flags&unix.AT_EMPTY_PATH != 0}
		return link(old, entryAt(2)), 0
	case sysRename:
		return rename(entry(0), entry(1), 0), 0
	case sysRenameat:
		return rename(entryAt(0), entryAt(2), 0), 0
	case unix.SYS_RENAMEAT2:
		flags := uint(uint32(c.Arg(4)))
		const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
		if flags&^known != 0 || flags&unix.RENAME_EXCHANGE != 0 && flags != unix.RENAME_EXCHANGE {
			return change{}, unix.EINVAL
		}
		return rename(entryAt(0), entryAt(2), flags), 0
	case sysUnlink:
		return remove(entry(0), 0), 0
	case sysRmdir:
		return remove(entry(0), unix.AT_REMOVEDIR), 0
	case unix.SYS_UNLINKAT:
		if flags := integer(2); flags&^unix.AT_REMOVEDIR != 0 {
			return change{}, unix.EINVAL
		}
		return remove(entryAt(0), integer(2)), 0
	case sysMkdir:
		return mkdir(entry(0), uint32(c.Arg(1))), 0
	case unix.SYS_MKDIRAT:
		return mkdir(entryAt(0), uint32(c.Arg(2))), 0
	case sysMknod:
		return mknod(entry(0), uint32(c.Arg(1)), uint32(c.Arg(2))), 0
	case unix.SYS_MKNODAT:
		return mknod(entryAt(0), uint32(c.Arg(2)), uint32(c.Arg(3))), 0
	case sysSymlink:
		return symlink(c, c.Arg(0), entry(1))
	case unix.SYS_SYMLINKAT:
		return symlink(c, c.Arg(0), entryAt(1))
	case unix.SYS_TRUNCATE:
		size := int64(c.Arg(1))
		if size < 0 {
			return change{}, unix.EINVAL
		}
		return change{operands: path(0, true), act: onObject(func(w *worker, o *Object) error { return unix.Truncate(itself(o), size) })}, 0
	case sysChmod:
		return chmod(path(0, true), uint32(c.Arg(1))), 0
	case unix.SYS_FCHMODAT:
		return chmod([]operand{{dirfd: integer(0), addr: c.Arg(1), follow: true}}, uint32(c.Arg(2))), 0
	case unix.SYS_FCHMODAT2:
		on, errno := pathAt(integer(3), unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
		return chmod(on, uint32(c.Arg(2))), errno
	case sysChown:
		return chown(path(0, true), integer(1), integer(2)), 0
	case sysLchown:
		return chown(path(0, false), integer(1), integer(2)), 0
	case unix.SYS_FCHOWNAT:
		on, errno := pathAt(integer(4), unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
		return chown(on, integer(2), integer(3)), errno
	case sysUtime:
		return utimes(c, path(0, true), c.Arg(1), readUtimbuf)
	case sysUtimes:
		return utimes(c, path(0, true), c.Arg(1), readTimevals)
	case sysFutimesat:
		return utimes(c, []operand{{dirfd: integer(0), addr: c.Arg(1), follow: true, empty: c.Arg(1) == 0}}, c.Arg(2), readTimevals)
	case unix.SYS_UTIMENSAT:
		on, errno := pathAt(integer(3), unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
		if errno != 0 {
			return change{}, errno
		}
		if c.Arg(1) == 0 && integer(0) != unix.AT_FDCWD { // futimens(3)
			if integer(3) != 0 {
				return change{}, unix.EINVAL
			}
			on[0].empty = true
		}
		return utimes(c, on, c.Arg(2), readTimespecs)
	case unix.SYS_SETXATTR, unix.SYS_LSETXATTR:
		return setxattr(c, path(0, c.Syscall() == unix.SYS_SETXATTR))
	case unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR:
		name, errno := readAttributeName(c)
		return change{operands: path(0, c.Syscall() == unix.SYS_REMOVEXATTR), act: onObject(func(w *worker, o *Object) error {
			return unix.Removexattr(itself(o), name)
		})}, errno
	}
	return change{}, unix.ENOSYS
}

// itself is a path of the object: a worker's working directory has its descriptors by number.
func itself(o *Object) string { return strconv.Itoa(o.fd) }

// onObject makes a change of one object.
func onObject(f func(w *worker, o *Object) error) func(*worker, *guest, []*Object) unix.Errno {
	return func(w *worker, _ *guest, on []*Object) unix.Errno { return errnoOf(f(w, on[0])) }
}

// nameless is what the kernel says about a path that ends in no name of a directory.
func nameless(o *Object, errno unix.Errno) unix.Errno {
	if o.parent < 0 {
		return errno
	}
	return 0
}

func link(from, to operand) change {
	return change{operands: []operand{from, to}, act: func(w *worker, _ *guest, on []*Object) unix.Errno {
		if errno := nameless(on[1], unix.EEXIST); errno != 0 {
			return errno
		}
		return errnoOf(unix.Linkat(w.fds, itself(on[0]), on[1].parent, on[1].name, unix.AT_SYMLINK_FOLLOW))
	}}
}

func rename(from, to operand, flags uint) change {
	return change{operands: []operand{from, to}, act: func(w *worker, _ *guest, on []*Object) unix.Errno {
		for _, o := range on {
			if errno := nameless(o, unix.EBUSY); errno != 0 {
				return errno
			}
		}
		return errnoOf(unix.Renameat2(on[0].parent, on[0].name, on[1].parent, on[1].name, flags))
	}}
}

func remove(what operand, flags int) change {
	return change{operands: []operand{what}, act: onObject(func(w *worker, o *Object) error {
		if o.parent >= 0 {
			return unix.Unlinkat(o.parent, o.name, flags)
		}
		// It is a directory that the path does not name: the kernel says what is wrong with the end of it.
		if flags == 0 {
			return unix.EISDIR
		}
		return o.unnamed
	})}
}

func mkdir(what operand, mode uint32) change {
	return change{operands: []operand{what}, act: onObject(func(w *worker, o *Object) error {
		if errno := nameless(o, unix.EEXIST); errno != 0 {
			return errno
		}
		return unix.Mkdirat(o.parent, o.name, mode)
	})}
}

func mknod(what operand, mode, device uint32) change {
	return change{operands: []operand{what}, act: onObject(func(w *worker, o *Object) error {
		if errno := nameless(o, unix.EEXIST); errno != 0 {
			return errno
		}
		name, err := unix.BytePtrFromString(o.name)
		if err != nil {
			return err
		}
		_, _, errno := unix.Syscall6(unix.SYS_MKNODAT, uintptr(o.parent), uintptr(unsafe.Pointer(name)), uintptr(mode), uintptr(device), 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})}
}

func symlink(c *seccompnotif.Call, target uint64, what operand) (change, unix.Errno) {
	text, errno := readPath(c, target)
	if errno == 0 && text == "" {
		errno = unix.ENOENT
	}
	return change{operands: []operand{what}, act: onObject(func(w *worker, o *Object) error {
		if errno := nameless(o, unix.EEXIST); errno != 0 {
			return errno
		}
		return unix.Symlinkat(text, o.parent, o.name)
	})}, errno
}

func chmod(on []operand, mode uint32) change {
	return change{operands: on, act: onObject(func(w *worker, o *Object) error { return unix.Fchmodat(w.fds, itself(o), mode, 0) })}
}

func chown(on []operand, uid, gid int) change {
	return change{operands: on, act: func(w *worker, g *guest, on []*Object) unix.Errno {
		u, h, errno := w.engine.outside(g, uint32(uid), uint32(gid))
		if errno != 0 {
			return errno
		}
		return errnoOf(unix.Fchownat(on[0].fd, "", int(int32(u)), int(int32(h)), unix.AT_EMPTY_PATH))
	}}
}

// utimes makes a change of times, which are read from the guest at addr, the present if there is nothing.
func utimes(c *seccompnotif.Call, on []operand, addr uint64, read func(*seccompnotif.Call, uint64) ([2]unix.Timespec, unix.Errno)) (change, unix.Errno) {
	var times *[2]unix.Timespec
	if addr != 0 {
		given, errno := read(c, addr)
		if errno != 0 {
			return change{}, errno
		}
		times = &given
	}
	return change{operands: on, act: onObject(func(w *worker, o *Object) error {
		empty := [...]byte{0}
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(o.fd), uintptr(unsafe.Pointer(&empty)), uintptr(unsafe.Pointer(times)), unix.AT_EMPTY_PATH, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})}, 0
}

// words reads signed 64-bit numbers.
func words(c *seccompnotif.Call, addr uint64, into []int64) unix.Errno {
	b := make([]byte, 8*len(into))
	if err := c.ReadMemory(addr, b); err != nil {
		return errnoOf(err)
	}
	for i := range into {
		into[i] = int64(binary.NativeEndian.Uint64(b[8*i:]))
	}
	return 0
}

func readTimespecs(c *seccompnotif.Call, addr uint64) (t [2]unix.Timespec, errno unix.Errno) {
	var n [4]int64
	errno = words(c, addr, n[:])
	return [2]unix.Timespec{{Sec: n[0], Nsec: n[1]}, {Sec: n[2], Nsec: n[3]}}, errno
}

func readTimevals(c *seccompnotif.Call, addr uint64) (t [2]unix.Timespec, errno unix.Errno) {
	const second = 1e6
	var n [4]int64
	if errno = words(c, addr, n[:]); errno != 0 {
		return t, errno
	}
	if n[1] < 0 || n[1] >= second || n[3] < 0 || n[3] >= second {
		return t, unix.EINVAL
	}
	return [2]unix.Timespec{{Sec: n[0], Nsec: n[1] * 1000}, {Sec: n[2], Nsec: n[3] * 1000}}, 0
}

// readUtimbuf reads a struct utimbuf of <utime.h>.
func readUtimbuf(c *seccompnotif.Call, addr uint64) (t [2]unix.Timespec, errno unix.Errno) {
	var n [2]int64
	errno = words(c, addr, n[:])
	return [2]unix.Timespec{{Sec: n[0]}, {Sec: n[1]}}, errno
}

const (
	maxAttributeName  = 255      // XATTR_NAME_MAX of <linux/limits.h>
	maxAttributeValue = 64 << 10 // XATTR_SIZE_MAX
)

func readAttributeName(c *seccompnotif.Call) (string, unix.Errno) {
	name, err := c.ReadString(c.Arg(1), maxAttributeName+1)
	switch errno := errnoOf(err); {
	case errno == unix.ENAMETOOLONG || errno == 0 && name == "":
		return "", unix.ERANGE
	default:
		return name, errno
	}
}

func setxattr(c *seccompnotif.Call, on []operand) (change, unix.Errno) {
	name, errno := readAttributeName(c)
	if errno != 0 {
		return change{}, errno
	}
	size := c.Arg(3)
	if size > maxAttributeValue {
		return change{}, unix.E2BIG
	}
	value := make([]byte, size)
	if err := c.ReadMemory(c.Arg(2), value); err != nil {
		return change{}, errnoOf(err)
	}
	flags := int(int32(c.Arg(4)))
	return change{operands: on, act: onObject(func(w *worker, o *Object) error { return unix.Setxattr(itself(o), name, value, flags) })}, 0
}
