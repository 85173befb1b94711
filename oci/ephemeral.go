package oci

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// Where a network namespace says from which ports the kernel chooses, see ip(7).
const (
	rangeSysctl = "net.ipv4.ip_local_port_range"
	rangeFile   = "/proc/sys/net/ipv4/ip_local_port_range"
)

// ephemeral finds out from which ports the kernel will choose in the container's network namespace, where the policy has rules that it matters for.
func ephemeral(spec *specs.Spec, asked policy.Policy) (netfilter.Ports, error) {
	if !plan.BindRules(asked) {
		return nil, nil
	}
	if value, set := spec.Linux.Sysctl[rangeSysctl]; set {
		ports, err := parseRange(value)
		if err != nil {
			return nil, fmt.Errorf("linux.sysctl[%q]: %w", rangeSysctl, err)
		}
		return ports, nil
	}
	path := "/proc/self/ns/net"
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			path = ns.Path
		}
	}
	if path == "" {
		return netfilter.DefaultEphemeral(), nil // a new one
	}
	text, err := readInNetwork(path, rangeFile)
	if err != nil {
		return nil, fmt.Errorf("linux.namespaces: network %s: %w", path, err)
	}
	return parseRange(text)
}

// parseRange reads two ports with blanks between them.
func parseRange(text string) (netfilter.Ports, error) {
	fields := strings.Fields(text)
	if len(fields) == 2 {
		if ports, err := netfilter.ParsePorts(fields[0] + "-" + fields[1]); err == nil {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("%q: not two ports, the lower one first", text)
}

// readInNetwork reads a file of /proc/sys/net as a thread sees it that is in another network namespace.
func readInNetwork(namespace, file string) (string, error) {
	type answer struct {
		text string
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		text, err := visit(namespace, file)
		read <- answer{text, err}
	}()
	a := <-read
	return a.text, a.err
}

// visit reads a file in a network namespace. It takes the calling thread back to its own: that may be the process's first, which does not end with its
// goroutine.
func visit(namespace, file string) (_ string, err error) {
	there, err := os.Open(namespace)
	if err != nil {
		return "", err
	}
	defer there.Close()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return "", err
	}
	defer here.Close()
	same, err := sameFile(there, here)
	if err != nil {
		return "", err
	}
	if !same { // otherwise it would take privilege for nothing
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			return "", os.NewSyscallError("setns", err)
		}
		defer func() {
			err = errors.Join(err, os.NewSyscallError("setns", unix.Setns(int(here.Fd()), unix.CLONE_NEWNET)))
		}()
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

func sameFile(f, g *os.File) (bool, error) {
	one, err := f.Stat()
	if err != nil {
		return false, err
	}
	other, err := g.Stat()
	return err == nil && os.SameFile(one, other), err
}
