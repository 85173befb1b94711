package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// writeFile writes a file of a root, with the mode it is given whatever the umask.
func writeFile(t testing.TB, root, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// shiftOwners adds offset to the owner and group of everything below root.
func shiftOwners(t testing.TB, root string, offset int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Lchown(path, int(owner.Uid)+offset, int(owner.Gid)+offset); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		return os.Chmod(path, info.Mode()) // chown takes set-uid bits away
	})
	if err != nil {
		t.Fatal(err)
	}
}

func credential(id uint32) *syscall.Credential { return &syscall.Credential{Uid: id, Gid: id} }
