package onbehalf

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Judge decides about an object before anything is done with it. With answered the call is answered with the action and nothing is
// done; otherwise it goes on. A call may have several objects, and one object may be judged several times.
//
// Where a lookup fails it is asked about the place that the lookup got to ([Object.Parent]), so that it may answer otherwise.
//
// It runs on one of the engine's threads with the supervisor's identity, but with the guest's root, in any namespaces, and under
// [Config.Confine]: it must open nothing by an absolute path.
type Judge func(*Object) (action seccompnotif.Action, answered bool)

// Opens returns the numbers of the system calls that [Engine.Open] makes.
func Opens() []int {
	return existing(sysOpen, sysCreat, unix.SYS_OPENAT, unix.SYS_OPENAT2)
}

func existing(nrs ...int) []int {
	var list []int
	for _, nr := range nrs {
		if nr >= 0 {
			list = append(list, nr)
		}
	}
	return list
}

// Opened is what an open has come to.
type Opened struct {
	// Action answers the call: with the open file, which the action owns, or with an error.
	Action seccompnotif.Action

	engine  *Engine
	guest   *guest
	opening *opening
	opened  bool
	counted bool
}

// Again has a judge decide about the object once more, when something that the first decision rested on may have changed. If the judge answers,
// that becomes the action.
func (o *Opened) Again(judge Judge) {
	if !o.opened {
		return
	}
	object := o.opening.object
	err := o.engine.on(func(w *worker) unix.Errno {
		if err := w.enter(o.guest.root); err != nil {
			return unix.EACCES
		}
		object.worker = w
		if action, answered := judge(object); answered {
			o.replace(action)
		}
		return 0
	})
	if err != nil {
		o.replace(seccompnotif.Errno(unix.EACCES))
	}
}

// replace has the call answered with something else than the file.
func (o *Opened) replace(action seccompnotif.Action) {
	if o.opened {
		closeAll(o.opening.fd)
	}
	o.Action, o.opened = action, false
}

// Opener returns the handler of [Opens]: every open is made on the guest's behalf, if judge does not answer it.
func (e *Engine) Opener(judge Judge) seccompnotif.Handler {
	return seccompnotif.HandlerFunc(func(*seccompnotif.Call) seccompnotif.Action {
		return seccompnotif.Hold(func(h *seccompnotif.Held) {
			e.OpenHeld(h, judge, func(o *Opened) { _ = h.Answer(o.Action) }) // nobody else answers
		})
	})
}

// OpenHeld makes an open, creat, openat or openat2 and calls answer once, which must answer the held call with the result's action. An open that
// takes no time is answered before OpenHeld returns; with any other, answer is called on a goroutine of its own, and OpenHeld returns
// first. So it may be called by a listener's own thread.
func (e *Engine) OpenHeld(h *seccompnotif.Held, judge Judge, answer func(*Opened)) {
	o, j := e.begin(h.Call(), judge)
	finish := func() {
		o.end(j)
		defer o.close()
		answer(o)
	}
	if j == nil || j.wait(patience) {
		finish()
		return
	}
	e.aside(h, func() {
		j.wait(0)
		finish()
	})
}

// OpenAside is [Engine.OpenHeld] that always calls answer on a goroutine of its own, for an answer that takes time.
func (e *Engine) OpenAside(h *seccompnotif.Held, judge Judge, answer func(*Opened)) {
	e.aside(h, func() { e.Open(h.Call(), judge, answer) })
}

// aside runs f, which answers a held call, on a goroutine of its own.
func (e *Engine) aside(h *seccompnotif.Held, f func()) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				e.logf("answer to thread %d panicked: %v", h.Call().PID(), r)
				_ = h.Answer(seccompnotif.Errno(unix.EIO)) // unless it was answered before
			}
		}()
		f()
	}()
}

// Open makes an open, creat, openat or openat2 and calls answer with the result. It takes as long as the guest's own call might, and so does not
// belong on a listener's own thread.
func (e *Engine) Open(c *seccompnotif.Call, judge Judge, answer func(*Opened)) {
	o, j := e.begin(c, judge)
	if j != nil {
		j.wait(0)
	}
	o.end(j)
	defer o.close()
	answer(o)
}

// begin gives the open to a worker. Without a job the result is there already.
func (e *Engine) begin(c *seccompnotif.Call, judge Judge) (*Opened, *job) {
	o := &Opened{engine: e}
	if isReference(c) {
		// Safe: the flags are in a register, and what an O_PATH descriptor refers to is not opened by it. Whatever is opened through it
		// later on is judged then. The kernel could not take such a descriptor from us (SECCOMP_IOCTL_NOTIF_ADDFD answers EBADF).
		return o, nil
	}
	j, errno := o.start(c, judge)
	if errno != 0 {
		o.Action = seccompnotif.Errno(errno)
		return o, nil
	}
	return o, j
}

func (o *Opened) start(c *seccompnotif.Call, judge Judge) (*job, unix.Errno) {
	e := o.engine
	if e.calls.Add(1) > MaxCalls {
		e.calls.Add(-1)
		return nil, unix.EAGAIN
	}
	o.counted = true
	r, errno := readRequest(c)
	if errno != 0 {
		return nil, errno
	}
	if o.guest, errno = e.guest(c); errno != 0 {
		return nil, errno
	}
	start, errno := e.place(o.guest, r.dirfd, r.path, r.how.Resolve)
	if errno != 0 {
		return nil, errno
	}
	o.opening = &opening{request: r, guest: o.guest, start: start, judge: judge, fd: -1}
	j, err := e.start(o.opening.run)
	return j, errnoOf(err)
}

