package oci

import (
	"runtime/debug"
)

// slim gives back the memory that making a container took: a monitor waits for most of its life.
func slim() {
	debug.FreeOSMemory()
}
