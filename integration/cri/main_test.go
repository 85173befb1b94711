// Package cri tests the runtime as a kubelet meets it: behind containerd 2.x and its CRI plug-in, with real CNI plug-ins. Every case is run with runc
// as well, which is the control that the case is right about CRI.
package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandlock/sandlock-runtime/integration/containerd"
	"github.com/sandlock/sandlock-runtime/integration/suite"
	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

const (
	// image is a busybox.
	image = "localhost/busybox:test"
	// handler is the runtime under test.
	handler = "sandlock"
	runc    = "runc"
)

// daemon is the containerd that all tests share.
var daemon *containerd.Daemon

func TestMain(m *testing.M) {
	suite.Run("integration/cri", func(dir string) (int, error) { return runSuite(m, dir) })
}

func runSuite(m *testing.M, dir string) (code int, err error) {
	under, err := filepath.Abs("../../bin/sandlock-runtime")
	if err != nil {
		return 0, err
	}
	tools, err := suite.Tools("containerd", "runc")
	if err != nil {
		return 0, err
	}
	root := filepath.Join(dir, "busybox")
	if err := testbundle.Busybox(root); err != nil {
		return 0, err
	}
	daemon, err = containerd.Start(dir, tools, map[string]string{runc: filepath.Join(tools, "runc")}, func(file string) error {
		// As an operator would.
		out, err := exec.Command(under, "install", "containerd", "--file", file, "--name", handler).CombinedOutput()
		if err != nil {
			return fmt.Errorf("install containerd: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	if err := daemon.Import(root, image, "/bin/sh"); err != nil {
		return 0, err
	}
	// Like the real one it has a single static executable, and nothing else.
	pause := filepath.Join(dir, "pause")
	if err := os.Mkdir(pause, 0o755); err != nil {
		return 0, err
	}
	if err := os.Link(filepath.Join(root, "bin/busybox"), filepath.Join(pause, "sleep")); err != nil {
		return 0, err
	}
	if err := daemon.Import(pause, containerd.PauseImage, "/sleep", "1000000"); err != nil {
		return 0, err
	}
	kube, err = newKubelet(daemon.Socket())
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := kube.waitForNetwork(ctx); err != nil {
		return 0, err
	}
	code = m.Run()
	return code, removeGroups(podGroups)
}
