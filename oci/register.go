package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sandlock/sandlock-runtime/oci/install"
)

// Daemon is one that calls runtimes.
type Daemon string

// The daemons that this runtime can be registered with.
const (
	Docker     Daemon = "docker"
	Containerd Daemon = "containerd"
)

// RegistryChange is a planned change of a daemon's configuration.
type RegistryChange = install.Change

// Registration is an entry for this runtime in a daemon's configuration.
type Registration struct {
	Daemon     Daemon
	File       string // "" for the daemon's default
	Name       string
	Executable string // "" for the one that is running
	Profile    string
}

// Reload says how the daemon learns of a change.
func (d Daemon) Reload() string {
	if d == Docker {
		return "send dockerd a SIGHUP, or restart it (systemctl reload docker)"
	}
	return "restart containerd (systemctl restart containerd); containers go on running"
}

// Install plans the entry.
func (r Registration) Install() (*RegistryChange, error) {
	path := r.Executable
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("%s: not an executable file", path)
	}
	editor, file := r.editor()
	return install.Install(editor, file, install.Runtime{Name: r.Name, Path: path, Profile: r.Profile})
}

// Uninstall plans the entry's removal.
func (r Registration) Uninstall() (*RegistryChange, error) {
	editor, file := r.editor()
	return install.Uninstall(editor, file, r.Name)
}

func (r Registration) editor() (install.Editor, string) {
	var editor install.Editor = install.Docker{}
	file := install.DockerFile
	if r.Daemon == Containerd {
		editor, file = install.Containerd{NewVersion: containerdConfigVersion()}, install.ContainerdFile
	}
	if r.File != "" {
		file = r.File
	}
	return editor, file
}

// containerdConfigVersion is the version of a configuration to be written for the containerd that is installed, the latest if none is.
func containerdConfigVersion() int {
	out, err := exec.Command("containerd", "--version").Output()
	// "containerd github.com/containerd/containerd 1.6.20~ds1 ..."
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 2 && strings.HasPrefix(strings.TrimPrefix(fields[2], "v"), "1.") {
		return 2
	}
	return 3
}
