package chroot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// coverAttributes are those of everything that is put over a path to hide it.
const coverAttributes = Attributes(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)

// deniedObjects are what is put over a denied path, by what it is. Both are empty, read-only and of mode 000.
type deniedObjects struct {
	directory, file int
	// both is the mount that has them as "directory" and "file", where the parent cannot take them out of it; see [Sources.takeDenied].
	both int
}

func (s *Sources) openCovers() error {
	if len(s.m.Masked) > 0 {
		if err := s.openMasks(); err != nil {
			return fmt.Errorf("linux.maskedPaths: %w", err)
		}
	}
	if len(s.m.Denied) > 0 {
		if err := s.openDenied(); err != nil {
			return fmt.Errorf("filesystem.deny: %w", err)
		}
	}
	return nil
}

func (s *Sources) openMasks() error {
	var err error
	if s.empty, err = s.hold(newFilesystem("tmpfs", "tmpfs", []string{"mode=755", "nr_blocks=1", "nr_inodes=2"}, coverAttributes)); err != nil {
		return err
	}
	if s.null, err = s.hold(cloneTree(unix.AT_FDCWD, "/dev/null", false, false)); err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	// It is the host's: the container must not change its mode, owner or attributes. The device itself can be read and written on a read-only mount.
	const attributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	if err := setAttributes(s.null, unix.MountAttr{Attr_set: attributes}, false); err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	return mustBeNull(s.null)
}

func mustBeNull(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("/dev/null: fstat: %w", err)
	}
	null := defaultDevices[0]
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(null.Major, null.Minor) {
		return errors.New("the host's /dev/null is not the null device")
	}
	return nil
}

func (s *Sources) openDenied() error {
	both, err := s.hold(newFilesystem("tmpfs", "denied", []string{"mode=711", "nr_blocks=1", "nr_inodes=4"}, 0))
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(both, "directory", 0); err != nil {
		return fmt.Errorf("making an empty directory: %w", err)
	}
	file, err := unix.Openat(both, "file", unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making an empty file: %w", err)
	}
	unix.Close(file)
	if err := setAttributes(both, unix.MountAttr{Attr_set: uint64(coverAttributes)}, false); err != nil {
		return err
	}
	s.denied.directory, err = s.hold(cloneTree(both, "directory", false, false))
	if err == nil {
		s.denied.file, err = s.hold(cloneTree(both, "file", false, false))
	}
	if errors.Is(err, unix.EINVAL) {
		// Before Linux 6.15 nothing can be cloned from a detached mount.
		s.denied, err = deniedObjects{-1, -1, both}, nil
	}
	return err
}
