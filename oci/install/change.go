package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/sys/unix"
)

// backupSuffix is what is appended to the name of a file for the copy of it as it was before the first change.
const backupSuffix = ".before-sandlock"

// maxFile bounds what is read of a configuration, in bytes.
const maxFile = 4 << 20

// Change is what becomes of a configuration file. Nothing has happened yet.
type Change struct {
	Path   string
	Before []byte // nil: there is no file
	After  []byte // nil: there is to be none
	// Backup is where the file as it was before is kept: written by a change that is the first, removed by one that takes all back.
	Backup        string
	keep, restore bool
	mode          fs.FileMode
}

// Install plans the registration of r in the file at path.
func Install(e Editor, path string, r Runtime) (*Change, error) {
	c, backup, err := read(path)
	if err != nil {
		return nil, err
	}
	if c.After, err = e.Install(c.Before, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.keep = c.Before != nil && backup == nil && !e.Registered(c.Before)
	return c, nil
}

// Uninstall plans to take the registration of name in the file at path back. If nothing else has been changed since it was made, the file becomes
// what it was before, to the letter.
func Uninstall(e Editor, path, name string) (*Change, error) {
	c, backup, err := read(path)
	if err != nil || c.Before == nil {
		return c, err
	}
	if c.After, err = e.Uninstall(c.Before, name); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case backup == nil && e.Blank(c.After):
		c.After = nil // there was no file
	case backup != nil && e.Same(c.After, backup):
		c.After, c.restore = backup, true
	}
	return c, nil
}

func read(path string) (c *Change, backup []byte, err error) {
	// What a link leads to is changed, not the link.
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		resolved, err = path, nil
	}
	if err != nil {
		return nil, nil, err
	}
	c = &Change{Path: resolved, Backup: resolved + backupSuffix, mode: 0o644}
	if c.Before, err = readFile(resolved); err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(resolved); err == nil {
		c.mode = info.Mode().Perm()
	}
	backup, err = readFile(c.Backup)
	return c, backup, err
}

// readFile returns what is in a regular file, nil if it is not there.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if text == nil && err == nil {
		text = []byte{}
	}
	return text, err
}

// None tells whether there is nothing to change.
func (c *Change) None() bool {
	return (c.Before == nil) == (c.After == nil) && bytes.Equal(c.Before, c.After)
}

// Diff returns the change in the unified format of diff(1).
func (c *Change) Diff() []byte {
	old, new := c.Path, c.Path
	if c.Before == nil {
		old = "/dev/null"
	}
	if c.After == nil {
		new = "/dev/null"
	}
	return diff.Diff(old, c.Before, new, c.After)
}

// Apply makes the change.
func (c *Change) Apply() error {
	if c.None() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
		return err
	}
	if c.keep {
		if err := replace(c.Backup, c.Before, c.mode); err != nil {
			return err
		}
	}
	if c.After == nil {
		if err := os.Remove(c.Path); err != nil {
			return err
		}
	} else if err := replace(c.Path, c.After, c.mode); err != nil {
		return err
	}
	if !c.restore {
		return nil
	}
	return os.Remove(c.Backup)
}

// replace gives a file other content as a whole: it is there, old or new, at any moment.
func replace(path string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // once renamed it has no such name
	owner := func() error {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return nil // there is none yet
		}
		return file.Chown(int(st.Uid), int(st.Gid))
	}
	write := func() error { _, err := file.Write(content); return err }
	for _, step := range []func() error{write, owner, func() error { return file.Chmod(mode) }, file.Sync, file.Close} {
		if err := step(); err != nil {
			file.Close()
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.Rename(file.Name(), path)
}
