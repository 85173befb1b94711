package chroot

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

const (
	// maxDeniedEntries is how many entries a directory that is denied may have, in all directories beneath it.
	maxDeniedEntries = 1 << 20
	// maxOtherNames is how many of them may be files with several names. Each is kept open.
	maxOtherNames = 1 << 12
)

// pinned are objects by inode, and descriptors that keep others from getting their inodes.
type pinned struct {
	ids    []onbehalf.Inode
	pins   []int            // of the same objects
	covers []onbehalf.Inode // those of ids that are empty objects, mounted over others
}

// add takes the descriptor over.
func (p *pinned) add(fd int, st *unix.Stat_t) {
	p.ids = append(p.ids, onbehalf.Inode{Dev: st.Dev, Ino: st.Ino})
	p.pins = append(p.pins, fd)
}

// otherNames finds the files beneath a directory that have further names, which may be elsewhere.
func otherNames(directory int) (found pinned, err error) {
	entries := 0
	var walk func(at int) error
	walk = func(at int) error {
		fd, err := unix.Openat(at, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), strconv.Itoa(fd))
		defer file.Close()
		for {
			names, err := file.Readdirnames(1000)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if entries += len(names); entries > maxDeniedEntries {
				return fmt.Errorf("it has more than %d entries", maxDeniedEntries)
			}
			for _, name := range names {
				if err := found.look(fd, name, walk); err != nil {
					return err
				}
			}
		}
	}
	if err := walk(directory); err != nil {
		for _, fd := range found.pins {
			unix.Close(fd)
		}
		return pinned{}, fmt.Errorf("looking for hard links: %w", err)
	}
	return found, nil
}

// look looks at an entry; directories are walked.
func (p *pinned) look(dir int, name string, walk func(int) error) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(fd)
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return walk(fd)
	}
	if st.Nlink < 2 {
		return nil
	}
	if len(p.ids) == maxOtherNames {
		return fmt.Errorf("more than %d of its files have several names", maxOtherNames)
	}
	keep = true
	p.add(fd, &st)
	return nil
}
