package integration

import (
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ids are mappings of one range.
func ids(container, host, size uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: container, HostID: host, Size: size}}
}

// idMapped adds a bind mount at /m with options, and mappings of its own that lead from 0 to first.
func (b *bundle) idMapped(source string, first uint32, options ...string) {
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
		Destination: "/m", Type: "bind", Source: source, Options: options, UIDMappings: ids(0, first, 1000), GIDMappings: ids(0, first, 1000),
	})
}

// Config.md, mounts: uidMappings, gidMappings, "idmap" and "ridmap".
func TestIDMappedMounts(t *testing.T) {
	const list = "stat -c '%u %g' /m/file /m/below/file"
	probeAll(t, []probe{
		{name: "no mapping", change: func(t *testing.T, b *bundle) { b.mount("/m", "bind", nestedMount(t), "rbind") }, script: list, want: "0 0\n0 0\n"},
		{name: "mappings of its own", change: func(t *testing.T, b *bundle) { b.idMapped(nestedMount(t), 5000, "rbind") }, script: list, want: "5000 5000\n0 0\n"},
		{name: "idmap", change: func(t *testing.T, b *bundle) { b.idMapped(nestedMount(t), 5000, "rbind", "idmap") }, script: list, want: "5000 5000\n0 0\n"},
		{name: "ridmap", change: func(t *testing.T, b *bundle) { b.idMapped(nestedMount(t), 5000, "rbind", "ridmap") }, script: list, want: "5000 5000\n5000 5000\n"},
		{name: "two mounts with the same mappings", change: func(t *testing.T, b *bundle) {
			b.idMapped(nestedMount(t), 5000, "rbind")
			b.idMapped(hostDir(t), 5000, "bind")
			b.spec.Mounts[len(b.spec.Mounts)-1].Destination = "/n"
		}, script: "stat -c %u /m/file /n/file", want: "5000\n5000\n"},
		{name: "files made through it have the source's owner", change: func(t *testing.T, b *bundle) {
			dir := hostDir(t)
			b.idMapped(dir, 5000, "bind")
			b.spec.Process.User = specs.User{UID: 5000, GID: 5000}
			t.Cleanup(func() {
				if owner := ownerOf(t, filepath.Join(dir, "new")); owner != 0 {
					t.Errorf("a file of user 5000 belongs to %d on the host", owner)
				}
			})
		}, script: "echo x > /m/new && stat -c '%u %g' /m/new", want: "5000 5000\n"},
		{name: "whom the mapping lacks may not write", change: func(t *testing.T, b *bundle) {
			b.idMapped(hostDir(t), 5000, "bind")
		}, script: "echo x 2>/dev/null > /m/new || echo refused", want: "refused\n"},
		{name: "the container's own user namespace", change: func(t *testing.T, b *bundle) {
			userNamespace(t, b)
			b.mount("/m", "bind", nestedMount(t), "rbind", "idmap")
		}, script: list, want: "0 0\n65534 65534\n"},
		{name: "the container's own user namespace, recursively", change: func(t *testing.T, b *bundle) {
			userNamespace(t, b)
			b.mount("/m", "bind", nestedMount(t), "rbind", "ridmap")
		}, script: list, want: "0 0\n0 0\n"},
		{name: "a user namespace and other mappings", change: func(t *testing.T, b *bundle) {
			userNamespace(t, b)
			b.idMapped(nestedMount(t), 100007, "rbind", "ridmap")
		}, script: list, want: "7 7\n7 7\n"},
	})
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid
}

func TestRefusedIDMappedMounts(t *testing.T) {
	for name, row := range map[string]struct {
		change func(b *bundle)
		word   string
	}{
		"without mappings": {func(b *bundle) { b.mount("/m", "bind", "/tmp", "bind", "idmap") }, "mappings"},
		"of a tmpfs":       {func(b *bundle) { b.mount("/m", "tmpfs", "tmpfs", "idmap") }, "bind"},
		"where the file system cannot": {func(b *bundle) {
			b.idMapped("/proc/sys", 5000, "bind")
		}, "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, "true")
			row.change(b)
			got := r.runBundle(t, b)
			if got.code == 0 || !strings.Contains(got.stderr, row.word) {
				t.Error(got)
			}
		})
	}
}
