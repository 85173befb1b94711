package onbehalf

import (
	"cmp"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// maxInterpreters is how many programs the kernel loads for one execve: a few scripts that name each other (exec_binprm of the kernel's
// fs/exec.c), and a dynamic linker.
const maxInterpreters = 8

// LookExec looks up what an execve(2) or execveat(2) would execute, and what the kernel would load along with that, which interpreter tells
// for a file ("" if nothing), and has judge decide about each. It returns what the call is to fail with, 0 if nothing is against it.
// An action of judge other than an errno is EACCES.
//
// Nothing is executed, and the kernel looks everything up once more. So it is for judgements of [seccompnotif.JudgeExec], while nobody in
// the container can change its memory or its files.
func (e *Engine) LookExec(c *seccompnotif.Call, judge Judge, interpreter func(io.ReaderAt) string) unix.Errno {
	what := operand{dirfd: unix.AT_FDCWD, addr: c.Arg(0), follow: true}
	if c.Syscall() == unix.SYS_EXECVEAT {
		flags := c.Arg(4)
		what = operand{
			dirfd: int(int32(c.Arg(0))), addr: c.Arg(1),
			follow: flags&unix.AT_SYMLINK_NOFOLLOW == 0, empty: flags&unix.AT_EMPTY_PATH != 0,
		}
	}
	g, errno := e.guest(c)
	if errno != 0 {
		return errno
	}
	defer g.close()
	l := lookup{follow: what.follow}
	if l.path, errno = readPath(c, what.addr); errno != 0 {
		return errno
	}
	if l.path == "" && !what.empty {
		return unix.ENOENT
	}
	if l.start, errno = e.place(g, what.dirfd, l.path, 0); errno != 0 {
		return errno
	}
	cwd, errno := e.place(g, unix.AT_FDCWD, "", 0)
	if errno != 0 {
		return errno
	}
	return errnoOf(e.on(func(w *worker) unix.Errno {
		for range maxInterpreters {
			next, errno := w.lookExec(g, l, judge, interpreter)
			if errno != 0 || next == "" {
				return errno
			}
			l = lookup{start: cwd, path: next, follow: true}
		}
		return unix.ELOOP
	}))
}

// lookExec looks at one program.
func (w *worker) lookExec(g *guest, l lookup, judge Judge, interpreter func(io.ReaderAt) string) (next string, _ unix.Errno) {
	var o *Object
	defer func() { o.close() }()
	errno := w.as(g, func() (errno unix.Errno) {
		o, errno = w.findOperand(g, l)
		return errno
	})
	if errno == 0 && !o.Exists() {
		errno = unix.ENOENT
	}
	if o != nil {
		if action, answered := judge(o); answered {
			return "", cmp.Or(action.Errno(), unix.EACCES)
		}
	}
	if errno != 0 {
		return "", errno
	}
	if o.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", 0 // the kernel refuses it
	}
	// Executing takes no permission to read, and Landlock tells the two apart.
	w.outside(func() {
		fd, err := unix.Openat(w.engine.host.Proc(), "self/fd/"+strconv.Itoa(o.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			errno = errnoOf(err)
			return
		}
		file := os.NewFile(uintptr(fd), "program")
		defer file.Close()
		next = interpreter(file)
	})
	return next, errno
}
