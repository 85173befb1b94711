package oci

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
)

// passwd is where the container's users are.
const passwd = "/etc/passwd"

// home is the home directory of the process's user in a container that is not there yet: by the file that will be its /etc/passwd.
func home(b *bundle.Bundle) string {
	for _, env := range b.Spec.Process.Env {
		if len(env) > len("HOME=") && env[:len("HOME=")] == "HOME=" {
			return "" // nobody will ask
		}
	}
	uid := b.Spec.Process.User.UID
	for _, m := range b.Spec.Mounts {
		if m.Destination == passwd {
			if file, err := os.Open(m.Source); err == nil {
				defer file.Close()
				return monitor.HomeIn(file, uid)
			}
		}
	}
	fd, err := unix.Open(b.RootFS, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	defer unix.Close(fd)
	return monitor.Home(fd, uid)
}
