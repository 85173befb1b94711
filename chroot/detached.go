package chroot

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// cloneTree is a detached copy of the mount at path beneath dir, with the mounts beneath it if recursive. It shares nothing with the host
// in the direction of the host unless keepPeers.
func cloneTree(dir int, path string, recursive, keepPeers bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(dir, path, flags)
	for err == unix.EINTR {
		fd, err = unix.OpenTree(dir, path, flags)
	}
	if err != nil {
		return -1, err
	}
	if keepPeers {
		return fd, nil
	}
	if err := setPropagation(fd, Propagation{unix.MS_SLAVE, true}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setPropagation(mount int, p Propagation) error {
	return setAttributes(mount, unix.MountAttr{Propagation: p.Type}, p.Recursive)
}

func setAttributes(mount int, a unix.MountAttr, recursive bool) error {
	if a == (unix.MountAttr{}) {
		return nil
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(mount, "", flags, &a); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// newFilesystem is fsopen, fsconfig and fsmount in the parent.
func newFilesystem(kind, source string, data []string, attributes Attributes) (int, error) {
	context, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", kind, err)
	}
	defer unix.Close(context)
	if source != "" {
		data = append([]string{"source=" + source}, data...)
	}
	for _, d := range data {
		if key, v, ok := strings.Cut(d, "="); ok {
			err = unix.FsconfigSetString(context, key, v)
		} else {
			err = unix.FsconfigSetFlag(context, d)
		}
		if err != nil {
			return -1, fmt.Errorf("option %q of %s: %w", d, kind, err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return -1, fmt.Errorf("making %s: %w", kind, err)
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, int(attributes))
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", kind, err)
	}
	return fd, nil
}

func isDirectory(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
