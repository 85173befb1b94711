package chroot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// coverAttributes are those of everything that is put over a path to hide it.
const coverAttributes = Attributes(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)

// emptyTmpfs are the options of a tmpfs that holds one empty file at most.
var emptyTmpfs = []string{"nr_blocks=1", "nr_inodes=2"}

// deniedObjects are what is put over a denied path, by what it is. Both are empty, read-only and of mode 000.
type deniedObjects struct{ directory, file int }

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
	if s.empty, err = s.hold(newFilesystem("tmpfs", "tmpfs", append([]string{"mode=755"}, emptyTmpfs...), coverAttributes)); err != nil {
		return err
	}
	if s.null, err = s.hold(cloneTree(unix.AT_FDCWD, "/dev/null", false, false)); err != nil {
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
	directory, err := s.hold(newFilesystem("tmpfs", "denied", append([]string{"mode=000"}, emptyTmpfs...), 0))
	if err != nil {
		return err
	}
	s.denied.directory = directory
	file, err := s.emptyFile(directory)
	if err != nil {
		return err
	}
	s.denied.file = file
	for _, mount := range []int{directory, file} {
		if err := setAttributes(mount, unix.MountAttr{Attr_set: uint64(coverAttributes)}, false); err != nil {
			return err
		}
	}
	return nil
}

// emptyFile is a detached mount of an empty file that no name leads to.
func (s *Sources) emptyFile(tmpfs int) (int, error) {
	const name = "empty"
	fd, err := unix.Openat(tmpfs, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("making an empty file: %w", err)
	}
	defer unix.Close(fd)
	mount, err := s.hold(cloneTree(fd, "", false, false))
	// The directory stands for denied directories: it must be empty. The file lives on in its mount.
	if err := unix.Unlinkat(tmpfs, name, 0); err != nil {
		return -1, fmt.Errorf("unlinkat: %w", err)
	}
	if !errors.Is(err, unix.EINVAL) {
		return mount, err
	}
	// Before Linux 6.15 nothing can be cloned from a detached mount. A nameless file of an attached one does as well.
	return s.namelessFile()
}

func (s *Sources) namelessFile() (int, error) {
	var errs []error
	for _, dir := range []string{"/run", "/dev/shm", os.TempDir()} {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			errs = append(errs, fmt.Errorf("making an empty file in %s: %w", dir, err))
			continue
		}
		defer unix.Close(fd)
		return s.hold(cloneTree(fd, "", false, false))
	}
	return -1, errors.Join(errs...)
}
