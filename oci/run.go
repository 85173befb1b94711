package oci

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/caller"
)

// Run creates and starts a container. With Detach the calling process stays as its monitor, as with [Runtime.Create], and exitCode is 0; without, it
// returns when the container has ended and been removed, with the exit code of its first process.
func (r *Runtime) Run(id string, o RunOptions) (exitCode int, err error) {
	c, err := r.create(id, o.CreateOptions, o.Detach)
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
	if err := c.listen(); err != nil {
		c.undo()
		return err
	}
	if err := c.monitor.Start(); err != nil {
		c.undo()
		return err
	}
	if err := c.release(); err != nil {
		c.undo()
		return err
	}
	c.watch()
	return nil
}

// runForeground passes signals on while the container runs, and removes it when it has ended.
func (c *container) runForeground(keep bool) (int, error) {
	if err := c.listen(); err != nil {
		c.undo()
		return 0, err
	}
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
	if err := c.monitor.Start(); err != nil {
		c.undo()
		return 0, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.monitor.Serve(c.socket, authorise)
	}()
	status, err := c.wait()
	<-served
	if c.relay != nil {
		if finishErr := c.relay.Finish(); finishErr != nil {
			c.runtime.Log.Warn(finishErr)
		}
	}
	c.finish(&status)
	if err != nil {
		return 0, err
	}
	if !keep {
		if err := c.runtime.remove(c.dir, &c.record, false); err != nil {
			return exitCode(status), err
		}
	}
	return exitCode(status), nil
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
