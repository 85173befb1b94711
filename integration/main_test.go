// Package integration tests the runtime from outside, as its users meet it: by its command line, with real containers,
// and behind a real dockerd. The runtime under test is bin/sandlock-runtime, or what SANDLOCK_RUNTIME names; with
// SANDLOCK_RUNTIME=/usr/sbin/runc the suite checks itself, since what it asks of a runtime is what runc does.
//
// It needs root. Each test has a state root and a bundle of its own, and fails if it leaves anything behind.
package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/suite"
)

var (
	// runtimePath is the runtime under test.
	runtimePath string
	// ours tells that the runtime under test is sandlock-runtime, with the flags and policies that only it has.
	ours bool
	// guestPath is the helper of integration/guest, a static executable.
	guestPath string
	// templateRoot is a busybox root that tests may read and copy, never write.
	templateRoot string
)

// onlyOurs names the tests of what no other runtime has. With another runtime they are left out, and that is said.
const onlyOurs = "^Test(Policy|Monitor|Own)"

func TestMain(m *testing.M) {
	suite.Run("integration", func(dir string) (int, error) { return runSuite(m, dir) })
}

func runSuite(m *testing.M, dir string) (int, error) {
	if err := findRuntime(); err != nil {
		return 0, err
	}
	// As containerd's shim does, so that the tests inherit and reap the containers' init processes.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a subreaper: %w", err)
	}
	guestPath, templateRoot = filepath.Join(dir, "guest"), filepath.Join(dir, "root")
	build := exec.Command("go", "build", "-o", guestPath, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the guest: %w: %s", err, out)
	}
	if err := makeTemplateRoot(templateRoot); err != nil {
		return 0, err
	}
	if !ours && flag.Lookup("test.skip").Value.String() == "" {
		if err := flag.Set("test.skip", onlyOurs); err != nil {
			return 0, err
		}
		fmt.Printf("integration: the runtime under test is %s: tests matching %s are of sandlock-runtime alone and left out\n", runtimePath, onlyOurs)
	}
	return m.Run(), nil
}

func findRuntime() error {
	name := os.Getenv("SANDLOCK_RUNTIME")
	if name == "" {
		name = "../bin/sandlock-runtime"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("the runtime under test: %w (make build first, or set SANDLOCK_RUNTIME)", err)
	}
	if runtimePath, err = filepath.Abs(path); err != nil {
		return err
	}
	version, err := exec.Command(runtimePath, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", runtimePath, err)
	}
	ours = strings.HasPrefix(string(version), "sandlock-runtime")
	return nil
}
