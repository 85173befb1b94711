// Package suite has what the TestMain functions of tests that start containers have in common.
package suite

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// Run calls run with a directory for what the tests share, removes that, and ends the process with the exit code that run has returned, or
// with 1 and the error. A directory's path is short, for the sake of sockets in it, and containers with a user namespace may walk through it.
func Run(name string, run func(dir string) (int, error)) {
	flag.Parse()
	code, err := inDirectory(run)
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		code = 1
	}
	os.Exit(code)
}

func inDirectory(run func(dir string) (int, error)) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("these tests start containers and need root")
	}
	dir, err := os.MkdirTemp("", "sl-suite-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	return run(dir)
}

// Tools is the directory of the programs that hack/setup --test builds, seen from a package two levels down. It is an error if one of the named is
// missing.
func Tools(names ...string) (string, error) {
	dir, err := filepath.Abs("../../bin/tools")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%w (hack/setup --test builds it)", err)
		}
	}
	return dir, nil
}
