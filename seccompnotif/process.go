package seccompnotif

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Process is a process that has produced a notification. Its identity is the pid together with the start time: a recycled
// pid is another Process. Its methods are safe for concurrent use and keep working, with ESRCH, after the process is gone.
type Process struct {
	pid    int
	start  uint64
	parent int
	pidfd  pidfd
	watch  watch
	kin    atomic.Pointer[kin] // nil until somebody asks
	mark   atomic.Pointer[any] // see Mark

	mu     sync.Mutex
	gone   bool
	onExit []func()
}

// PID returns the process id (of the thread group) in the supervisor's pid namespace.
func (p *Process) PID() int { return p.pid }

// StartTime returns when the process started, in clock ticks after boot, as field 22 of proc_pid_stat(5).
func (p *Process) StartTime() uint64 { return p.start }

// Parent returns the process id of the process's parent when it entered the index, in the supervisor's pid namespace; 0 if that
// is not visible there. The kernel may have given the process another parent since.
func (p *Process) Parent() int { return p.parent }

// OnExit has f called once when the process is found to have exited and has left the index, at once if it has already. The
// calls are made in no particular order, by whoever finds out; f must not block.
func (p *Process) OnExit(f func()) {
	p.mu.Lock()
	if !p.gone {
		p.onExit = append(p.onExit, f)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	f()
}

// left tells those who wait for the process's exit.
func (p *Process) left() {
	p.mu.Lock()
	fs := p.onExit
	p.gone, p.onExit = true, nil
	p.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// Signal sends signal to the process. ESRCH means that it is gone; its pid's next owner is never signalled.
func (p *Process) Signal(signal unix.Signal) error {
	return p.pidfd.use(func(fd int) error { return unix.PidfdSendSignal(fd, signal, nil, 0) })
}

// OpenPIDFD returns a pidfd of the process, close-on-exec, which the caller closes.
func (p *Process) OpenPIDFD() (int, error) {
	duplicate := -1
	err := p.pidfd.use(func(fd int) (err error) {
		duplicate, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return duplicate, err
}

// Exited tells whether the process has ended.
func (p *Process) Exited() bool { return p.pidfd.exited() }

// thread is a task that has produced a notification and is not the leader of its process.
type thread struct {
	process *Process
	pidfd   pidfd // made with PIDFD_THREAD
	watch   watch
}

// processIndex holds every process that has produced a notification, until it exits.
type processIndex struct {
	watcher *watcher
	limit   int // entries of both kinds; each costs a descriptor
	// threadPIDFDs tells whether threads have pidfds.
	threadPIDFDs func() bool

	mu        sync.RWMutex
	processes map[int]*Process // by pid
	threads   map[int]*thread  // by tid; empty where the kernel lacks PIDFD_THREAD
	forgotten []*Process       // have left the index while it was locked
	closed    bool
}

func newProcessIndex(w *watcher, features *Features) *processIndex {
	x := &processIndex{watcher: w, limit: indexLimit(), threadPIDFDs: pidfdThreadKnown, processes: map[int]*Process{}, threads: map[int]*thread{}}
	if features != nil && !features.PIDFDThread {
		x.threadPIDFDs = func() bool { return false }
	}
	w.sweep = x.sweep
	return x
}

// indexLimit leaves half of the descriptors that this process may open to everything else.
func indexLimit() int {
	const unlimited = 1 << 19
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 512 // half of the kernel's own default
	}
	return int(min(r.Cur/2, unlimited))
}

// unlock ends what was begun with mu.Lock, and tells those who wait for the processes that have left meanwhile.
func (x *processIndex) unlock() {
	forgotten := x.forgotten
	x.forgotten = nil
	x.mu.Unlock()
	for _, p := range forgotten {
		p.left()
	}
}

// errIndexFull is what happens to the notification of a process too many.
var errIndexFull = fmt.Errorf("process index is full: %w", unix.EMFILE)

// Process returns the record of the process that made the call. It is made at the process's first notification and dropped
// when it exits.
func (c *Call) Process() (*Process, error) {
	p, _, err := c.index.find(c)
	if err != nil {
		return nil, fmt.Errorf("process of thread %d: %w", c.PID(), err)
	}
	return p, nil
}

// find returns the process of c, and its thread if the caller is not the leader and threads have pidfds.
func (x *processIndex) find(c *Call) (*Process, *thread, error) {
	if p, t := x.lookup(c.PID()); p != nil {
		// While the task has not exited, its number is its own.
		if t == nil && !p.pidfd.exited() || t != nil && !t.pidfd.exited() {
			return p, t, nil
		}
		x.drop(c.PID(), p, t)
	}
	return x.enter(c)
}

func (x *processIndex) lookup(tid int) (*Process, *thread) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if p := x.processes[tid]; p != nil {
		return p, nil
	}
	if t := x.threads[tid]; t != nil {
		return t.process, t
	}
	return nil, nil
}

// enter finds out who made c and puts it into the index. What it learns through numbers is of the caller only if the caller
// still waits afterwards.
func (x *processIndex) enter(c *Call) (*Process, *thread, error) {
	tid := c.PID()
	leader, err := openPIDFD(tid, 0)
	switch {
	case err == nil:
		p, err := x.enterProcess(c, tid, leader)
		return p, nil, err
	case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT): // what kernels say to a thread that leads no process
		return nil, nil, gone(c, err)
	}
	tgid, err := threadGroup(tid)
	if err != nil {
		return nil, nil, gone(c, err)
	}
	p, _ := x.lookup(tgid)
	if p == nil || p.pid != tgid || p.pidfd.exited() {
		if leader, err = openPIDFD(tgid, 0); err != nil {
			return nil, nil, gone(c, err)
		}
		if p, err = x.enterProcess(c, tgid, leader); err != nil {
			return nil, nil, err
		}
	} else if !c.Valid() {
		return nil, nil, ErrGone
	}
	if !x.threadPIDFDs() {
		return p, nil, nil
	}
	t, err := x.enterThread(c, tid, p)
	return p, t, err
}

// enterProcess makes the record of the process pid, with fd as its pidfd, which it takes over.
func (x *processIndex) enterProcess(c *Call, pid, fd int) (*Process, error) {
	stat, err := readStat(pid)
	if err == nil && !c.Valid() {
		err = ErrGone
	}
	if err != nil {
		unix.Close(fd)
		return nil, gone(c, err)
	}
	return x.put(pid, fd, stat)
}

// put makes the record of the process pid, whose pidfd it takes over.
func (x *processIndex) put(pid, fd int, stat taskStat) (*Process, error) {
	p := &Process{pid: pid, start: stat.start, parent: stat.parent, pidfd: pidfd{fd: fd}}
	x.mu.Lock()
	defer x.unlock()
	if old := x.processes[pid]; old != nil {
		if old.start == stat.start && !old.pidfd.exited() { // another thread of it was faster
			p.pidfd.close()
			return old, nil
		}
		x.forget(old)
	}
	if err := x.admit(&p.watch, fd, func() { x.drop(pid, p, nil) }); err != nil {
		p.pidfd.close()
		return nil, err
	}
	x.processes[pid] = p
	return p, nil
}

// enterThread makes the record of the thread tid of p.
func (x *processIndex) enterThread(c *Call, tid int, p *Process) (*thread, error) {
	fd, err := openPIDFD(tid, pidfdThread)
	if err != nil {
		return nil, gone(c, err)
	}
	t := &thread{process: p, pidfd: pidfd{fd: fd}}
	if !c.Valid() {
		t.pidfd.close()
		return nil, ErrGone
	}
	x.mu.Lock()
	defer x.unlock()
	if old := x.threads[tid]; old != nil {
		x.watcher.remove(&old.watch)
		old.pidfd.close()
		delete(x.threads, tid)
	}
	if err := x.admit(&t.watch, fd, func() { x.drop(tid, p, t) }); err != nil {
		t.pidfd.close()
		return nil, err
	}
	x.threads[tid] = t
	return t, nil
}

// admit watches one more pidfd for its exit, if there is room. The index is locked.
func (x *processIndex) admit(w *watch, fd int, exited func()) error {
	if x.closed {
		return ErrGone
	}
	if len(x.processes)+len(x.threads) >= x.limit {
		return errIndexFull
	}
	return x.watcher.add(w, fd, unix.EPOLLIN, exited)
}

// errThread says that a task is no process but a thread of one.
var errThread = errors.New("it is a thread")

// enroll makes the record of a process that does not go away meanwhile.
func (x *processIndex) enroll(pid int) (*Process, error) {
	fd, err := openPIDFD(pid, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // what kernels say to a thread that leads no process
		return nil, errThread
	}
	if err != nil {
		return nil, err
	}
	stat, err := readStat(pid)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return x.put(pid, fd, stat)
}

// count returns how many processes there are.
func (x *processIndex) count() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.processes)
}

