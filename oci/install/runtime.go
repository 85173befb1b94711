package install

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
)

// Runtime is what is registered.
type Runtime struct {
	Name    string // by which people choose it, such as "sandlock"
	Path    string // of the executable, absolute
	Profile string // that its containers start from, "" for the operator's default; Docker only
}

// ErrProfile means that a profile was given for containerd, which hands no flags to its runtimes.
var ErrProfile = errors.New("containerd passes no flags to a runtime: name the profile in the operator's configuration (profiles.default) or by the annotation io.sandlock.profile")

// validName is what both Docker and containerd, and a Kubernetes handler (RFC 1123 label), take for a name. Every verb of the command would pay for its compilation,
// if it were done at the start.
var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })

func (r Runtime) check() error {
	if !validName().MatchString(r.Name) {
		return fmt.Errorf("name %q: expected at most 63 of a-z, 0-9 and -, neither first nor last a -", r.Name)
	}
	if !filepath.IsAbs(r.Path) {
		return fmt.Errorf("path %q: not absolute", r.Path)
	}
	return nil
}

// Editor changes one kind of configuration file. Its methods do not change what they are given.
type Editor interface {
	// Install registers r; it returns before itself where that has been done already.
	Install(before []byte, r Runtime) ([]byte, error)
	// Uninstall takes the registration of name back; it returns before itself where there is none.
	Uninstall(before []byte, name string) ([]byte, error)
	// Same tells whether two files mean the same.
	Same(a, b []byte) bool
	// Blank tells whether a file says nothing.
	Blank(text []byte) bool
	// Registered tells whether a file has any registration of this runtime.
	Registered(text []byte) bool
}

// ours tells whether the executable of an entry is this runtime, if perhaps in another place.
func ours(path string) bool { return filepath.Base(path) == "sandlock-runtime" }
