//go:build !cgo

package seccompnotif

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func libraryVersion() string { return "none" }

func compileProfile(*specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	return nil, fieldError("", "this program was built without cgo, and so without libseccomp")
}
