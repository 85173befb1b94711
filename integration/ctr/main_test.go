// Package ctr tests the runtime behind containerd 2.x, driven by its own command, ctr. Every case is run with runc as well, which is the control that the
// case is right about containerd.
package ctr

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sandlock/sandlock-runtime/integration/containerd"
	"github.com/sandlock/sandlock-runtime/integration/suite"
	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

const (
	// image is a busybox.
	image = "localhost/busybox:test"
	// namespace is containerd's, and the name of the parent of the containers' cgroups.
	namespace = "sandlock-test-ctr"
)

var (
	// daemon is the containerd that all tests share.
	daemon *containerd.Daemon
	// directory has all that the tests make.
	directory string
	// runtimes are the executables by name.
	runtimes = map[string]string{}
)

func TestMain(m *testing.M) {
	suite.Run("integration/ctr", func(dir string) (int, error) { return runSuite(m, dir) })
}

func runSuite(m *testing.M, dir string) (code int, err error) {
	directory = dir
	if runtimes["sandlock"], err = filepath.Abs("../../bin/sandlock-runtime"); err != nil {
		return 0, err
	}
	if runtimes["runc"], err = exec.LookPath("runc"); err != nil {
		return 0, err
	}
	tools, err := suite.Tools("containerd")
	if err != nil {
		return 0, err
	}
	root := filepath.Join(directory, "busybox")
	if err := testbundle.Busybox(root); err != nil {
		return 0, err
	}
	if daemon, err = containerd.Start(directory, tools, nil, nil); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, daemon.Stop(), removeCgroups()) }()
	if err := daemon.ImportInto(namespace, root, image, "/bin/sh"); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// removeCgroups removes the parents of the containers' cgroups, in which none may be left.
func removeCgroups() error {
	var problems []error
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		parents, err := filepath.Glob(pattern + namespace)
		problems = append(problems, err)
		for _, parent := range parents {
			problems = append(problems, os.Remove(parent))
		}
	}
	return errors.Join(problems...)
}
