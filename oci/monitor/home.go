package monitor

import (
	"os"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// maxPasswd bounds what is read of a container's /etc/passwd, in bytes.
const maxPasswd = 1 << 20

// Home is the home directory of a user by the container's own /etc/passwd, or "/". root is a descriptor of the container's
// root; the file is not trusted.
func Home(root int, uid uint32) string {
	fd, err := launch.OpenInRoot(root, "etc/passwd", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "/"
	}
	file := os.NewFile(uintptr(fd), "passwd")
	defer file.Close()
	return HomeIn(file, uid)
}

// HomeIn is the home directory of a user by a file like /etc/passwd, or "/".
func HomeIn(file *os.File, uid uint32) string {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxPasswd {
		return "/"
	}
	entries, err := user.ParsePasswdFilter(file, func(u user.User) bool { return uint32(u.Uid) == uid })
	if err != nil || len(entries) == 0 || entries[0].Home == "" {
		return "/"
	}
	return entries[0].Home
}
