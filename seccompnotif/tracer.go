package seccompnotif

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tracer gives the ptrace(2) commands of a supervisor. The kernel takes them from the thread that attached and from no other,
// so one thread gives them all, in the order of its jobs: any number of creations at once, or one execve.
//
// The thread ends with the tracer, or with the supervisor's process, and the kernel then detaches whatever it still traces.
type tracer struct {
	index *processIndex
	log   func(format string, args ...any)
	// send answers a call past the barrier.
	send func(c *Call, r rawResponse, as ending) bool
	// answer performs any action that is not for the tracer, through the barrier.
	answer  func(c *Call, a Action)
	discard func(c *Call, a Action)

	barrier   sync.RWMutex // held for reading by whoever answers a call or writes to a guest's memory, for writing during a freeze
	parked    parkedCalls
	limit     atomic.Int64  // processes at a time; 0 is no limit
	wakeup    int           // eventfd that ends the thread's nap
	unchecked bool          // programs run whatever arguments they got; for tests
	judge     time.Duration // JudgeTimeout, but for tests
	judging   atomic.Int32  // judgements that have not returned

	mu      sync.Mutex
	queue   []*tracerJob
	started bool
	closed  bool
	done    chan struct{}

	// What follows belongs to the thread.
	tracees   map[int]*tracee
	creations map[int]*creation // by process: two at once in one could deadlock, see begin
	restarts  map[int]int       // by thread: how often its creation was interrupted before it began
	vforks    map[int]vfork     // by thread: the creation it was last seen to wait for
	idle      int               // rounds without news
}

// tracerJob is a call that the tracer lets through.
type tracerJob struct {
	call   *Call
	exec   bool
	decide func(Argv) Action // of an execve whose arguments are to be judged
}

func newTracer(s *Supervisor) (*tracer, error) {
	wakeup, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("tracer: eventfd: %w", err)
	}
	t := &tracer{
		index: s.index, log: s.logf, send: s.sendNow, answer: s.perform, discard: s.discard,
		wakeup: wakeup, judge: JudgeTimeout, done: make(chan struct{}),
		tracees: map[int]*tracee{}, creations: map[int]*creation{}, restarts: map[int]int{}, vforks: map[int]vfork{},
	}
	t.parked.byThread = map[uint32]parkedCall{}
	return t, nil
}

// submit hands j to the thread.
func (t *tracer) submit(j *tracerJob) {
	if !j.call.listener.acquire() {
		return
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		j.call.listener.release()
		return
	}
	if !t.started {
		t.started = true
		go t.run()
	}
	t.queue = append(t.queue, j)
	t.mu.Unlock()
	t.wake()
}

func (t *tracer) wake() {
	one := uint64(1)
	// It fails only when the counter is full, and then the thread wakes as well.
	_, _ = unix.Write(t.wakeup, (*[8]byte)(unsafe.Pointer(&one))[:])
}

// stop has the thread end; close waits for that, and every tracee is free afterwards.
func (t *tracer) stop() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wake()
}

func (t *tracer) close() {
	t.stop()
	t.mu.Lock()
	started := t.started
	t.mu.Unlock()
	if started {
		<-t.done
	}
	unix.Close(t.wakeup)
}

func (t *tracer) closing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// run is the thread.
func (t *tracer) run() {
	// Never unlocked: the thread ends with the goroutine, and its tracees are free then at the latest.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot be ended, and the kernel may give it children of other threads. Another goroutine gets
		// another thread as long as this one is locked.
		defer runtime.UnlockOSThread()
		elsewhere := make(chan struct{})
		go func() {
			defer close(elsewhere)
			t.run()
		}()
		<-elsewhere
		return
	}
	defer close(t.done)
	// Naps are short and are to be no longer than asked for. Without it they last 50 µs longer.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for !t.closing() {
		news := t.admit()
		if t.poll() || news {
			t.idle = 0
		} else {
			t.idle++
		}
		switch {
		case len(t.tracees) > 0 || t.queued():
			t.nap()
		case !t.closing(): // asked again, since a wake-up may have been taken meanwhile
			t.sleep(-1)
		}
	}
	t.abandon()
}

func (t *tracer) queued() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) > 0
}

// admit begins the jobs that may begin, and tells whether there was one. An execve waits until every creation before it is over,
// and whatever comes after it waits for the execve.
func (t *tracer) admit() bool {
	t.mu.Lock()
	jobs := t.queue
	t.queue = nil
	t.mu.Unlock()
	news := false
	var waiting []*tracerJob
	for i, j := range jobs {
		if j.exec {
			if len(waiting) > 0 || len(t.creations) > 0 {
				waiting = append(waiting, jobs[i:]...)
				break
			}
			t.exec(j)
			j.call.listener.release()
			news = true
		} else if t.begin(j) {
			news = true
		} else {
			waiting = append(waiting, j)
		}
	}
	if len(waiting) > 0 {
		t.mu.Lock()
		t.queue = append(waiting, t.queue...)
		t.mu.Unlock()
	}
	return news
}

// How long naps are, after how many rounds without news. The kernel ends a nap when a tracee stops or exits: it sends SIGCHLD to
// its tracer's thread, which Go handles like any other. The times are for news that come just before a nap begins, for tasks that
// come to rest without stopping, and for programs that ignore SIGCHLD.
const (
	firstNap = 300 * time.Microsecond
	laterNap = 2 * time.Millisecond
	lastNap  = 10 * time.Millisecond
)

// nap waits for as long as befits the rounds without news, or until something happens.
func (t *tracer) nap() {
	switch {
	case t.idle == 0:
	case t.idle < 20:
		t.sleep(firstNap)
	case t.idle < 100:
		t.sleep(laterNap)
	default:
		t.sleep(lastNap)
	}
}

// sleep waits for d, for ever if that is negative, or until the tracer is woken.
func (t *tracer) sleep(d time.Duration) {
	p := []unix.PollFd{{Fd: int32(t.wakeup), Events: unix.POLLIN}}
	var timeout *unix.Timespec
	if d >= 0 {
		ts := unix.NsecToTimespec(d.Nanoseconds())
		timeout = &ts
	}
	n, err := unix.Ppoll(p, timeout, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		panic("seccompnotif: ppoll: " + err.Error())
	}
	if n > 0 {
		var b [8]byte
		_, _ = unix.Read(t.wakeup, b[:]) // which takes the wake-ups, unless there is none
		t.idle = 0
	}
}

// abandon gives up what is under way when the supervisor closes: the listeners are closed, so nobody waits for an answer.
func (t *tracer) abandon() {
	t.mu.Lock()
	queue := t.queue
	t.queue = nil
	t.mu.Unlock()
	for _, j := range queue {
		j.call.listener.release()
	}
	clear(t.creations)
	t.thaw()
	// Those that still run stop at the next occasion, or are let go of with the thread.
	t.poll()
}
