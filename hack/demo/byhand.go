package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// The two servers: both can be reached without a policy.
const (
	apiServer   = "10.20.0.1:8080"
	otherServer = "10.30.0.1:8080"
)

var policy = map[string]string{
	"io.sandlock.network.allow":    "tcp://" + apiServer,
	"io.sandlock.filesystem.read":  "/bin;/etc;/data;/secrets",
	"io.sandlock.filesystem.write": "/tmp",
	"io.sandlock.filesystem.deny":  "/secrets",
}

var steps = []step{
	{command: "nc -w 2 10.20.0.1 8080"},
	{command: "nc -w 2 10.30.0.1 8080", denied: true},
	{command: "cat /data/readme"},
	{command: "touch /data/new", denied: true},
	{command: "touch /tmp/new"},
	{command: "cat /secrets/key", denied: true},
	{command: "cat /proc/self/root/secrets/key", denied: true},
	{command: "ls /root", denied: true},
}

// byHand runs a bundle with the runtime's own command line, in a network namespace with two servers.
func byHand(runtimePath, dir, root string) error {
	fmt.Print(`
1. A container with a policy, by the runtime's own command line
---------------------------------------------------------------
Two servers listen beside it, at ` + apiServer + ` and at ` + otherServer + `.
The policy is in the annotations of the bundle's config.json:

`)
	keys := make([]string, 0, len(policy))
	for key := range policy {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		fmt.Printf("    %-30s %s\n", key, policy[key])
	}
	network, err := servers() // which end with this process
	if err != nil {
		return err
	}
	free, _, err := runOne(runtimePath, dir, root, network, "demo-free", nil)
	if err != nil {
		return err
	}
	confined, log, err := runOne(runtimePath, dir, root, network, "demo-confined", policy)
	if err != nil {
		return err
	}
	fmt.Printf("\n    $ sandlock-runtime --log log run --bundle %s demo-confined\n", filepath.Join(dir, "demo-confined"))
	if err := report(steps, free, confined); err != nil {
		return err
	}
	return showDenials(log)
}

func servers() (*testnet.Namespace, error) {
	network, err := testnet.New()
	if err != nil {
		return nil, err
	}
	for _, address := range []string{apiServer, otherServer} {
		host, _, _ := strings.Cut(address, ":")
		if err := network.AddAddress(host + "/32"); err != nil {
			return nil, err
		}
		if _, err := network.Listen("tcp", address); err != nil {
			return nil, err
		}
	}
	return network, nil
}

// runOne runs the steps in a container and returns what they printed and what the runtime logged.
func runOne(runtimePath, dir, root string, network *testnet.Namespace, id string, annotations map[string]string) (output, log string, err error) {
	own := filepath.Join(dir, id+"-rootfs") // what one container writes, the other must not find
	if out, err := exec.Command("cp", "-a", root, own).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("copy the root: %w: %s", err, out)
	}
	spec, err := testbundle.Spec(id, own, "/bin/sh", "-c", script(steps))
	if err != nil {
		return "", "", err
	}
	spec.Annotations = annotations
	testbundle.SetNamespacePath(spec, specs.NetworkNamespace, network.Path())
	bundle := filepath.Join(dir, id)
	if err := os.Mkdir(bundle, 0o755); err != nil {
		return "", "", err
	}
	if err := testbundle.Write(bundle, spec); err != nil {
		return "", "", err
	}
	logPath := filepath.Join(bundle, "log")
	cmd := exec.Command(runtimePath, "--root", filepath.Join(dir, "state"), "--log", logPath, "run", "--bundle", bundle, id)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("sandlock-runtime run: %w: %s%s", err, out, complaint.String())
	}
	content, err := os.ReadFile(logPath)
	if err != nil && !os.IsNotExist(err) {
		return "", "", err
	}
	return string(out), string(content), nil
}

// showDenials prints the lines of the log that tell of the denied server, of which there must be one.
func showDenials(log string) error {
	host, _, _ := strings.Cut(otherServer, ":")
	fmt.Print("\nWhat the container's monitor logged:\n\n")
	found := false
	for line := range strings.Lines(log) {
		if strings.Contains(line, host) {
			fmt.Print("    ", line)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("the log says nothing of the denied connect: %s", log)
	}
	return nil
}
