package launch

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Briefly starts a process in new namespaces (CLONE_NEW*) and ends it once use has returned, which is given its pid: for what can only be had from a
// process in a namespace. The program's steps are what the process does before. Errors of the process itself begin with about.
func Briefly(p *Program, namespaces uint64, about string, use func(pid int) error) error {
	born := p.Sync("the namespaces are there")
	child, err := Start(p, Options{Namespaces: namespaces})
	if err != nil {
		return fmt.Errorf("%s: %w", about, err)
	}
	defer func() {
		child.Close()                             // it exits
		_, _ = unix.Wait4(child.PID, nil, 0, nil) // a child of this process's, and signals have such a wait restarted
		child.PIDFD.Close()
	}()
	switch at, err := child.Wait(); {
	case err != nil:
		return fmt.Errorf("%s: %w", about, err)
	case at != born:
		return fmt.Errorf("%s: the process in it has ended", about)
	}
	return use(child.PID)
}
