package chroot

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// openDevice prepares the node of a device that is bound, since the child may make none: the host's of the same name, where that is the device. A device
// may have another name on the host, and something else the name that it has in the container.
func (s *Sources) openDevice(d Device) error {
	fd := -1
	var err error
	if d.Bind {
		fd, err = s.hold(s.hostNode(d))
	}
	s.devices = append(s.devices, fd)
	return err
}

func (s *Sources) hostNode(d Device) (int, error) {
	fd, err := cloneTree(unix.AT_FDCWD, d.Path, false, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1, err
	}
	if err == nil {
		same, err := isNode(fd, d)
		if same {
			return fd, nil
		}
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
	made, err := makeNode(d)
	if errors.Is(err, unix.EPERM) {
		return -1, fmt.Errorf("the host has no node of %s %d:%d by this name, and there is no right to make one", d.Type, d.Major, d.Minor)
	}
	return made, err
}

// isNode tells whether fd is the node of a device.
func isNode(fd int, d Device) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("fstat: %w", err)
	}
	return uint64(st.Mode&unix.S_IFMT) == fileType(d.Type) && st.Rdev == unix.Mkdev(d.Major, d.Minor), nil
}

// makeNode makes a node in a file system of its own that nobody else sees, and returns a detached mount of the node. It belongs to the host's user
// namespace, as a node has to that is to be opened.
func makeNode(d Device) (int, error) {
	dir, err := newFilesystem("tmpfs", "tmpfs", []string{"mode=0755"}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	name := path.Base(d.Path)
	if err := unix.Mknodat(dir, name, uint32(fileType(d.Type)), int(unix.Mkdev(d.Major, d.Minor))); err != nil {
		return -1, fmt.Errorf("mknod: %w", err)
	}
	if err := unix.Fchownat(dir, name, int(d.HostUID), int(d.HostGID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, fmt.Errorf("chown: %w", err)
	}
	// Not with mknod: the umask is the caller's.
	if err := unix.Fchmodat(dir, name, d.Mode, 0); err != nil {
		return -1, fmt.Errorf("chmod: %w", err)
	}
	return cloneTree(dir, name, false, false)
}
