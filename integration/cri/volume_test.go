package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sharedDir is a mount point of its own, shared, as a node's root is.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mountInside mounts a tmpfs at inner with a file new in it.
func mountInside(t *testing.T, dir string) {
	t.Helper()
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inner, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestVolumes(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		dir := sharedDir(t)
		mount := func(to string, readOnly bool, propagation cri.MountPropagation) *cri.Mount {
			return &cri.Mount{HostPath: dir, ContainerPath: to, Readonly: readOnly, Propagation: propagation}
		}
		p := runPod(t, handler, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
		c := p.sleeper("c", func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Privileged = true // Bidirectional is for those
			c.Mounts = []*cri.Mount{
				mount("/private", false, cri.MountPropagation_PROPAGATION_PRIVATE),
				mount("/read", true, cri.MountPropagation_PROPAGATION_PRIVATE),
				mount("/slave", false, cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER),
				mount("/shared", false, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL),
			}
		})
		c.says("touch /private/file && echo written; touch /read/x 2>/dev/null || echo refused; ls /slave", "written\nrefused\nfile\n")
		// From the host inwards.
		mountInside(t, dir)
		c.says("ls /private/inner; echo; ls /slave/inner; echo; ls /shared/inner", "\nnew\n\nnew\n")
		// From the container outwards.
		c.says("mkdir /shared/outer && mount -t tmpfs x /shared/outer && touch /shared/outer/made && echo made; mkdir /slave/kept && mount -t tmpfs x /slave/kept && echo mounted", "made\nmounted\n")
		if _, err := os.Stat(filepath.Join(dir, "outer/made")); err != nil {
			t.Errorf("a bidirectional mount is not seen outside: %v", err)
		}
		mounts := readText(t, "/proc/self/mountinfo")
		if strings.Contains(mounts, filepath.Join(dir, "kept")) {
			t.Error("a slave's mount is seen outside")
		}
	})
}

func TestVolumesOfAPodWithUserNamespace(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		dir := sharedDir(t)
		for i, name := range []string{"of-root", "of-user"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(filepath.Join(dir, name), 1000*i, 1000*i); err != nil {
				t.Fatal(err)
			}
		}
		mount := func(to string, readOnly bool, propagation cri.MountPropagation) *cri.Mount {
			return &cri.Mount{HostPath: dir, ContainerPath: to, Readonly: readOnly, Propagation: propagation}
		}
		c := runPod(t, handler, withUserNamespace).sleeper("c", func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
			c.Mounts = []*cri.Mount{
				mount("/private", false, cri.MountPropagation_PROPAGATION_PRIVATE),
				mount("/read", true, cri.MountPropagation_PROPAGATION_PRIVATE),
				mount("/slave", false, cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER),
				mount("/shared", false, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL),
				{HostPath: dir, ContainerPath: "/unmapped", UidMappings: []*cri.IDMapping{}},
			}
		})
		for _, at := range []string{"/private", "/read", "/slave", "/shared"} {
			c.says("cd "+at+" && stat -c '%u %g' of-root of-user && cat of-root", "0 0\n1000 1000\ntext")
		}
		c.says("cd /unmapped && stat -c '%u %g' of-root && cat of-root 2>/dev/null || echo refused", "65534 65534\nrefused\n")
		c.says("touch /private/made && chown 7:8 /private/made && stat -c '%u %g' /private/made", "7 8\n")
		if got := owners(t, filepath.Join(dir, "made")); got != "7 8" {
			t.Errorf("the file belongs to %s on the node", got)
		}
		c.says("touch /read/x 2>/dev/null || echo refused", "refused\n")
		mountInside(t, dir)
		c.says("ls /private/inner; echo; ls /slave/inner; echo; ls /shared/inner", "\nnew\n\nnew\n")
		c.says("for at in /shared /slave; do mkdir $at/outer; mount -t tmpfs none $at/outer && touch $at/outer/made && ls $at/outer; rm $at/outer/made; umount $at/outer; rmdir $at/outer; done", "made\nmade\n")
		c.says("mkdir /shared/kept && mount -t tmpfs none /shared/kept && echo mounted", "mounted\n")
		if strings.Contains(readText(t, "/proc/self/mountinfo"), filepath.Join(dir, "kept")) {
			t.Error("a mount that a pod's root has made is seen outside")
		}
	})
}

// A read-only mount leaves what is mounted beneath as it is, a recursive one does not.
func TestRecursiveReadOnlyVolumes(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		dir := sharedDir(t)
		mountInside(t, dir)
		if err := os.Chmod(filepath.Join(dir, "inner"), 0o777); err != nil {
			t.Fatal(err)
		}
		c := run(t, nil).sleeper("c", func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{
				{HostPath: dir, ContainerPath: "/ro", Readonly: true},
				{HostPath: dir, ContainerPath: "/rro", Readonly: true, RecursiveReadOnly: true},
			}
		})
		c.says("cat /rro/inner/new && touch /ro/inner/x && echo written; for f in /ro/y /rro/y /rro/inner/y; do touch $f 2>/dev/null || echo refused; done", "written\nrefused\nrefused\nrefused\n")
	})
}

