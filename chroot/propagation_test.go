package chroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// sharedVolume is a directory of the host that is a shared mount, with a directory "sub" to mount on.
func (b *box) sharedVolume(name string) string {
	b.Helper()
	dir := b.host(name)
	b.must(mountTmpfs(b.TB.(*testing.T), dir, ""))
	b.must(unix.Mount("", dir, "", unix.MS_SHARED, ""))
	b.must(os.Mkdir(dir+"/sub", 0o755))
	b.must(os.Mkdir(dir+"/late", 0o755))
	return dir
}

func mounted(t testing.TB, at string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+at+" ")
}

// mountInside makes a mount in the container and one on the host, and tells which of them the other side sees.
func (b *box) mountInside(volume string) (onHost, inContainer bool) {
	b.Helper()
	b.hook = func(*launch.Child) { b.must(unix.Mount("tmpfs", volume+"/late", "tmpfs", 0, "")) }
	defer func() { _ = unix.Unmount(volume+"/late", unix.MNT_DETACH) }()
	// The container has its mounts while the host looks: the mount that has come through stays when the container is gone.
	out, _, err := b.run("mount -t tmpfs tmpfs /data/sub || echo refused; grep -c ' /data/late ' /proc/self/mountinfo")
	if err != nil {
		b.Fatal(err)
	}
	if strings.Contains(out, "refused") {
		b.Fatal(out)
	}
	onHost = mounted(b, volume+"/sub")
	_ = unix.Unmount(volume+"/sub", unix.MNT_DETACH)
	return onHost, strings.TrimSpace(out) == "1"
}

func TestPropagation(t *testing.T) {
	tests := []struct {
		root, options  string
		onHost, inside bool
	}{
		{"", "rbind", false, true},
		{"", "rbind rprivate", false, false},
		{"", "rbind rslave", false, true},
		{"", "rbind rshared", false, true},
		{"private", "rbind", false, false},
		{"rslave", "rbind rprivate", false, false},
		{"shared", "rbind rshared", true, true},
		{"shared", "rbind rprivate", false, false},
		{"rshared", "rbind rslave", false, true},
	}
	for _, test := range tests {
		t.Run(test.root+" "+test.options, func(t *testing.T) {
			b := newBox(t)
			volume := b.sharedVolume("volume")
			b.request.Spec.Linux.RootfsPropagation = test.root
			b.mount("/data", "", volume, strings.Fields(test.options)...)
			onHost, inside := b.mountInside(volume)
			if onHost != test.onHost || inside != test.inside {
				t.Errorf("on the host %v, in the container %v; want %v, %v", onHost, inside, test.onHost, test.inside)
			}
		})
	}
}

// The root of a user namespace does not mount anything on the host, whatever the spec shares.
func TestSharedWithUserNamespace(t *testing.T) {
	b := newBox(t)
	b.inUserNamespace()
	volume := b.sharedVolume("volume")
	b.request.Spec.Linux.RootfsPropagation = "rshared"
	b.mount("/data", "", volume, "rbind", "rshared")
	if onHost, inside := b.mountInside(volume); onHost || !inside {
		t.Errorf("on the host %v, in the container %v", onHost, inside)
	}
}

// The container's root is on a shared mount of the host, as it is with systemd: nothing of the start may be seen there.
func TestNothingLeaksFromStart(t *testing.T) {
	for _, root := range []string{"", "private", "shared", "rshared", "unbindable"} {
		t.Run(root, func(t *testing.T) {
			b := newBox(t)
			above := filepath.Dir(b.root)
			b.must(unix.Mount(above, above, "", unix.MS_BIND, ""))
			t.Cleanup(func() { _ = unix.Unmount(above, unix.MNT_DETACH) })
			b.must(unix.Mount("", above, "", unix.MS_SHARED, ""))
			b.request.Spec.Linux.RootfsPropagation = root
			b.request.Denied = []string{"/etc"}
			before, err := os.ReadFile("/proc/self/mountinfo")
			b.must(err)
			var during []byte
			b.hook = func(*launch.Child) {
				during, err = os.ReadFile("/proc/self/mountinfo")
				b.must(err)
			}
			b.want("mount -t tmpfs tmpfs /tmp && echo mounted; "+try("test -d /proc/self"), "mounted\nyes")
			after, err := os.ReadFile("/proc/self/mountinfo")
			b.must(err)
			if string(before) != string(during) || string(before) != string(after) {
				t.Errorf("mounts before\n%s\nduring\n%s\nafter\n%s", before, during, after)
			}
		})
	}
}

func TestRootPropagationInside(t *testing.T) {
	for root, want := range map[string]string{"": "", "private": "", "shared": "shared:", "rshared": "shared:", "unbindable": "unbindable"} {
		b := newBox(t)
		b.request.Spec.Linux.RootfsPropagation = root
		out, _, err := b.run(`while read id parent dev root at opts rest; do test $at = / && echo "${rest%%- *}"; done </proc/self/mountinfo`)
		if err != nil || (want == "") != (strings.TrimSpace(out) == "") || !strings.HasPrefix(out, want) {
			t.Errorf("%q: %q, %v", root, out, err)
		}
	}
}

// A hook that enters the mount namespace before the pivot sees the host's tree, with the container's root at the path it knows.
func TestHookSeesRootAtItsPath(t *testing.T) {
	b := newBox(t)
	b.file("marker", "", 0o644)
	b.hook = func(c *launch.Child) {
		p := launch.New()
		ns, err := os.Open("/proc/" + launch.Value(uint64(c.PID)).String() + "/ns/mnt")
		b.must(err)
		defer ns.Close()
		p.Setns(launch.Inherited(int(ns.Fd()), "mnt"), unix.CLONE_NEWNS, "CLONE_NEWNS")
		p.Unblock()
		p.Execve("/bin/busybox", launch.Strings([]string{"sh", "-c", "test -d " + b.root + "/proc/1 && test -e /usr/lib && busybox touch " + b.root + "/dev/from-hook"}, ""), launch.Strings([]string{"PATH=/bin"}, ""))
		hook, err := launch.Start(p, launch.Options{})
		b.must(err)
		defer hook.PIDFD.Close()
		defer hook.Close()
		if at, err := hook.Wait(); err != nil || at != launch.Done {
			b.Fatal(at, err)
		}
		if code := b.reap(hook); code != 0 {
			b.Errorf("the hook's exit status is %d", code)
		}
	}
	b.want(try("test -e /dev/from-hook"), "yes")
	if _, err := os.Lstat(filepath.Join(b.root, "dev/from-hook")); !os.IsNotExist(err) {
		t.Error(err)
	}
}
