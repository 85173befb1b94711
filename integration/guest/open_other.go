//go:build !amd64

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openOld knows no way: this architecture has none but openat and openat2.
func openOld(how string, _ *byte) (uintptr, unix.Errno, error) {
	return 0, 0, fmt.Errorf("open: no way %q", how)
}