// full tells whether there is no room for one process more, with so many others on their way.
func (x *processIndex) full(underWay int) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.processes)+len(x.threads)+underWay >= x.limit
}

// list returns the processes.
func (x *processIndex) list() []*Process {
	x.mu.RLock()
	defer x.mu.RUnlock()
	list := make([]*Process, 0, len(x.processes))
	for _, p := range x.processes {
		list = append(list, p)
	}
	return list
}

// dropExited drops the processes that have exited, whether or not the watcher has come to them, with one system call.
func (x *processIndex) dropExited() {
	x.mu.Lock()
	defer x.unlock()
	list := make([]*Process, 0, len(x.processes))
	poll := make([]unix.PollFd, 0, len(x.processes))
	for _, p := range x.processes {
		// Records are closed when they leave the index, and only then, so the descriptor is p's.
		list = append(list, p)
		poll = append(poll, unix.PollFd{Fd: int32(p.pidfd.fd), Events: unix.POLLIN})
	}
	if _, err := unix.Poll(poll, 0); err != nil {
		return
	}
	for i, p := range list {
		if poll[i].Revents != 0 {
			x.forget(p)
		}
	}
}

// gone turns an error that comes of the caller's end into ErrGone.
func gone(c *Call, err error) error {
	if errors.Is(err, ErrGone) || !c.Valid() {
		return ErrGone
	}
	return err
}

