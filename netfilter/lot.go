package netfilter

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// lookInterval is how often parked calls are looked after, and maxLooks how many of them each time: reading what signals a
	// guest has takes some 20 µs. With more than that it takes a few intervals until each had its turn.
	lookInterval = 50 * time.Millisecond
	maxLooks     = 64
	// maxPause is the longest pause between two attempts where nothing tells when the next is worth it.
	maxPause = 50 * time.Millisecond
	// maxTries is how many parked calls are tried again at a time. A try does not block, but may read a guest's memory, which can
	// take as long as the guest likes.
	maxTries = 64
)

// lot is where calls wait that the kernel would block in. A parked call takes a descriptor, and while its guest waits for an
// answer nobody waits for the guest: one thread polls all sockets, looks after all guests, and has calls tried again when it is
// time. So there may be thousands of them, and each may wait as long as the kernel would let it, which for a TCP connection
// that nobody answers is minutes.
type lot struct {
	host  *seccompnotif.Host
	limit int // calls
	tries chan struct{}

	mu      sync.Mutex
	poll    int // the epoll descriptor, -1 without
	polling bool
	calls   map[uint32]*parked
	turns   []*parked // whom to look after, next first
	last    uint32    // number given
	closed  bool
}

func newLot(h *seccompnotif.Host) *lot {
	return &lot{host: h, limit: maxParked(), tries: make(chan struct{}, maxTries), poll: -1, calls: map[uint32]*parked{}}
}

// maxParked leaves three quarters of the descriptors that this process may open to everything else.
func maxParked() int {
	const unlimited = 1 << 16
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 256 // a quarter of the kernel's own default
	}
	return int(min(r.Cur/4, unlimited))
}

// state is where a parked call is between being parked and answered.
type state uint8

const (
	waiting state = iota
	trying        // somebody is at it
	ended
)

// progress is what came of a try.
type progress uint8

const (
	stuck    progress = iota // nothing happened; the call would still block
	advanced                 // something happened, but the call would block again
	done                     // the call has its answer
	unasked                  // somebody is to be asked about the call first; never of a parked one
)

// parked is a call in the lot. What is set before it is parked stays as it is.
type parked struct {
	// socket is ours. It is closed when the call ends.
	socket socket
	// pollable tells that the socket becomes writable when it is time to try again.
	pollable bool
	// again tries once more, without blocking. It is called on one goroutine at a time.
	again func() (seccompnotif.Action, progress)
	// stopped makes the answer of a call that ends with an errno before it is done.
	stopped func(unix.Errno) seccompnotif.Action
	// timedOut is what the call fails with when the socket's SO_SNDTIMEO is over.
	timedOut unix.Errno

	number   uint32
	held     *seccompnotif.Held
	patience time.Duration // the socket's SO_SNDTIMEO; 0 is for ever
	timer    *time.Timer   // ends its patience; nil without
	polled   bool          // the socket is in the epoll
	misses   int           // tries in a row that got nowhere
	signals  int           // looks that found a signal for the whole process waiting

	// Guarded by the lot's mutex.
	state    state
	stopping unix.Errno // what the call is to end with as soon as nobody is at it
}

// park returns the action that parks a call. The lot owns p.socket from then on.
func (l *lot) park(p *parked) seccompnotif.Action {
	return seccompnotif.Hold(func(held *seccompnotif.Held) {
		p.held = held
		if timeout, err := unix.GetsockoptTimeval(p.socket.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO); err == nil {
			p.patience = time.Duration(timeout.Nano())
		}
		if errno := l.admit(p); errno != 0 {
			l.end(p, p.stopped(errno))
			return
		}
		l.wait(p)
	})
}

// admit makes room for a call. EAGAIN says that there is none.
func (l *lot) admit(p *parked) unix.Errno {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.state = trying // until it waits
	if l.closed || len(l.calls) >= l.limit {
		return unix.EAGAIN
	}
	if l.poll < 0 {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return unix.EAGAIN
		}
		l.poll = fd
	}
	for l.last++; l.calls[l.last] != nil; l.last++ {
	}
	p.number = l.last
	l.calls[p.number] = p
	l.turns = append(l.turns, p)
	if p.patience > 0 {
		p.timer = time.AfterFunc(p.patience, func() { l.stop(p, p.timedOut) })
	}
	if !l.polling {
		l.polling = true
		go l.run()
	}
	return 0
}

