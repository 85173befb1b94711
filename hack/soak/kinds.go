package main

import (
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// kind is one way for a container to live.
type kind struct {
	name   string
	policy map[string]string
	args   []string
	do     func(*harness, *container) error
}

// attempt is a script whose connect the egress policy denies; without a policy there is no route.
const attempt = "! nc -w 1 192.0.2.1 80 </dev/null 2>/dev/null"

var (
	// forever is a workload that ends by a signal only.
	forever = []string{"/bin/sleep", "1000000"}
	quick   = []string{"/bin/true"}
	tries   = []string{"/bin/sh", "-c", attempt}
)

var kinds = []kind{
	{"plain", nil, quick, wholeLife},
	{"plain-policy", egress, tries, wholeLife},
	{"exec", nil, forever, executed},
	{"exec-policy", egress, forever, executed},
	{"pause", nil, forever, paused},
	{"pause-policy", egress, forever, paused},
	{"foreground", nil, quick, foreground},
	{"foreground-policy", egress, tries, foreground},
	{"force", nil, forever, forced},
	{"force-policy", egress, forever, forced},
	{"never-started", nil, forever, neverStarted},
	{"never-started-policy", egress, forever, neverStarted},
	{"force-paused-policy", egress, forever, forcedPaused},
	{"no-monitor", nil, forever, withoutMonitor},
	{"no-monitor-policy", egress, forever, withoutMonitor},
	{"terminated", egress, quick, interrupted(unix.SIGTERM)},
	{"killed", egress, quick, interrupted(unix.SIGKILL)},
	{"long-lived", nil, quick, usesLongLived},
}

func wholeLife(_ *harness, c *container) error {
	return inOrder(c.create, c.start, c.waitEnd, c.delete)
}

func executed(_ *harness, c *container) error {
	return inOrder(c.create, c.start, c.exec("true"), c.execUntilEnd, c.exec(attempt), c.kill("KILL"), c.waitEnd, c.delete)
}

func paused(_ *harness, c *container) error {
	return inOrder(c.create, c.start, c.pause, c.state, c.resume, c.state, c.kill("KILL"), c.waitEnd, c.delete)
}

func foreground(_ *harness, c *container) error { return c.foreground() }

func forced(_ *harness, c *container) error {
	return inOrder(c.create, c.start, c.execUntilEnd, c.deleteForce)
}

func neverStarted(_ *harness, c *container) error { return inOrder(c.create, c.delete) }

func forcedPaused(_ *harness, c *container) error {
	return inOrder(c.create, c.start, c.execUntilEnd, c.pause, c.deleteForce)
}

func withoutMonitor(_ *harness, c *container) error {
	return inOrder(c.create, c.start, c.killMonitor, c.deleteForce)
}

// interrupted is a create that a signal ends at a moment of its own. Whatever it has left is cleared.
func interrupted(signal unix.Signal) func(*harness, *container) error {
	return func(h *harness, c *container) error {
		moment := rand.N(max(h.tally.median("create"), 10*time.Millisecond))
		if err := c.interruptedCreate(signal, moment); err != nil {
			return err
		}
		return c.deleteForce()
	}
}

// usesLongLived executes in the containers that stay, and changes their limits.
func usesLongLived(h *harness, _ *container) error {
	for _, long := range h.long {
		if err := inOrder(long.exec(attempt), long.state, func() error { return long.run("update", "--pids-limit", "512", long.id) }); err != nil {
			return err
		}
	}
	return nil
}
