package testbundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Busybox fills dir, which is created if need be, with a root of one static busybox, a link for each of its applets,
// and the few files of /etc that a user name or a host name is looked up in.
func Busybox(dir string) error {
	binary, err := exec.LookPath("busybox")
	if err != nil {
		return errors.New("no busybox on PATH: install the package busybox-static")
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	applets, err := exec.Command(binary, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", binary, err)
	}
	for _, d := range []string{"bin", "dev", "etc", "home/user", "proc", "root", "sys", "tmp", "var/www"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), os.ModeSticky|0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), content, 0o755); err != nil {
		return err
	}
	for _, applet := range strings.Fields(string(applets)) {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd":         "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
		"etc/group":          "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
		"etc/hosts":          "127.0.0.1 localhost\n",
		"var/www/index.html": "served by busybox\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.Chown(filepath.Join(dir, "home/user"), 1000, 1000)
}

// Write stores spec as the config.json of the bundle in dir.
func Write(dir string, spec *specs.Spec) error {
	content, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), content, 0o644)
}