// A file of the node's, as the kubelet mounts /etc/hosts and the file for a container's last words.
func TestFilesAsVolumes(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		dir := t.TempDir()
		hosts, words := filepath.Join(dir, "hosts"), filepath.Join(dir, "words")
		if err := os.WriteFile(hosts, []byte("10.1.2.3 somebody\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(words, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(words, 0o666); err != nil {
			t.Fatal(err)
		}
		c := run(t, nil).create("c", func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: hosts, ContainerPath: "/etc/hosts"}, {HostPath: words, ContainerPath: "/dev/termination-log"}}
		}, "/bin/sh", "-c", "grep somebody /etc/hosts; printf 'the end' > /dev/termination-log; exit 4").start()
		if s := c.wait(); s.ExitCode != 4 {
			t.Errorf("%v", s)
		}
		waitForText(t, c.log, "stdout F 10.1.2.3 somebody\n")
		if got := readText(t, words); got != "the end" {
			t.Errorf("last words %q", got)
		}
	})
}

// What containerd itself mounts is the pod's: containers see what others write there.
func TestFilesOfAPod(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		a, b := p.sleeper("a", nil), p.sleeper("b", nil)
		a.says("echo 10.1.2.3 somebody >> /etc/hosts && echo x > /dev/shm/file && cat /etc/hostname", "pod\n")
		b.says("tail -n 1 /etc/hosts; cat /dev/shm/file; stat -f -c %T /dev/shm", "10.1.2.3 somebody\nx\ntmpfs\n")
		other := run(t, nil).sleeper("other", nil)
		other.says("grep -c somebody /etc/hosts; ls /dev/shm", "0\n")
	})
}

// An emptyDir in memory, shared by two containers of different users.
func TestVolumeInMemory(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		dir := sharedDir(t)
		mountInside(t, dir)
		inner := filepath.Join(dir, "inner")
		if err := os.Chmod(inner, 0o777); err != nil {
			t.Fatal(err)
		}
		p := run(t, nil)
		as := func(uid int64) *container {
			return p.sleeper(fmt.Sprint("as-", uid), func(c *cri.ContainerConfig) {
				s := c.Linux.SecurityContext
				s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: uid}, &cri.Int64Value{Value: 2000}
				c.Mounts = []*cri.Mount{{HostPath: inner, ContainerPath: "/cache"}}
			})
		}
		as(1000).says("echo text > /cache/made && stat -c %u /cache/made /cache/new", "1000\n0\n")
		as(1001).says("cat /cache/made; stat -c %u /cache/made; echo 2>/dev/null >> /cache/made || echo refused", "text\n1000\nrefused\n")
		if got := owners(t, filepath.Join(inner, "made")); got != "1000 2000" {
			t.Errorf("the file belongs to %s on the node", got)
		}
	})
}

// An image as a volume, and a directory of it.
func TestImageVolumes(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).sleeper("c", func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{
				{Image: &cri.ImageSpec{Image: image}, ContainerPath: "/image", Readonly: true},
				{Image: &cri.ImageSpec{Image: image}, ContainerPath: "/part", Readonly: true, ImageSubPath: "var/www"},
			}
		})
		c.says("cat /image/etc/group | head -n 1; stat -c '%u %g' /image/bin /image/home/user; cat /part/index.html; touch /image/x 2>/dev/null || echo refused", "root:x:0:\n0 0\n1000 1000\nserved by busybox\nrefused\n")
	})
}

// A device of the node's, by its own name and by one that is something else on the node.
func TestDevices(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		dir := t.TempDir()
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		zero := filepath.Join(dir, "zero")
		if err := unix.Mknod(zero, unix.S_IFCHR, int(unix.Mkdev(1, 5))); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(zero, 0o666); err != nil {
			t.Fatal(err)
		}
		c := run(t, nil).sleeper("c", func(c *cri.ContainerConfig) {
			c.Devices = []*cri.Device{{HostPath: zero, ContainerPath: zero, Permissions: "r"}}
		})
		c.says("stat -c %F:%t:%T "+zero+"; head -c 3 "+zero+" | wc -c; ls /dev/loop-control 2>/dev/null || echo no other", "character special file:1:5\n3\nno other\n")
	})
}

// A device by a name that it does not have on the node, where the name is nothing, a file or another device. In a user namespace runc mounts whatever
// the node has by that name.
func TestDevicesByAnotherName(t *testing.T) {
	for kind, change := range map[string]func(*cri.PodSandboxConfig){"": func(*cri.PodSandboxConfig) {}, "with a user namespace": withUserNamespace} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			file, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
			if err := os.WriteFile(file, []byte("the node's"), 0o666); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mknod(other, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))); err != nil {
				t.Fatal(err)
			}
			c := runPod(t, handler, change).sleeper("c", func(c *cri.ContainerConfig) {
				for _, name := range []string{"/dev/mine", file, other} {
					c.Devices = append(c.Devices, &cri.Device{HostPath: "/dev/zero", ContainerPath: name, Permissions: "rw"})
				}
			})
			for _, name := range []string{"/dev/mine", file, other} {
				c.says("stat -c '%F:%t:%T %u %g' "+name+"; head -c 3 "+name+" | tr '\\0' 0; echo x > "+name+" && echo written", "character special file:1:5 0 0\n000written\n")
			}
			if got := readText(t, file); got != "the node's" {
				t.Errorf("the node's file has %q", got)
			}
		})
	}
}
