package launch

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bytesOf is v's memory, for structures that the kernel reads.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

func flagNames(v uint64, names []flagName) string {
	var set []string
	for _, n := range names {
		if n.value != 0 && v&n.value == n.value {
			set = append(set, n.name)
			v &^= n.value
		}
	}
	if v != 0 {
		set = append(set, fmt.Sprintf("%#x", v))
	}
	if len(set) == 0 {
		return "0"
	}
	return strings.Join(set, "|")
}

type flagName struct {
	value uint64
	name  string
}

var openFlagNames = []flagName{
	{unix.O_PATH, "O_PATH"}, {unix.O_CLOEXEC, "O_CLOEXEC"}, {unix.O_DIRECTORY, "O_DIRECTORY"}, {unix.O_NOFOLLOW, "O_NOFOLLOW"},
	{unix.O_CREAT, "O_CREAT"}, {unix.O_EXCL, "O_EXCL"}, {unix.O_RDWR, "O_RDWR"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_NOCTTY, "O_NOCTTY"},
}

var resolveNames = []flagName{
	{unix.RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"}, {unix.RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"},
	{unix.RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"}, {unix.RESOLVE_BENEATH, "RESOLVE_BENEATH"}, {unix.RESOLVE_NO_XDEV, "RESOLVE_NO_XDEV"},
}

// Openat2 is openat2(2), repeated as [OpenInRoot] does; its result is the descriptor.
func (p *Program) Openat2(dir FD, path string, flags uint64, mode uint64, resolve uint64) Step {
	how := unix.OpenHow{Flags: flags, Mode: mode, Resolve: resolve}
	return p.call(opLookup, "openat2", unix.SYS_OPENAT2, dir.Arg, Text(path), structure(&how, printOpenHow), Value(uint64(unsafe.Sizeof(how))))
}

func printOpenHow(a Arg) string {
	how := structureOf[unix.OpenHow](a)
	text := "{" + flagNames(how.Flags, openFlagNames)
	if how.Mode != 0 {
		text += fmt.Sprintf(", %#o", how.Mode)
	}
	return text + ", " + flagNames(how.Resolve, resolveNames) + "}"
}

// Mkdirat is mkdirat(2). The last component of path is never followed if it is a symbolic link.
func (p *Program) Mkdirat(dir FD, path string, mode uint64) Step {
	return p.Call("mkdirat", unix.SYS_MKDIRAT, dir.Arg, Text(path), named(mode, printMode))
}

// Mknodat is mknodat(2) with the file type in mode.
func (p *Program) Mknodat(dir FD, path string, mode uint64, device uint64) Step {
	return p.Call("mknodat", unix.SYS_MKNODAT, dir.Arg, Text(path), named(mode, printMode), named(device, printDevice))
}

func printDevice(a Arg) string { return fmt.Sprintf("%d:%d", unix.Major(a.value), unix.Minor(a.value)) }

// Symlinkat is symlinkat(2).
func (p *Program) Symlinkat(target string, dir FD, path string) Step {
	return p.Call("symlinkat", unix.SYS_SYMLINKAT, Text(target), dir.Arg, Text(path))
}

// Fchownat is fchownat(2) without following a symbolic link; an empty path is the descriptor itself.
func (p *Program) Fchownat(dir FD, path string, uid, gid uint32) Step {
	return p.Call("fchownat", unix.SYS_FCHOWNAT, dir.Arg, Text(path), Value(uint64(uid)), Value(uint64(gid)),
		Flags(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, "AT_SYMLINK_NOFOLLOW|AT_EMPTY_PATH"))
}

// Fchmodat is fchmodat(2): it follows symbolic links, so it is for paths that the program has made itself.
func (p *Program) Fchmodat(dir FD, path string, mode uint64) Step {
	return p.Call("fchmodat", unix.SYS_FCHMODAT, dir.Arg, Text(path), named(mode, printMode))
}

// Write is write(2) of the whole of data.
func (p *Program) Write(file FD, data string) Step {
	return p.Call("write", unix.SYS_WRITE, file.Arg, Bytes([]byte(data), fmt.Sprintf("%q", data)), Value(uint64(len(data))))
}

// WriteFile opens path beneath dir for writing, writes data in one call, as files of /proc want it, and closes.
func (p *Program) WriteFile(dir FD, path, data string) {
	file := p.Openat2(dir, path, unix.O_WRONLY|unix.O_CLOEXEC, 0, 0).Result("file")
	p.Write(file, data)
	p.Close(file)
}

// Close is close(2).
func (p *Program) Close(file FD) Step {
	return p.Call("close", unix.SYS_CLOSE, file.Arg)
}

// Dup3 is dup3(2) without O_CLOEXEC; where both numbers are the same the call fails with EINVAL, which is ignored.
func (p *Program) Dup3(file FD, number int) Step {
	return p.Call("dup3", unix.SYS_DUP3, file.Arg, Value(uint64(number)), Value(0)).Ignore(unix.EINVAL)
}

// Fchdir is fchdir(2).
func (p *Program) Fchdir(dir FD) Step { return p.Call("fchdir", unix.SYS_FCHDIR, dir.Arg) }

// Chdir is chdir(2).
func (p *Program) Chdir(path string) Step { return p.Call("chdir", unix.SYS_CHDIR, Text(path)) }
