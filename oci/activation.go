package oci

import (
	"os"
	"strconv"

	"github.com/sandlock/sandlock-runtime/oci/caller"
)

// The environment by which systemd passes sockets on, see sd_listen_fds(3).
const (
	listenFDs = "LISTEN_FDS"
	listenPID = "LISTEN_PID"
)

// passedSockets is how many descriptors from 3 up whoever called the runtime means for the container: none unless they are meant for this process, or for
// the one that it was split from.
func passedSockets(split *caller.Process) int {
	pid, err := strconv.Atoi(os.Getenv(listenPID))
	if err != nil || pid != os.Getpid() && (split == nil || pid != os.Getppid()) {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv(listenFDs))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// passSockets has the container's first process keep n sockets more, and tells it.
func (c *container) passSockets(o *CreateOptions, n int) {
	if n == 0 {
		return
	}
	o.PreserveFDs += n
	process := *c.bundle.Spec.Process
	process.Env = append(process.Env[:len(process.Env):len(process.Env)], listenFDs+"="+strconv.Itoa(n), listenPID+"=1")
	c.bundle.Spec.Process = &process
}
