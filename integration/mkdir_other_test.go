//go:build !amd64

package integration

import "golang.org/x/sys/unix"

// mkdirs are the calls that make directories.
var mkdirs = []int{unix.SYS_MKDIRAT}
