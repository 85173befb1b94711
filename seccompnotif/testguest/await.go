package testguest

import (
	"testing"
	"time"
)

// Await waits for a condition that nothing tells of, and fails the test if it does not come in a minute, which is long even on a busy
// machine. It may be called from any goroutine.
func Await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	const limit, step = time.Minute, time.Millisecond
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(step) {
		if time.Now().After(deadline) {
			t.Errorf("has not come in %s: %s", limit, what)
			return
		}
	}
}
