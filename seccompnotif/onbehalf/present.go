package onbehalf

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Presenter shows guests something else than what some files of procfs hold, none of which is right in the directory of a process. It protects nothing: who opens such a file otherwise than
// for reading alone gets the file itself. Its methods are called by several goroutines.
type Presenter interface {
	// Active tells whether there is anything to be shown otherwise. It is asked at every open, so it must be quick.
	Active() bool
	// Names tells whether such a file may have a name in its directory.
	Names(name string) bool
	// Recognises tells whether an object may be such a file. It runs as a [Judge] does.
	Recognises(*Object) bool
	// Present returns what answers the open of a file, which is open for reading at fd. False leaves the guest the file itself.
	Present(c *seccompnotif.Call, fd int) (seccompnotif.Action, bool)
}

// Presenting returns the handler of [Opens] that lets every open through but those of what a presenter shows. It belongs at the end of
// a chain.
func (e *Engine) Presenting(p Presenter) seccompnotif.Handler {
	return seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action {
		if !p.Active() || !e.MayPresent(c, p) {
			return seccompnotif.Continue() // safe: it is no matter what the guest opens in its place
		}
		judge := func(o *Object) (seccompnotif.Action, bool) {
			return seccompnotif.Continue(), !p.Recognises(o) // safe, as above
		}
		return seccompnotif.Hold(func(h *seccompnotif.Held) {
			e.OpenAside(h, judge, func(o *Opened) {
				if !o.IsOpen() {
					_ = h.Answer(seccompnotif.Continue()) // safe, as above, and the error is the kernel's to tell
					return
				}
				o.Present(p)
				_ = h.Answer(o.Action)
			})
		})
	})
}

// IsOpen tells whether a file was opened.
func (o *Opened) IsOpen() bool { return o.opened }

// Present has the call answered with what a presenter shows of the open file, if it is one of the presenter's. A later [Opened.Again] may
// refuse that, too.
func (o *Opened) Present(p Presenter) {
	if !o.opened || o.opening.writes() || !p.Recognises(o.opening.object) {
		return
	}
	action, ok := p.Present(o.opening.guest.call, o.opening.fd)
	if !ok {
		return
	}
	closeAll(o.opening.fd)
	o.opening.fd = -1
	o.Action = action
}

// MayPresent tells whether an open is for reading alone and may lead to one of a presenter's files: false is certain but for what the guest changes
// meanwhile. It is for a listener's own thread: it takes some microseconds, and waits for nothing, since it looks at nothing but the
// kernel's caches.
func (e *Engine) MayPresent(c *seccompnotif.Call, p Presenter) bool {
	q, ok := e.quick(c)
	if !ok {
		return false
	}
	if q.fd < 0 {
		return true
	}
	defer unix.Close(q.fd)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached | unix.RESOLVE_NO_MAGICLINKS | q.scope}
	fd, errno := openat2(q.fd, q.path, &how)
	switch errno {
	case 0:
		defer unix.Close(fd)
		// Where "self" of procfs is somebody to us, it is another process than to the guest, but the name is the same.
		return inProc(fd) && (p.Names(path.Base(e.nameOf(fd))) || isMountRoot(fd))
	case unix.ENOENT:
		if ownProcFile(q.path) {
			return false
		}
		// "self" may be nobody to us. Without a step into another mount there is no procfs on the way.
		how.Resolve |= unix.RESOLVE_NO_XDEV
		fd, errno = openat2(q.fd, q.path, &how)
		closeAll(fd)
		return errno != unix.ENOENT
	}
	return true // nobody but the engine can tell
}

// ownProcFile tells whether a path names something right in the caller's own directory of procfs, where no presenter's files are.
func ownProcFile(name string) bool {
	rest, ok := strings.CutPrefix(name, "/proc/self/")
	if !ok {
		rest, ok = strings.CutPrefix(name, "/proc/thread-self/")
	}
	return ok && rest != ".." && !strings.Contains(rest, "/")
}

// isMountRoot tells whether an object has the name of what it is mounted on.
func isMountRoot(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st)
	return err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// nameOf returns the path of a descriptor of ours, for its last component.
func (e *Engine) nameOf(fd int) string {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(e.host.Proc(), "thread-self/fd/"+strconv.Itoa(fd), b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// quickLook is an open as [Engine.MayPresent] looks at it.
type quickLook struct {
	fd    int // where the path begins, the caller's to close; -1 if that is not worth finding out
	path  string
	scope uint64 // keeps what the kernel looks up for us within what it would for the guest
}

// quick reads an open. False says that it is none for reading alone, or none that could succeed.
func (e *Engine) quick(c *seccompnotif.Call) (quickLook, bool) {
	dirfd, addr, how := unix.AT_FDCWD, c.Arg(0), unix.OpenHow{}
	switch c.Syscall() {
	case sysOpen:
		how.Flags = uint64(uint32(c.Arg(1)))
	case unix.SYS_OPENAT:
		dirfd, addr, how.Flags = int(int32(c.Arg(0))), c.Arg(1), uint64(uint32(c.Arg(2)))
	case unix.SYS_OPENAT2:
		dirfd, addr = int(int32(c.Arg(0))), c.Arg(1)
		var errno unix.Errno
		if how, errno = readHow(c, c.Arg(2), c.Arg(3)); errno != 0 {
			return quickLook{}, false
		}
	default:
		return quickLook{}, false
	}
	if how.Flags&(unix.O_ACCMODE|unix.O_CREAT|unix.O_DIRECTORY|unix.O_PATH) != unix.O_RDONLY {
		return quickLook{}, false
	}
	name, errno := readPath(c, addr)
	switch {
	case errno != 0 || name == "":
		return quickLook{}, false
	case how.Resolve != 0:
		return quickLook{fd: -1}, true
	}
	var fd int
	var err error
	scope := uint64(unix.RESOLVE_BENEATH)
	switch {
	case strings.HasPrefix(name, "/"):
		scope = unix.RESOLVE_IN_ROOT
		fd, err = e.host.Root(c)
	case dirfd == unix.AT_FDCWD:
		fd, err = e.host.WorkingDirectory(c)
	default:
		fd, err = c.File(dirfd)
	}
	if err != nil {
		return quickLook{fd: -1}, true
	}
	return quickLook{fd, name, scope}, true
}
