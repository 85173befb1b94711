package main

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mark is a flag of open that nothing but openFile gives, so that its calls can be told from those of Go's runtime.
const mark = unix.O_NOFOLLOW | unix.O_NOCTTY

// openFile opens a file by one of the calls that do and prints "opened".
func openFile(args []string) (string, error) {
	how, path := args[0], args[1]
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return "", err
	}
	var fd uintptr
	var errno unix.Errno
	switch how {
	case "openat":
		at := unix.AT_FDCWD
		fd, _, errno = unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(name)), mark, 0, 0, 0)
	case "openat2":
		at, how := unix.AT_FDCWD, unix.OpenHow{Flags: mark}
		fd, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(at), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	default:
		fd, errno, err = openOld(how, name)
	}
	if err != nil {
		return "", err
	}
	if errno != 0 {
		return "", errno
	}
	return "opened", unix.Close(int(fd))
}

// readByOpenat2 opens a file with openat2 and prints what is in it.
func readByOpenat2(args []string) (string, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, args[0], &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC})
	if err != nil {
		return "", err
	}
	file := os.NewFile(uintptr(fd), args[0])
	defer file.Close()
	text, err := io.ReadAll(file)
	return string(text), err
}

// bind binds a socket to an address or a path and prints "bound".
func bind(args []string) (string, error) {
	kind, at := args[0], args[1]
	var fd int
	var err error
	var address unix.Sockaddr
	if kind == "unix" {
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		address = &unix.SockaddrUnix{Name: at}
	} else {
		to, parseErr := netip.ParseAddrPort(at)
		if parseErr != nil {
			return "", parseErr
		}
		fd, err = unix.Socket(unix.AF_INET, map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}[kind], 0)
		address = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	if err != nil {
		return "", err
	}
	return "bound", errors.Join(unix.Bind(fd, address), unix.Close(fd))
}

// execute replaces the guest by another program, by one of the calls that do.
func execute(args []string) (string, error) {
	how, path := args[0], args[1]
	argv := args[1:]
	if how == "execve" {
		return "", unix.Exec(path, argv, os.Environ())
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	list := make([]*byte, len(argv)+1)
	for i, arg := range argv {
		if list[i], err = unix.BytePtrFromString(arg); err != nil {
			return "", err
		}
	}
	var empty [1]*byte
	var nothing byte
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&nothing)), uintptr(unsafe.Pointer(&list[0])),
		uintptr(unsafe.Pointer(&empty[0])), unix.AT_EMPTY_PATH, 0)
	return "", errno
}
