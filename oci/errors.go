package oci

import (
	"errors"
	"fmt"
)

// What a verb says of a container that is not in the state it needs, in runc's words, which callers of runtimes look for. That there is no
// such container is [state.ErrNotExist].
var (
	ErrNotRunning = errors.New("container not running")
	ErrNotPaused  = errors.New("container not paused")
)

// ofContainer names the container that an error is about.
func ofContainer(err error, id string) error { return fmt.Errorf("%w: %q", err, id) }
