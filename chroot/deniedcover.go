package chroot

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cover puts empty objects over target, wherever in the container's mount namespace it can be seen. It returns them, and what else is to be known by
// inode: the tops of mounts of what is beneath a directory.
func (d *DeniedPaths) cover(target int, directory bool) (found pinned, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread, which is in another mount namespace, ends with the goroutine
		done <- func() error {
			object, err := newCover(directory)
			if err != nil {
				return err
			}
			defer unix.Close(object)
			if err := unix.Setns(d.config.MountNamespace, unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("entering the mount namespace: %w", err)
			}
			return coverAll(d.proc, object, target, directory, &found)
		}()
	}()
	if err := <-done; err != nil {
		return found, fmt.Errorf("covering it: %w", err)
	}
	return found, nil
}

// newCover makes an empty object, detached, on a thread that leaves the mount namespace afterwards.
func newCover(directory bool) (int, error) {
	// Whatever is mounted here is seen by this thread alone.
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("making mounts private: %w", err)
	}
	mount, err := newFilesystem("tmpfs", "denied", []string{"mode=711", "nr_blocks=1", "nr_inodes=4"}, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(mount)
	const name = "denied"
	if directory {
		err = unix.Mkdirat(mount, name, 0)
	} else {
		var fd int
		if fd, err = unix.Openat(mount, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("making an empty object: %w", err)
	}
	if err := setAttributes(mount, unix.MountAttr{Attr_set: uint64(coverAttributes)}, false); err != nil {
		return -1, err
	}
	// Before Linux 6.15 nothing can be cloned from a detached mount.
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("move_mount: %w", err)
	}
	return cloneTree(mount, name, false, false)
}

// errShared is about a cover that others would see.
var errShared = errors.New("it is in a mount that is shared with others, where a cover would be seen")

// coverAll covers target, which is denied, at every path that leads to it in this thread's mount namespace.
func coverAll(proc, object, target int, directory bool, found *pinned) error {
	mounts, err := readMounts(proc)
	if err != nil {
		return err
	}
	here, err := mounts.locate(proc, target)
	if err != nil {
		return err
	}
	covered := []int{target}
	var places []int
	defer func() {
		for _, fd := range places {
			unix.Close(fd)
		}
	}()
	for _, m := range mounts {
		if m.device != here.device || m.id == here.id {
			continue
		}
		if _, beneath := beneathPath(here.root, m.root); beneath && directory {
			// The mount shows only what is denied, and its top has another way up.
			fd, err := m.open("")
			if err != nil {
				continue // another mount hides it
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				unix.Close(fd)
				return err
			}
			found.add(fd, &st)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				if m.shared {
					return errShared
				}
				covered = append(covered, fd) // which is found's to close
			}
			continue
		}
		rest, above := beneathPath(m.root, here.root)
		if !above {
			continue
		}
		fd, err := m.open(rest)
		if err != nil {
			continue // another mount hides it
		}
		if same, err := sameObject(fd, target); err != nil || !same {
			unix.Close(fd)
			continue
		}
		places = append(places, fd)
		if m.shared {
			return errShared
		}
	}
	if here.shared {
		return errShared
	}
	for i, place := range append(covered, places...) {
		copied, err := cloneTree(object, "", false, false)
		if errors.Is(err, unix.EINVAL) && i == 0 {
			copied, err = unix.FcntlInt(uintptr(object), unix.F_DUPFD_CLOEXEC, 0)
		}
		if err == nil {
			var st unix.Stat_t
			if err = unix.Fstat(copied, &st); err == nil {
				err = unix.MoveMount(copied, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
			}
			if err == nil {
				found.add(copied, &st)
				found.covers = append(found.covers, found.ids[len(found.ids)-1])
			} else {
				unix.Close(copied)
			}
		}
		if err != nil {
			return fmt.Errorf("mounting an empty object: %w", err)
		}
	}
	return nil
}

func sameObject(a, b int) (bool, error) {
	var x, y unix.Stat_t
	if err := unix.Fstat(a, &x); err != nil {
		return false, err
	}
	err := unix.Fstat(b, &y)
	return x.Dev == y.Dev && x.Ino == y.Ino, err
}

// location is where something is, in a filesystem rather than in the tree of mounts.
type location struct {
	mountEntry
	root string // path within the filesystem
}

// locate finds out where an object is.
func (list mountList) locate(proc, fd int) (location, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return location{}, fmt.Errorf("statx: %w", err)
	}
	i := slices.IndexFunc(list, func(m mountEntry) bool { return m.id == st.Mnt_id })
	if i < 0 {
		return location{}, errors.New("it is in no mount of the container")
	}
	name, err := descriptorName(proc, fd)
	if err != nil {
		return location{}, err
	}
	rest, ok := beneathPath(list[i].point, name)
	if !ok {
		return location{}, fmt.Errorf("it is at %s, which is not in its mount", name)
	}
	return location{list[i], strings.TrimSuffix(list[i].root, "/") + "/" + rest}, nil
}

// beneathPath tells whether path is above or beneath it, and returns the way from above.
func beneathPath(above, path string) (rest string, ok bool) {
	above = strings.TrimRight(above, "/")
	path = strings.TrimRight(path, "/")
	if path == above {
		return "", true
	}
	return strings.CutPrefix(path, above+"/")
}
