package onbehalf

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a listener's thread waits for a job before it leaves the waiting to a goroutine. Nearly all jobs take less.
	patience = time.Millisecond
	// lookInterval is how often somebody looks after a guest whose call waits in the kernel.
	lookInterval = 20 * time.Millisecond
)

// job is what a worker is to do. While it runs somebody waits for it, and does for the worker what a confined thread cannot.
type job struct {
	run    func(*worker) unix.Errno
	worker *worker
	errno  unix.Errno
	err    error  // the thread is not fit to do anything
	ask    func() // see tellAsk
	look   func() // see tellWaits

	looks func() // look, once the worker has told; of the one who waits
}

// start gives a job to a worker. Somebody has to wait for it.
func (e *Engine) start(f func(*worker) unix.Errno) (*job, error) {
	j := &job{run: f}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, unix.EIO
	}
	if n := len(e.idle); n > 0 {
		j.worker = e.idle[n-1]
		e.idle = e.idle[:n-1]
	}
	e.mu.Unlock()
	if j.worker == nil {
		p, err := newPipes()
		if err != nil {
			return nil, err
		}
		j.worker = &worker{engine: e, fds: -1, pipes: p}
		e.threads.Add(1)
		go j.worker.work()
	}
	j.worker.job = j
	if err := sendByte(j.worker.pipes.jobs[1], 0); err != nil {
		return nil, err
	}
	return j, nil
}

// on has a worker run f and waits for it.
func (e *Engine) on(f func(*worker) unix.Errno) error {
	j, err := e.start(f)
	if err != nil {
		return err
	}
	j.wait(0)
	return j.result()
}

// wait waits until the job is done, or with a limit until it is late, which it tells.
func (j *job) wait(limit time.Duration) (done bool) {
	p := &j.worker.pipes
	for {
		pause := limit
		if j.looks != nil {
			pause = lookInterval
		}
		if pause > 0 && !readable(p.tells[0], unix.NsecToTimespec(int64(pause))) {
			if limit > 0 {
				return false
			}
			j.looks()
			continue
		}
		told, ok := receiveByte(p.tells[0])
		switch {
		case !ok:
			j.err = fmt.Errorf("thread for calls on behalf: %w", unix.EIO)
			return true
		case told == tellAsk:
			j.ask()
			_ = sendByte(p.jobs[1], tellGoOn) // if it fails there is nobody to tell anything, and the next read says so
		case told == tellWaits:
			j.looks = j.look
			if limit > 0 {
				return false // it will be late
			}
		default:
			return true
		}
	}
}

// result lets go of the worker.
func (j *job) result() error {
	w, e := j.worker, j.worker.engine
	e.mu.Lock()
	keep := j.err == nil && !e.closed && len(e.idle) < keptWorkers
	if keep {
		e.idle = append(e.idle, w)
	}
	e.mu.Unlock()
	if !keep {
		w.dismiss()
	}
	if j.err != nil {
		e.logf("calls on behalf: %v", j.err)
		return j.err
	}
	if j.errno != 0 {
		return j.errno
	}
	return nil
}

// dismiss ends an idle worker.
func (w *worker) dismiss() { closeAll(w.pipes.jobs[1], w.pipes.tells[0]) }

// work is the life of a worker.
func (w *worker) work() {
	runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
	defer w.engine.threads.Done()
	defer func() { closeAll(w.fds, w.pipes.jobs[0], w.pipes.tells[1]) }()
	err := w.prepare()
	for {
		if _, more := receiveByte(w.pipes.jobs[0]); !more {
			return
		}
		if err != nil {
			w.job.err = fmt.Errorf("thread for calls on behalf: %w", err)
		} else {
			w.do(w.job)
		}
		if sendByte(w.pipes.tells[1], tellDone) != nil {
			return
		}
	}
}

// do runs a job.
func (w *worker) do(j *job) {
	w.joinedBy = nil
	defer func() {
		if r := recover(); r != nil {
			j.err = fmt.Errorf("panic: %v", r) // whatever the thread was at
		}
	}()
	j.errno = j.run(w)
}

// outside has f run by who waits for the job, with the supervisor's identity and not confined.
func (w *worker) outside(f func()) {
	w.job.ask = f
	w.tell(tellAsk)
	if _, ok := receiveByte(w.pipes.jobs[0]); !ok {
		panic("nobody waits for the job")
	}
}

// waits tells that the worker is about to wait in the kernel, and that look is to be called meanwhile, from time to time, by who waits.
func (w *worker) waits(look func()) {
	w.job.look = look
	w.tell(tellWaits)
}

func (w *worker) tell(what byte) {
	if err := sendByte(w.pipes.tells[1], what); err != nil {
		panic(err)
	}
}
