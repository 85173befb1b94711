// Command guest is what the integration tests run inside a container when a shell will not do: it makes one system call,
// or one small attack, and prints what came of it on one line. It is built without cgo, so it needs nothing of the root.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// verbs are the things the guest can be asked to do; each gets the arguments after its own name.
var verbs = map[string]func(args []string) (string, error){
	"network":   network,
	"socket":    socket,
	"listen":    listen,
	"overwrite": overwriteRuntime,
	"attack":    attack,
	"handle":    openByHandle,
	"queue":     queue,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "guest: no such verb in %q\n", os.Args)
		os.Exit(2)
	}
	answer, err := verbs[os.Args[1]](os.Args[2:])
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		fmt.Println(unix.ErrnoName(errno))
		os.Exit(1)
	case err != nil:
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(answer)
}
