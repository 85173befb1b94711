package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The main thread stays with the main goroutine, and so in its namespaces: it is what /proc/self tells of.
func init() { runtime.LockOSThread() }

// candidate is a runtime whose commands all run from one thread. crun does not start on a hybrid cgroup tree, so its
// thread is in a mount namespace from which the second tree has gone; that is entered once, and not measured.
type candidate struct {
	name string
	path string
	root string // the state root
	work chan func()
	// spent is the processor time of the commands that have run, and of the processes that they have waited for.
	spent time.Duration
}

func newCandidate(name, dir, hidden string) (*candidate, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		for _, sbin := range []string{"/usr/sbin/", "/sbin/"} { // not on everybody's PATH
			if _, statErr := os.Stat(sbin + name); statErr == nil {
				path, err = sbin+name, nil
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	c := &candidate{name: filepath.Base(path), path: path, root: filepath.Join(dir, "state-"+filepath.Base(path)), work: make(chan func())}
	ready := make(chan error)
	go c.serve(hidden, ready)
	return c, <-ready
}

func (c *candidate) serve(hidden string, ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	err := hide(hidden)
	ready <- err
	if err != nil {
		return
	}
	for f := range c.work {
		f()
	}
}

// hide unmounts path in a mount namespace of the calling thread's own. Without a path, or where nothing is mounted on it,
// it does nothing.
func hide(path string) error {
	if path == "" {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

func (c *candidate) close() { close(c.work) }

// do runs one command of the runtime to its end, from the runtime's thread. Its output goes to out if that is given, and
// what it said on stderr is in the error.
func (c *candidate) do(out *os.File, args ...string) error {
	cmd := exec.Command(c.path, append([]string{"--root", c.root}, args...)...)
	complaint, err := os.Create(filepath.Join(filepath.Dir(c.root), c.name+".stderr"))
	if err != nil {
		return err
	}
	defer complaint.Close()
	cmd.Stderr = complaint
	if out != nil {
		cmd.Stdout = out
	}
	done := make(chan error)
	c.work <- func() { done <- cmd.Run() }
	err = <-done
	if cmd.ProcessState != nil {
		c.spent += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		said, _ := os.ReadFile(complaint.Name()) // only for the message
		return fmt.Errorf("%s %s: %w: %s", c.name, strings.Join(args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}
