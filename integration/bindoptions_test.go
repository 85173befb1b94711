package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A bind that names an attribute has no others of its source's, as with mount(8); one that names none has its source's. Both runtimes are asked about
// each list of options, so that neither's own idea of them counts.
func TestOwnBindOptionsAreThoseOfRunc(t *testing.T) {
	control := controlPath(t)
	dir := shortTempDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	lists := []string{
		"bind", "rbind", "rbind rprivate", "rbind rw", "rbind ro", "bind rprivate rw", "rbind nodev", "rbind suid", "rbind exec dev suid", "rbind noatime", "bind relatime",
		"bind strictatime nodiratime", "rbind rro", "rbind rnoexec rw", "rbind rprivate ro nosuid", "rbind nosymfollow",
	}
	attributes := func(path string) []string {
		t.Helper()
		b := newBundle(t, "/bin/sh", "-c", fmt.Sprintf(`for i in $(seq 0 %d); do grep " /bind$i " /proc/self/mountinfo | cut -d' ' -f6; done`, len(lists)-1))
		for i, options := range lists {
			b.mount(fmt.Sprintf("/bind%d", i), "bind", source, strings.Fields(options)...)
		}
		r := newRuntime(t)
		r.path = path
		res := r.runBundle(t, b)
		if res.code != 0 || strings.Count(res.stdout, "\n") != len(lists) {
			t.Fatalf("%s: %v", path, res)
		}
		return strings.Split(strings.TrimSpace(res.stdout), "\n")
	}
	theirs, ours := attributes(control), attributes(runtimePath)
	for i, options := range lists {
		if ours[i] != theirs[i] {
			t.Errorf("%s: got %s, with runc %s", options, ours[i], theirs[i])
		}
	}
	for i, want := range map[int]string{0: "rw,nosuid,nodev,noexec,relatime", 3: "rw,relatime"} {
		if ours[i] != want {
			t.Errorf("%s: got %s, want %s", lists[i], ours[i], want)
		}
	}
}

// An ordinary user cannot take from a mount of the host's what keeps it from being dangerous. A bind of it can still be asked for with other attributes, and keeps those.
func TestOwnRootlessBindKeepsWhatIsLocked(t *testing.T) {
	u := newUser(t, false, "/bin/sh", "-c", "grep ' /bind ' /proc/self/mountinfo | cut -d' ' -f6")
	dir := filepath.Join(u.home, "source")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	u.spec.Mounts = append(u.spec.Mounts, specs.Mount{Destination: "/bind", Type: "bind", Source: dir, Options: []string{"rbind", "noexec", "rw"}})
	if res := u.runBundle(t); res.code != 0 || res.stdout != "rw,nosuid,nodev,noexec,relatime\n" {
		t.Errorf("run: %v", res)
	}
}
