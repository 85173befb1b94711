package userns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Own says whether path names the user namespace that this process is in.
func Own(path string) (bool, error) {
	own, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(own, named), nil
}

// Enclosing is the user namespace from which a process without privileges can make or join a container in the one that path names: the one above it, as this package has made
// it, or the namespace itself, where it lies right below this process's own. It is nil where path names this process's own. That this process is allowed into it is not said.
func Enclosing(path string) (*os.File, error) {
	if same, err := Own(path); err != nil || same {
		return nil, err
	}
	named, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.IoctlRetInt(int(named.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		named.Close()
		return nil, fmt.Errorf("%s: ioctl(NS_GET_PARENT): %w", path, err)
	}
	above := os.NewFile(uintptr(fd), "user namespace")
	own, err := os.Stat("/proc/self/ns/user")
	if err == nil {
		var there os.FileInfo
		if there, err = above.Stat(); err == nil && os.SameFile(own, there) {
			above.Close()
			return named, nil
		}
	}
	named.Close()
	if err != nil {
		above.Close()
		return nil, err
	}
	return above, nil
}
