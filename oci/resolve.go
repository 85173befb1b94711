package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/resolve"
)

// lookUp finds out what the host names in the policy's rules stand for, and what else the container's /etc/hosts would say. Where there is no name
// nothing is asked or read.
func lookUp(b *bundle.Bundle, asked policy.Policy) (answers map[string]resolve.Answer, hosts string, err error) {
	list := plan.Names(asked)
	if len(list) == 0 || len(list) > resolve.MaxNames { // which the plan refuses
		return nil, "", nil
	}
	if source := plan.HostsSource(b, asked); source != "" {
		if hosts, err = readHosts(source); err != nil {
			return nil, "", fmt.Errorf("mounts: /etc/hosts: %w", err)
		}
	}
	return resolve.Names(context.Background(), list), hosts, nil
}

// maxHosts bounds a hosts file, in bytes. An earlier run of the container may have written it.
const maxHosts = 1 << 20

// readHosts reads a file that is to be a container's /etc/hosts.
func readHosts(name string) (string, error) {
	file, err := os.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	content, err := io.ReadAll(io.LimitReader(file, maxHosts+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxHosts {
		return "", &os.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d MiB", maxHosts>>20)}
	}
	return string(content), nil
}
