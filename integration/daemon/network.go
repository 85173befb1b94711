package daemon

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// network is the file that a mount of the daemon's network namespace is on.
func (d *Daemon) network() string { return d.Path("netns") }

// keepNetwork binds a process's network namespace to a file, so that it outlives the process.
func keepNetwork(pid int, file string) error {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount a network namespace on %s: %w", file, err)
	}
	return nil
}

// Dial connects from the daemon's network namespace, where its bridges and published ports are.
func (d *Daemon) Dial(network, address string) (conn net.Conn, err error) {
	err = d.InNetwork(func() (err error) {
		conn, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return conn, err
}

// Listen listens in the daemon's network namespace.
func (d *Daemon) Listen(network, address string) (l net.Listener, err error) {
	err = d.InNetwork(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// InNetwork runs f on a thread inside the daemon's network namespace. The thread is not used again.
func (d *Daemon) InNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(d.network())
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace of %s: %w", d.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}