// end makes the action of what the job has come to.
func (o *Opened) end(j *job) {
	if j == nil {
		return
	}
	x := o.opening
	if err := j.result(); err != nil {
		closeAll(x.fd)
		o.Action = seccompnotif.Errno(errnoOf(err))
		return
	}
	if x.answered {
		o.Action = x.action
		return
	}
	o.opened = true
	o.Action = seccompnotif.InjectFDSend(x.fd, int(x.how.Flags&unix.O_CLOEXEC))
}

func (o *Opened) close() {
	if o.opening != nil {
		o.opening.object.close()
	}
	if o.guest != nil {
		o.guest.close()
	}
	if o.counted {
		o.engine.calls.Add(-1)
	}
}

// isReference tells whether the call asks for an O_PATH descriptor, and says so in a register.
func isReference(c *seccompnotif.Call) bool {
	switch c.Syscall() {
	case sysOpen:
		return c.Arg(1)&unix.O_PATH != 0
	case unix.SYS_OPENAT:
		return c.Arg(2)&unix.O_PATH != 0
	}
	return false
}

// opening is an open on its way.
type opening struct {
	request
	guest *guest
	start int
	judge Judge

	object   *Object
	fd       int
	action   seccompnotif.Action
	answered bool // with action, not fd
}

// run is done by a worker.
func (x *opening) run(w *worker) unix.Errno {
	for range lookups {
		errno := x.once(w)
		if errno != errAgain {
			return errno
		}
		x.object.close()
	}
	return unix.EAGAIN
}

// errAgain says that something has come or gone between the lookup and the open.
const errAgain = unix.Errno(0xfffe)

func (x *opening) once(w *worker) unix.Errno {
	l := lookup{start: x.start, path: x.path, resolve: x.how.Resolve, create: x.has(unix.O_CREAT), follow: !x.has(unix.O_NOFOLLOW) && !x.has(unix.O_CREAT|unix.O_EXCL)}
	errno := w.as(x.guest, func() (errno unix.Errno) {
		x.object, errno = w.find(x.guest, l)
		return errno
	})
	if errno == 0 && !x.object.Exists() && !x.has(unix.O_CREAT) {
		errno = unix.ENOENT
	}
	if x.object != nil {
		if x.action, x.answered = x.judge(x.object); x.answered {
			return 0
		}
	}
	if errno != 0 {
		return errno
	}
	return w.as(x.guest, func() (errno unix.Errno) {
		x.fd, errno = x.open(w)
		return errno
	})
}

// open opens what was found.
func (x *opening) open(w *worker) (int, unix.Errno) {
	o := x.object
	switch {
	case x.has(unix.O_TMPFILE):
		if !isPlain(o) {
			if errno := w.join(x.guest); errno != 0 {
				return -1, errno
			}
		}
		return w.create(w.fds, strconv.Itoa(o.fd), x.how.Flags&^unix.O_NOFOLLOW, x.how.Mode)
	case !o.Exists():
		return x.make(w)
	case x.has(unix.O_CREAT):
		if errno := x.mayUse(w); errno != 0 {
			return -1, errno
		}
	}
	switch {
	case x.has(unix.O_DIRECTORY) && !o.isDir():
		return -1, unix.ENOTDIR
	case o.isLink():
		return -1, unix.ELOOP
	}
	return x.openExisting(w)
}

// make makes the file that is not there.
func (x *opening) make(w *worker) (int, unix.Errno) {
	o := x.object
	if o.name != o.Name() {
		return -1, unix.EISDIR // slashes follow
	}
	if inSpecial(o.parent) {
		if errno := w.join(x.guest); errno != 0 {
			return -1, errno
		}
	}
	// What is new is nothing that anybody could have denied.
	fd, errno := w.create(o.parent, o.name, x.how.Flags|unix.O_EXCL|unix.O_NOFOLLOW, x.how.Mode)
	if errno == unix.EEXIST && !x.has(unix.O_EXCL) {
		return -1, errAgain
	}
	return fd, errno
}

func (w *worker) create(dir int, name string, flags, mode uint64) (int, unix.Errno) {
	for {
		fd, err := unix.Openat(dir, name, int(flags)|unix.O_CLOEXEC|unix.O_NOCTTY, uint32(mode))
		if err != unix.EINTR {
			return fd, errnoOf(err)
		}
	}
}

// mayUse is what the kernel looks at where O_CREAT meets something that exists.
func (x *opening) mayUse(w *worker) unix.Errno {
	o := x.object
	switch {
	case x.has(unix.O_EXCL):
		return unix.EEXIST
	case o.isDir():
		return unix.EISDIR
	case o.parent < 0:
		return 0
	}
	var dir unix.Stat_t
	if err := unix.Fstat(o.parent, &dir); err != nil {
		return errnoOf(err)
	}
	if !w.engine.protected.mayCreateOver(&dir, &o.stat, x.guest.id.UID[3]) {
		return unix.EACCES
	}
	return 0
}

func (x *opening) openExisting(w *worker) (int, unix.Errno) {
	o := x.object
	if o.isTTY() {
		return x.openTTY(w)
	}
	if !isPlain(o) {
		if errno := w.join(x.guest); errno != 0 {
			return -1, errno
		}
	}
	if o.stat.Mode&unix.S_IFMT == unix.S_IFIFO && !x.has(unix.O_NONBLOCK) && x.how.Flags&unix.O_ACCMODE != unix.O_RDWR {
		return x.openFIFO(w)
	}
	fd, errno := w.reopen(o.fd, x.how.Flags)
	if errno == unix.EACCES && o.proc {
		return w.openOwn(x.guest, o, x.how.Flags)
	}
	return fd, errno
}
