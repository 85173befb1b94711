package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sandlock/sandlock-runtime/integration/dockerd"
)

const (
	image   = "demo/busybox"
	profile = `[network]
allow = ["tcp://172.16.0.0/12:8080"]

[filesystem]
deny = ["/secrets"]
`
)

// throughDocker shows the same with a dockerd of its own, which it takes away again: the policy is a profile of the
// operator's, and the users' command lines say nothing of it but the runtime's name.
func throughDocker(runtimePath, dir, root string) error {
	fmt.Print(`
2. The same through Docker, the policy a profile of the operator's
------------------------------------------------------------------
`)
	if err := os.MkdirAll(filepath.Join(dir, "profiles"), 0o755); err != nil {
		return err
	}
	config := filepath.Join(dir, "config.toml")
	profiles := filepath.Join(dir, "profiles")
	for path, text := range map[string]string{
		config:                                fmt.Sprintf("[profiles]\ndirectory = %q\n", profiles),
		filepath.Join(profiles, "agent.toml"): profile,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("profiles/agent.toml:\n\n    %s\n\ndaemon.json registers two runtimes: \"sandlock\", and \"sandlock-agent\" with --profile agent.\n",
		strings.ReplaceAll(strings.TrimSpace(profile), "\n", "\n    "))
	daemon, err := dockerd.Start(dir, map[string]dockerd.Runtime{
		"sandlock":       {Path: runtimePath},
		"sandlock-agent": {Path: runtimePath, Args: []string{"--config", config, "--profile", "agent"}},
	})
	if err != nil {
		fmt.Printf("\nLeft out: no Docker daemon could be started here: %v\n", err)
		return nil
	}
	err = inDocker(daemon, root)
	if stopErr := daemon.Stop(); err == nil {
		err = stopErr
	}
	return err
}

func inDocker(daemon *dockerd.Daemon, root string) error {
	if err := daemon.Import(root, image); err != nil {
		return err
	}
	if _, err := docker(daemon, "run", "--detach", "--name", "server", "--runtime", "sandlock", image,
		"sh", "-c", "httpd -p 8080 -h /var/www; exec httpd -f -p 9090 -h /var/www"); err != nil {
		return err
	}
	ip, err := docker(daemon, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "server")
	if err != nil {
		return err
	}
	ip = strings.TrimSpace(ip)
	if _, err := docker(daemon, "run", "--rm", "--runtime", "sandlock", image, "sh", "-c",
		"until wget -q -O /dev/null http://"+ip+":9090/index.html; do usleep 50000; done"); err != nil {
		return err
	}
	tries := []step{
		{command: "wget -q -O - http://" + ip + ":8080/index.html"},
		{command: "wget -q -O - http://" + ip + ":9090/index.html", denied: true},
		{command: "cat /data/readme"},
		{command: "cat /secrets/key", denied: true},
	}
	free, err := docker(daemon, "run", "--rm", "--runtime", "sandlock", image, "sh", "-c", script(tries))
	if err != nil {
		return err
	}
	confined, err := docker(daemon, "run", "--rm", "--runtime", "sandlock-agent", image, "sh", "-c", script(tries))
	if err != nil {
		return err
	}
	fmt.Print("\n    $ docker run --rm --runtime sandlock-agent busybox ...\n")
	return report(tries, free, confined)
}

func docker(daemon *dockerd.Daemon, args ...string) (string, error) {
	out, err := daemon.Command(context.Background(), args...).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, exit.Stderr)
	}
	return string(out), err
}
