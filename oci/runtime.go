// Package oci is the runtime as a library: one method of [Runtime] for each verb of the command.
//
// A verb is carried out in the process that calls it. Two are special: [Runtime.Create] and [Runtime.Run] turn the calling process into the
// container's monitor (the process that the user called has been split from it before, see package caller), so they return only when
// the container's life is over, or with the error that kept it from beginning.
//
// Errors are one line, and use the words that the users of runc match on: "container does not exist", "container not running".
package oci

import (
	"path/filepath"

	"github.com/sirupsen/logrus"
)

// DefaultRoot is where state is kept unless --root says otherwise.
const DefaultRoot = "/run/sandlock"

// Runtime is what the global options say. Its methods may be called from several goroutines.
type Runtime struct {
	Root          string // directory of the containers' states
	SystemdCgroup bool   // --systemd-cgroup
	NoCgroup      bool   // --cgroup-manager disabled
	Rootless      bool   // --rootless, or not root
	Config        string // operator's configuration, "" for the default place
	Profile       string // --profile, "" for the operator's default
	Log           *logrus.Logger
	// LogFile tells that Log goes to a file of the user's (--log), not to stderr.
	LogFile bool
}

// filterCache is where compiled filters are kept. No container can have its name.
func (r *Runtime) filterCache() string { return filepath.Join(r.Root, "@filters") }
