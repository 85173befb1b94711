package integration

import "golang.org/x/sys/unix"

// mkdirs are the calls that make directories.
var mkdirs = []int{unix.SYS_MKDIR, unix.SYS_MKDIRAT}