// wait has a call wait until the next try. Whoever calls it was at the call.
func (l *lot) wait(p *parked) {
	l.mu.Lock()
	if errno := p.stopping; errno != 0 {
		l.mu.Unlock()
		l.end(p, p.stopped(errno))
		return
	}
	p.state = waiting
	// The socket is not closed while the lot is locked.
	polled := p.pollable && p.misses == 0 && l.arm(p) == nil
	l.mu.Unlock()
	if !polled {
		time.AfterFunc(min(maxPause, time.Duration(p.misses+1)*time.Millisecond), func() { l.try(p) })
	}
}

// arm has the socket polled, for once.
func (l *lot) arm(p *parked) error {
	op := unix.EPOLL_CTL_ADD
	if p.polled {
		op = unix.EPOLL_CTL_MOD
	}
	err := unix.EpollCtl(l.poll, op, p.socket.fd, &unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(p.number)})
	p.polled = p.polled || err == nil
	return err
}

// claim returns true to whoever may be at a waiting call from now on.
func (l *lot) claim(p *parked) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.state != waiting {
		return false
	}
	p.state = trying
	return true
}

// try tries a call again.
func (l *lot) try(p *parked) {
	if !l.claim(p) {
		return
	}
	l.tries <- struct{}{}
	action, progress := p.again()
	<-l.tries
	switch progress {
	case done:
		l.end(p, action)
		return
	case advanced:
		p.misses = 0
	case stuck:
		p.misses++ // that the socket is writable does not mean much, then: pause
	}
	l.wait(p)
}

// stop ends a call with an errno, at once or after the try that is under way.
func (l *lot) stop(p *parked, errno unix.Errno) {
	l.mu.Lock()
	p.stopping = errno
	l.mu.Unlock()
	if l.claim(p) {
		l.end(p, p.stopped(errno))
	}
}

// end answers a call. Whoever calls it was at the call.
func (l *lot) end(p *parked, action seccompnotif.Action) {
	l.mu.Lock()
	p.state = ended
	delete(l.calls, p.number)
	if p.polled {
		// Closing our duplicate would leave the guest's file in the set.
		_ = unix.EpollCtl(l.poll, unix.EPOLL_CTL_DEL, p.socket.fd, nil)
	}
	l.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.socket.close()
	_ = p.held.Answer(action) // fails only after another answer, and there is none
}

// run polls and looks after the parked calls until there are none.
func (l *lot) run() {
	events := make([]unix.EpollEvent, maxLooks)
	for next := time.Now().Add(lookInterval); ; {
		// It fails with EINTR alone, and then nothing is there yet.
		n, _ := unix.EpollWait(l.poll, events, int(max(time.Until(next), 0).Milliseconds())+1)
		for _, event := range events[:max(n, 0)] {
			if p := l.find(uint32(event.Fd)); p != nil {
				go l.try(p)
			}
		}
		if time.Now().Before(next) {
			continue
		}
		if !l.look() {
			return
		}
		next = time.Now().Add(lookInterval)
	}
}

func (l *lot) find(number uint32) *parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[number]
}

// look looks after the calls whose turn it is. It returns false, once, when none is left.
func (l *lot) look() bool {
	batch := l.turn()
	for _, p := range batch {
		if errno := p.over(l.host); errno != 0 {
			go l.stop(p, errno) // which may write to the guest's memory
		}
	}
	return len(batch) > 0
}

// turn returns the calls whose turn it is. If there are none polling is over.
func (l *lot) turn() []*parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 {
		l.polling, l.turns = false, nil
		l.release()
		return nil
	}
	var batch []*parked
	turns := l.turns
	for len(turns) > 0 && len(batch) < maxLooks {
		if p := turns[0]; p.state != ended {
			batch = append(batch, p)
		}
		turns = turns[1:]
	}
	l.turns = append(turns, batch...)
	return batch
}

// release closes what a closed lot does not need any more. The lot is locked.
func (l *lot) release() {
	if l.closed && !l.polling && l.poll >= 0 {
		unix.Close(l.poll)
		l.poll = -1
	}
}

// close lets no further call in. The parked ones end by themselves, since nobody waits for them any more.
func (l *lot) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.release()
}

// size returns how many calls are parked.
func (l *lot) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls)
}
