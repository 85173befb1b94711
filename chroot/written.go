package chroot

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// openWritten makes a file that is nowhere but in its own mount: a filesystem in memory that has room for it alone. Nothing of the host
// shows in /proc/self/mountinfo, and it is gone with the container.
func (s *Sources) openWritten(e Entry) (source, error) {
	o := source{mount: -1, inside: path.Base(e.Destination)}
	// The blocks are pages. An empty file needs none, but 0 would be no limit.
	blocks := len(e.Content)/os.Getpagesize() + 1
	mount, err := s.hold(newFilesystem("tmpfs", "tmpfs", []string{"mode=755", fmt.Sprintf("nr_blocks=%d", blocks), "nr_inodes=3"}, 0))
	if err != nil {
		return o, err
	}
	if err := writeFile(mount, o.inside, e.Content); err != nil {
		return o, err
	}
	if err := setAttributes(mount, unix.MountAttr{Attr_set: uint64(e.Set)}, false); err != nil {
		return o, err
	}
	file, err := s.hold(cloneTree(mount, o.inside, false, false))
	if errors.Is(err, unix.EINVAL) {
		// Before Linux 6.15 nothing can be cloned from a detached mount.
		o.mount = mount
		return o, nil
	}
	o.mount, o.inside = file, ""
	return o, err
}

// writeFile makes a file that everybody can read.
func writeFile(dir int, name, content string) error {
	const mode = 0o644
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.WriteString(content)
	if err == nil {
		err = file.Chmod(mode) // whatever the umask is
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// takeOut returns a file of a mount that the parent has made as a mount of its own. The filesystem is mounted for a moment, on top of
// everything.
func takeOut(p *launch.Program, mount launch.FD, names ...string) []launch.FD {
	p.MoveMountTo(mount, launch.CWD, "/")
	files := make([]launch.FD, len(names))
	for i, name := range names {
		files[i] = p.OpenTree(mount, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Result(name)
	}
	p.Fchdir(mount)
	p.Unmount(".")
	p.Chdir("/")
	return files
}