// drop removes p, which has exited, or with t not nil that thread of it, whose number is tid.
func (x *processIndex) drop(tid int, p *Process, t *thread) {
	x.mu.Lock()
	defer x.unlock()
	if t == nil {
		x.forget(p)
	} else {
		x.forgetThread(tid, t)
	}
}

// forget removes p and its threads from the index, which is locked, and closes their pidfds.
func (x *processIndex) forget(p *Process) {
	x.watcher.remove(&p.watch)
	p.pidfd.close()
	if x.processes[p.pid] == p {
		delete(x.processes, p.pid)
		x.forgotten = append(x.forgotten, p)
	}
	for tid, t := range x.threads {
		if t.process == p {
			x.forgetThread(tid, t)
		}
	}
}

func (x *processIndex) forgetThread(tid int, t *thread) {
	x.watcher.remove(&t.watch)
	t.pidfd.close()
	if x.threads[tid] == t {
		delete(x.threads, tid)
	}
}

// sweep drops what has exited without the watcher's being told.
func (x *processIndex) sweep() {
	x.mu.Lock()
	defer x.unlock()
	for _, p := range x.processes {
		if p.pidfd.exited() {
			x.forget(p)
		}
	}
	for tid, t := range x.threads {
		if t.pidfd.exited() {
			x.forgetThread(tid, t)
		}
	}
}

func (x *processIndex) close() {
	x.mu.Lock()
	defer x.unlock()
	x.closed = true
	for _, p := range x.processes {
		x.forget(p)
	}
}
