package chroot

import (
	"testing"

	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a tmpfs on the test's host until the test is over.
func mountTmpfs(t testing.TB, at, option string) error {
	t.Helper()
	flags := uintptr(0)
	if option == "nosuid" {
		flags = unix.MS_NOSUID
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", flags, ""); err != nil {
		return err
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return nil
}
