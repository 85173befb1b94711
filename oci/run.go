package oci

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/caller"
	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// Run creates and starts a container. With Detach the calling process stays as its monitor, as with [Runtime.Create], and exitCode is 0; without, it
// returns when the container has ended and been removed, with the exit code of its first process.
func (r *Runtime) Run(id string, o RunOptions) (exitCode int, err error) {
	c, err := r.create(id, o.CreateOptions, o.Detach, true)
	if err != nil {
		return 0, err
	}
	if o.Detach {
		return 0, c.runDetached()
	}
	defer c.closeRelay()
	return c.runForeground(o.Keep)
}

func (c *container) runDetached() error {
	ready, err := c.notifier()
	if err == nil {
		err = c.monitor.Start()
	}
	if err != nil {
		ready.close()
		c.undo()
		return err
	}
	if ready != nil {
		// Who has called waits until the service is there, as with runc; everybody else can speak to the monitor meanwhile.
		go func() {
			err := ready.forward(c.monitor.PID())
			if err = errors.Join(err, c.release()); err != nil {
				c.runtime.Log.Warn(err)
			}
		}()
		c.watch()
		return nil
	}
	if err := c.release(); err != nil {
		c.undo()
		return err
	}
	c.watch()
	return nil
}

// notifier is what tells the service manager when the container is ready, nil if there is none. It is closed when the container ends.
func (c *container) notifier() (*notifier, error) {
	sender := os.Getpid()
	if c.caller != nil {
		sender = os.Getppid() // the process that was called
	}
	ready, err := newNotifier(c.dir, sender)
	if ready != nil {
		go func() {
			c.monitor.Waited()
			ready.close()
		}()
	}
	return ready, err
}

// runForeground passes signals on while the container runs, and removes it when it has ended.
func (c *container) runForeground(keep bool) (int, error) {
	if c.caller != nil {
		if err := c.caller.Workload(c.monitor.PID()); err != nil {
			c.undo()
			return 0, err
		}
	}
	if c.caller == nil {
		// Otherwise the calling process passes them on.
		defer forwardSignals(c.monitor.Signal)()
	}
	ready, err := c.notifier()
	if err == nil {
		err = c.monitor.Start()
	}
	if err != nil {
		ready.close()
		c.undo()
		return 0, err
	}
	if ready != nil {
		go func() {
			// The process to watch is the one that stays until the container has been removed.
			if err := ready.forward(ready.sender); err != nil {
				c.runtime.Log.Warn(err)
			}
		}()
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.monitor.Serve(c.socket, authorise, false)
	}()
	status, err := c.wait()
	<-served
	if c.relay != nil {
		if finishErr := c.relay.Finish(); finishErr != nil {
			c.runtime.Log.Warn(finishErr)
		}
	}
	if err != nil {
		return 0, err
	}
	code := exitCode(status)
	if keep {
		c.finish(&status)
	} else if err := c.discard(); err != nil {
		return code, err
	}
	c.closeRelay()
	if c.caller != nil {
		// All is done: nobody needs to wait until this process has been taken apart.
		return code, c.caller.Finish(code)
	}
	return code, nil
}

// discard removes a container that has just ended, and all that is left of it, unless a delete is about to.
func (c *container) discard() error {
	unlock, err := c.lockOrLeave()
	if errors.Is(err, state.ErrNotExist) || errors.Is(err, errDeleting) {
		c.denials.close()
		c.monitor.Close()
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }() // the directory is gone by then
	c.denials.close()
	destroyed := make(chan error, 1)
	go func() { destroyed <- c.destroyCgroup() }()
	c.monitor.Close()
	c.dir.Clear()
	c.runtime.runPoststop(c.bundle.Spec.Hooks, &c.record)
	if err := <-destroyed; err != nil {
		return err
	}
	return c.dir.Remove()
}

// errDeleting means that a delete has the lock of a container that has ended, and waits for its monitor.
var errDeleting = errors.New("a delete is at work")

// lockOrLeave locks the container, unless a delete is at work that will remove it.
func (c *container) lockOrLeave() (unlock func() error, err error) {
	const look = 20 * time.Millisecond // how often
	for deadline := time.Now().Add(lockWait); ; {
		ctx, cancel := context.WithTimeout(context.Background(), look)
		unlock, err = c.dir.Lock(ctx)
		cancel()
		switch {
		case !errors.Is(err, context.DeadlineExceeded):
			return unlock, err
		case c.dir.Deleting():
			return nil, errDeleting
		case time.Now().After(deadline):
			return nil, err
		}
	}
}

// destroyCgroup ends what shared no PID namespace with init, and removes the cgroup.
func (c *container) destroyCgroup() error {
	if !c.plan.Namespaces.Has(specs.PIDNamespace) {
		if err := c.cgroup.SignalAll(unix.SIGKILL); err != nil && !errors.Is(err, cgroup.ErrAbsent) {
			return err
		}
	}
	return c.cgroup.Destroy()
}

// wait reaps the first process, or hears from the calling process that it has.
func (c *container) wait() (unix.WaitStatus, error) {
	if c.caller != nil {
		status, err := c.caller.Exited(c.monitor.PID())
		if !errors.Is(err, caller.ErrGone) {
			return status, err
		}
		// Whoever called is dead, and cannot be told the exit code; the container lives on to its own end.
		c.monitor.Waited()
		if status := c.monitor.ExitStatus(); status != nil {
			return *status, nil
		}
		return 0, nil
	}
	return reap(c.monitor.PID())
}

// reap waits for a child of this process.
func reap(pid int) (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

func (c *container) closeRelay() {
	if c.relay != nil {
		c.relay.Close()
	}
}
