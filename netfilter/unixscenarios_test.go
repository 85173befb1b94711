package netfilter

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unixAttempt is one try to reach a Unix socket.
type unixAttempt struct {
	Path     string // an abstract one begins with @
	Type     int
	Send     bool // sendto instead of connect
	Message  bool // sendmsg instead of sendto
	Root     string
	Cwd      string
	UID, GID int
}

// unixSockets makes attempts, each on a thread of its own.
func unixSockets(me *self) any {
	var list []unixAttempt
	me.arguments(&list)
	results := make([]outcome, len(list))
	for i, a := range list {
		onThread(func() {
			if a.Root != "" {
				if err := unix.Chroot(a.Root); err != nil {
					panic(err)
				}
			}
			if a.Cwd != "" {
				if err := unix.Chdir(a.Cwd); err != nil {
					panic(err)
				}
			}
			if a.UID != 0 {
				become(a.UID, a.GID)
			}
			results[i] = a.make()
		})
	}
	return results
}

func (a unixAttempt) make() outcome {
	fd, err := unix.Socket(unix.AF_UNIX, a.Type, 0)
	if err != nil {
		return outcome{-1, err.(unix.Errno), "socket"}
	}
	defer unix.Close(fd)
	sa := sockaddrUnix(a.Path)
	data := []byte("unix")
	var r outcome
	switch {
	case a.Message:
		r = raw("sendmsg", unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(newMessage(sa, data, nil))), 0, 0, 0, 0)
	case a.Send:
		r = raw("sendto", unix.SYS_SENDTO, uintptr(fd), pointer(data), uintptr(len(data)), 0, pointer(sa), uintptr(len(sa)))
	default:
		r = raw("connect", unix.SYS_CONNECT, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0)
		if r.Errno == 0 {
			r.N, _ = unix.Write(fd, data)
		}
	}
	runtime.KeepAlive(sa)
	runtime.KeepAlive(data)
	return r
}

// sockaddrUnix lays out a path, padded so that it is notified, or an abstract name.
func sockaddrUnix(path string) []byte {
	sa := []byte{unix.AF_UNIX, 0}
	sa = append(sa, path...)
	if path[0] == '@' {
		sa[2] = 0
		return sa
	}
	for len(sa) < 32 || sa[len(sa)-1] != 0 {
		sa = append(sa, 0)
	}
	return sa
}

// passDescriptor sends the read end of a pipe over a Unix socket, and what is in the pipe through it.
func passDescriptor(me *self) any {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		panic(err)
	}
	if _, err := unix.Write(p[1], []byte("through the pipe")); err != nil {
		panic(err)
	}
	unix.Close(p[1])
	control := unix.UnixRights(p[0])
	return raw("sendmsg", unix.SYS_SENDMSG, firstExtra, uintptr(unsafe.Pointer(newMessage(nil, []byte("fd"), control))), 0, 0, 0, 0)
}

// credentials sends messages that say, or do not say, who sends them.
func credentials(me *self) any {
	send := func(control []byte) outcome {
		return raw("sendmsg", unix.SYS_SENDMSG, firstExtra, uintptr(unsafe.Pointer(newMessage(nil, []byte("who"), control))), 0, 0, 0, 0)
	}
	var results []outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock
		become(4242, 4343)
		own := unix.Ucred{Pid: int32(os.Getpid()), Uid: 4242, Gid: 4343}
		otherPID, otherUID := own, own
		otherPID.Pid = 1
		otherUID.Uid = 0
		results = append(results, send(nil), send(unix.UnixCredentials(&own)), send(unix.UnixCredentials(&otherPID)), send(unix.UnixCredentials(&otherUID)))
	}()
	<-done
	return results
}
