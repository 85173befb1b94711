package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Dir is the open directory of one container. Everything in it is reached through its descriptor, so a Dir keeps meaning
// the same container when another takes the name. Its methods may be called concurrently, Close excepted.
type Dir struct {
	root *os.File // O_PATH, ROOT
	dir  *os.File // O_PATH, ROOT/ID
	id   string
}

// Create makes ROOT, as far as it is missing, and in it the directory of a new container, both for the owner alone (0700).
// Of several creates of one id one succeeds, the others get ErrExist.
func Create(root, id string) (*Dir, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	if root == "" {
		return nil, errors.New("root not set")
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("state root: %w", err)
	}
	r, err := openPath(unix.AT_FDCWD, root, 0)
	if err != nil {
		return nil, fmt.Errorf("state root: %w", err)
	}
	err = unix.Mkdirat(int(r.Fd()), id, 0o700)
	if err == nil {
		var d *Dir
		if d, err = openIn(r, id); err == nil {
			return d, nil
		}
	} else {
		err = &os.PathError{Op: "mkdir", Path: filepath.Join(root, id), Err: err}
	}
	_ = r.Close() // opened to find files by
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: %q", ErrExist, id)
	}
	return nil, err
}

// Open opens the directory of a container, half-made ones included. The error is ErrNotExist if there is none.
func Open(root, id string) (*Dir, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	r, err := openPath(unix.AT_FDCWD, root, 0)
	if err == nil {
		var d *Dir
		if d, err = openIn(r, id); err == nil {
			return d, nil
		}
		_ = r.Close() // opened to find files by
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotExist, id)
	}
	return nil, err
}

// openIn opens the container's directory; on success the Dir owns root.
func openIn(root *os.File, id string) (*Dir, error) {
	dir, err := openPath(int(root.Fd()), id, unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, dir: dir, id: id}, nil
}

func openPath(at int, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat(at, path, flags|unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ID is the container's id.
func (d *Dir) ID() string { return d.id }

// Path is ROOT/ID as it was given, for messages. Use the methods to reach what is in it.
func (d *Dir) Path() string { return filepath.Join(d.root.Name(), d.id) }

// Fd is the O_PATH descriptor of the directory. The Dir keeps owning it.
func (d *Dir) Fd() int { return int(d.dir.Fd()) }

// Owner is the uid that owns the directory, and so the container.
func (d *Dir) Owner() (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.Fd(), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: d.Path(), Err: err}
	}
	return int(st.Uid), nil
}

// Close closes the descriptors. The directory stays.
func (d *Dir) Close() error { return errors.Join(d.dir.Close(), d.root.Close()) }

// open opens a file in the directory, never through a symbolic link.
func (d *Dir) open(name string, flags int, perm uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(d.Fd(), name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, perm)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: filepath.Join(d.Path(), name), Err: err}
		}
		return os.NewFile(uintptr(fd), filepath.Join(d.Path(), name)), nil
	}
}

// ReadFile reads a whole file of the directory. A missing one is fs.ErrNotExist.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	f, err := d.open(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// temporaries makes the names of this process's unfinished files differ.
var temporaries atomic.Uint64

// WriteFile makes or replaces a file of the directory (mode 0600) in one step: a reader sees the old content or the new,
// never part of it, and a full disk leaves the old. See the package comment for why it does not sync.
func (d *Dir) WriteFile(name string, data []byte) error {
	tmp := "." + name + "." + strconv.Itoa(os.Getpid()) + "." + strconv.FormatUint(temporaries.Add(1), 10)
	f, err := d.open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		if err = unix.Renameat(d.Fd(), tmp, d.Fd(), name); err != nil {
			err = &os.LinkError{Op: "rename", Old: tmp, New: filepath.Join(d.Path(), name), Err: err}
		}
	}
	if err != nil {
		_ = unix.Unlinkat(d.Fd(), tmp, 0) // it may be the new file by now, and otherwise goes with the directory
	}
	return err
}

// AddFile makes a file of the directory (mode 0600) that nobody looks for yet: of a container that is being made. It is WriteFile without the
// second name.
func (d *Dir) AddFile(name string, data []byte) error {
	f, err := d.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// Clear removes what is in the directory but the record, without which nobody could find what else belongs to the container. What it cannot remove is left
// to Remove.
func (d *Dir) Clear() {
	list, err := d.open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer list.Close()
	names, err := list.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		if name != recordFile {
			_ = unix.Unlinkat(d.Fd(), name, 0) // then Remove says why it cannot
		}
	}
}

// Remove removes the directory with all that is in it, a half-made one too. Hold the lock: that is what keeps two
// removers, and a creator that reuses the name at once, out of each other's way. A directory that is gone is no error.
func (d *Dir) Remove() error {
	const tries = 100 // a creator that is losing its container may still add a file or two
	for try := 1; ; try++ {
		err := d.remove()
		if !errors.Is(err, unix.ENOTEMPTY) || try == tries {
			return err
		}
	}
}

func (d *Dir) remove() error {
	list, err := d.open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer list.Close()
	names, err := list.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed by another, and only we still have it open
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if unix.Unlinkat(d.Fd(), name, 0) == nil {
			continue
		}
		if err := os.RemoveAll(d.inProc(name)); err != nil {
			return fmt.Errorf("remove %s: %w", filepath.Join(d.Path(), name), bare(err))
		}
	}
	named, err := d.named()
	if err != nil || !named {
		return err
	}
	if err := unix.Unlinkat(int(d.root.Fd()), d.id, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: d.Path(), Err: err}
	}
	return nil
}

// named tells whether ROOT/ID still means this directory: it was not removed, nor replaced since.
func (d *Dir) named() (bool, error) {
	var named, ours unix.Stat_t
	err := unix.Fstatat(int(d.root.Fd()), d.id, &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err == nil {
		err = unix.Fstat(d.Fd(), &ours)
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: d.Path(), Err: err}
	}
	return named.Ino == ours.Ino && named.Dev == ours.Dev, nil
}

// inProc is a path to a file of the directory that neither depends on the length of ROOT nor on what ROOT/ID now means.
func (d *Dir) inProc(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(d.Fd()) + "/" + name
}

// bare takes the /proc path off an error, which says nothing to a reader.
func bare(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// List names the containers under root, half-made ones included, in order. What is no container's directory is passed
// over. The error is fs.ErrNotExist where root itself is missing.
func List(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && ValidateID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
