package onbehalf

import (
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// operand is a path of a call.
type operand struct {
	dirfd  int    // AT_FDCWD, or a descriptor of the guest
	addr   uint64 // of the path
	follow bool
	entry  bool // see lookup
	// empty allows an empty path, which means dirfd itself (AT_EMPTY_PATH).
	empty bool
}

// change is a call that changes something about what one or two paths lead to.
type change struct {
	operands []operand
	// act makes the call, with the guest's identity, on what the paths have led to.
	act func(w *worker, g *guest, on []*Object) unix.Errno
}

// Changes returns the numbers of the system calls that [Engine.Change] makes: those that change directories, and those that change a file without
// its being open. Newer variants of the latter are missing, see [ChangeDenials].
func Changes() []int {
	return existing(
		sysLink, unix.SYS_LINKAT, sysRename, sysRenameat, unix.SYS_RENAMEAT2, sysUnlink, unix.SYS_UNLINKAT, sysRmdir,
		sysMkdir, unix.SYS_MKDIRAT, sysMknod, unix.SYS_MKNODAT, sysSymlink, unix.SYS_SYMLINKAT,
		unix.SYS_TRUNCATE, sysChmod, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, sysChown, sysLchown, unix.SYS_FCHOWNAT,
		sysUtime, sysUtimes, sysFutimesat, unix.SYS_UTIMENSAT,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR,
	)
}

// Links tells whether a call of [Changes] makes a further name of a file.
func Links(nr int) bool { return nr == sysLink || nr == unix.SYS_LINKAT }

// ChangeDenials returns what a guest must be denied whose [Changes] are made on its behalf: calls that do the same and are so new that programs get
// along without them.
func ChangeDenials() []seccompnotif.Denial {
	var denials []seccompnotif.Denial
	for _, name := range []string{"setxattrat", "removexattrat", "file_setattr"} {
		denials = append(denials, seccompnotif.Denial{Syscall: name, Errno: unix.ENOSYS})
	}
	return denials
}

// ChangeHeld makes a call of [Changes] and answers it. It returns when that is done, or is left to a goroutine. lock, if not nil, is called before
// the objects are judged, and what it returns when the call has been made.
func (e *Engine) ChangeHeld(h *seccompnotif.Held, judge Judge, lock func() (unlock func())) {
	finish := func(action seccompnotif.Action) { _ = h.Answer(action) } // nobody else answers
	if e.calls.Add(1) > MaxCalls {
		e.calls.Add(-1)
		finish(seccompnotif.Errno(unix.EAGAIN))
		return
	}
	x := &changing{judge: judge, lock: lock}
	end := func() {
		x.close()
		e.calls.Add(-1)
	}
	j, errno := x.start(e, h.Call())
	if errno != 0 {
		end()
		finish(seccompnotif.Errno(errno))
		return
	}
	done := func() {
		defer end()
		action := seccompnotif.Return(0)
		if err := j.result(); err != nil {
			action = seccompnotif.Errno(errnoOf(err))
		} else if x.answered {
			action = x.action
		}
		finish(action)
	}
	if j.wait(patience) {
		done()
		return
	}
	go func() {
		j.wait(0)
		done()
	}()
}

// changing is a change on its way.
type changing struct {
	change
	judge   Judge
	lock    func() func()
	guest   *guest
	lookups []lookup
	objects []*Object
	action  seccompnotif.Action // of the judge, if it answered

	answered bool
}

func (x *changing) start(e *Engine, c *seccompnotif.Call) (*job, unix.Errno) {
	var errno unix.Errno
	if x.change, errno = readChange(c); errno != 0 {
		return nil, errno
	}
	if x.guest, errno = e.guest(c); errno != 0 {
		return nil, errno
	}
	for _, p := range x.operands {
		l := lookup{follow: p.follow, entry: p.entry}
		if l.path, errno = readPath(c, p.addr); errno != 0 {
			return nil, errno
		}
		if l.start, errno = e.place(x.guest, p.dirfd, l.path, 0); errno != 0 {
			return nil, errno
		}
		if l.path == "" && !p.empty {
			return nil, unix.ENOENT
		}
		x.lookups = append(x.lookups, l)
	}
	j, err := e.start(x.run)
	return j, errnoOf(err)
}

// run is done by a worker.
func (x *changing) run(w *worker) unix.Errno {
	if x.lock != nil {
		defer x.lock()()
	}
	errno := w.as(x.guest, func() unix.Errno {
		for _, l := range x.lookups {
			o, errno := w.findOperand(x.guest, l)
			if o != nil {
				x.objects = append(x.objects, o)
			}
			if errno != 0 {
				return errno
			}
		}
		return 0
	})
	for _, o := range x.objects {
		if x.action, x.answered = x.judge(o); x.answered {
			return 0
		}
	}
	if errno != 0 {
		return errno
	}
	return w.as(x.guest, func() unix.Errno {
		for i, o := range x.objects {
			if !x.lookups[i].entry && !o.Exists() {
				return unix.ENOENT
			}
			if o.proc || o.parent >= 0 && inSpecial(o.parent) || o.fd >= 0 && inSpecial(o.fd) {
				if errno := w.join(x.guest); errno != 0 {
					return errno
				}
			}
		}
		return x.act(w, x.guest, x.objects)
	})
}

// findOperand looks up a path, which may be empty where that means the start itself.
func (w *worker) findOperand(g *guest, l lookup) (*Object, unix.Errno) {
	if l.path != "" {
		return w.find(g, l)
	}
	o := &Object{worker: w, fd: dup(l.start), parent: -1, proc: inProc(l.start)}
	if o.fd < 0 {
		return nil, unix.EMFILE
	}
	if err := unix.Fstat(o.fd, &o.stat); err != nil {
		o.close()
		return nil, errnoOf(err)
	}
	return o, 0
}

func (x *changing) close() {
	for _, o := range x.objects {
		o.close()
	}
	if x.guest != nil {
		x.guest.close()
	}
}
