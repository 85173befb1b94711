package testbundle

import (
	"errors"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Debian fills dir, which is created if need be, with a root whose programs are those of the machine itself: its /usr is to
// be mounted into it, see [MountUsr], and its /bin, /sbin and /lib are links to there.
func Debian(dir string) error {
	for _, d := range []string{"dev", "etc", "home/user", "proc", "root", "run", "sys", "tmp", "usr", "var/lib", "var/log", "var/tmp", "var/www"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), os.ModeSticky|0o777); err != nil {
		return err
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":         "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
		"etc/hosts":         "127.0.0.1 localhost\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cache, err := os.ReadFile("/etc/ld.so.cache")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/ld.so.cache"), cache, 0o644); err != nil {
		return err
	}
	return os.Chown(filepath.Join(dir, "home/user"), 1000, 1000)
}

// MountUsr returns the mount that a root made by [Debian] needs.
func MountUsr() specs.Mount {
	return specs.Mount{Destination: "/usr", Type: "bind", Source: "/usr", Options: []string{"rbind", "ro"}}
}
