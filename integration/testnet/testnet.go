// Package testnet makes network namespaces with servers in them, for containers to join by path. A namespace lives as
// long as the process that made it, or until Close; nothing is mounted and nothing is left behind.
package testnet

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// The main thread stays with the main goroutine, and so in its namespaces: it is what /proc/self tells of.
func init() { runtime.LockOSThread() }

// Namespace is a network namespace of its own, with its loopback up. Its methods may be called from any goroutine.
type Namespace struct {
	file *os.File
	work chan func()
}

// New makes a network namespace. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
func New() (*Namespace, error) {
	n := &Namespace{work: make(chan func())}
	ready := make(chan error)
	go n.serve(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return n, nil
}

// serve keeps one thread inside the namespace for as long as there is work. The thread is never unlocked, so that it
// ends with the goroutine instead of carrying the namespace into other goroutines.
func (n *Namespace) serve(ready chan<- error) {
	runtime.LockOSThread()
	enter := func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare the network namespace: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		n.file = file
		return ip("link", "set", "lo", "up")
	}
	err := enter()
	ready <- err
	if err != nil {
		return
	}
	for f := range n.work {
		f()
	}
}

// Path names the namespace in the way a spec's linux.namespaces[].path takes it. It is good while this process lives.
func (n *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// Do runs f on a thread inside the namespace and waits for it. Sockets that f opens stay in the namespace.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

// AddAddress gives the namespace's loopback one more address, in CIDR form.
func (n *Namespace) AddAddress(cidr string) error {
	return n.Do(func() error {
		args := []string{"address", "add", cidr, "dev", "lo"}
		if isIPv6(cidr) {
			args = append(args, "nodad") // without it the address cannot be bound until duplicate detection is over
		}
		return ip(args...)
	})
}

// Close ends the namespace's thread; the namespace goes when the last socket and process in it are gone.
func (n *Namespace) Close() error {
	close(n.work)
	return n.file.Close()
}

// ip runs iproute2 in the network namespace of the calling thread.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}
