package seccompnotif

import (
	"sync"
	"time"
)

const (
	// maxLogged is how many lines a supervisor logs in each logWindow: much of what it logs a guest can bring about as often as
	// it likes.
	maxLogged = 50
	logWindow = 10 * time.Second
)

// logLimit decides what is logged.
type logLimit struct {
	mu         sync.Mutex
	began      time.Duration // of the window, by the supervisor's clock
	lines      int
	suppressed int // in this window and the ones before it, not told of yet
}

// admit tells whether one more line may be logged, and of how many it is to be said that they were not.
func (l *logLimit) admit(now time.Duration) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.began >= logWindow {
		l.began, l.lines = now, 0
	}
	if l.lines >= maxLogged {
		l.suppressed++
		return false, 0
	}
	l.lines++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

func (s *Supervisor) logf(format string, args ...any) {
	if s.config.Log == nil {
		return
	}
	ok, suppressed := s.logLimit.admit(s.counters.now())
	if suppressed > 0 {
		s.config.Log("%d lines about notifications were not logged", suppressed)
	}
	if ok {
		s.config.Log(format, args...)
	}
}
