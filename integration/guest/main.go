// Command guest is what the integration tests run inside a container when a shell will not do: it makes one system call,
// or one small attack, and prints what came of it on one line. It is built without cgo, so it needs nothing of the root.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// verbs are the things the guest can be asked to do; each gets the arguments after its own name.
var verbs = map[string]func(args []string) (string, error){
	"network":   network,
	"socket":    socket,
	"fetch":     fetch,
	"listen":    listen,
	"overwrite": overwriteRuntime,
	"attack":    attack,
	"handle":    openByHandle,
	"queue":     queue,
	"reap":      reap,
	"open":      openFile,
	"openat2":   readByOpenat2,
	"bind":      bind,
	"exec":      execute,
	"notify":    notify,
}

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "steps" {
		steps(args[1:])
		return
	}
	os.Exit(report(args))
}

// report does what the arguments say, prints what came of it, and returns the exit code.
func report(args []string) int {
	if len(args) == 0 || verbs[args[0]] == nil {
		fmt.Fprintf(os.Stderr, "guest: no such verb in %q\n", args)
		return 2
	}
	answer, err := verbs[args[0]](args[1:])
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		fmt.Println(unix.ErrnoName(errno))
		return 1
	case err != nil:
		fmt.Println(err)
		return 1
	}
	fmt.Println(answer)
	return 0
}

// steps reports once for every line that comes, as one process.
func steps(args []string) {
	fmt.Println(os.Getpid())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		report(args)
	}
}
