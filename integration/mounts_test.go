package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hostDir makes a directory on the host with one file, "file", that says "from the host".
func hostDir(t *testing.T) string {
	t.Helper()
	dir := shortTempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMounts(t *testing.T) {
	bind := func(options ...string) func(*testing.T, *bundle) {
		return func(t *testing.T, b *bundle) { b.mount("/m", "bind", hostDir(t), options...) }
	}
	probeAll(t, []probe{
		{name: "bind", change: bind("rbind", "rprivate"), script: "cat /m/file; echo new > /m/new && cat /m/new", want: "from the host\nnew\n"},
		{name: "bind read-only", change: bind("rbind", "ro"), script: "cat /m/file; echo new 2>/dev/null > /m/new || echo refused; chmod 777 /m/file 2>/dev/null || echo refused", want: "from the host\nrefused\nrefused\n"},
		{name: "bind of a file", change: func(t *testing.T, b *bundle) {
			b.mount("/etc/deep/down/file", "bind", filepath.Join(hostDir(t), "file"), "rbind", "rprivate")
		}, script: "cat /etc/deep/down/file", want: "from the host\n"},
		{name: "bind nosuid noexec nodev", change: bind("bind", "nosuid", "noexec", "nodev"),
			script: "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | grep ^no | sort; cp /bin/true /m/ && { /m/true 2>/dev/null || echo refused; }",
			want:   "nodev\nnoexec\nnosuid\nrefused\n"},
		{name: "unbindable for the whole tree", own: true, change: func(t *testing.T, b *bundle) {
			b.spec.Linux.RootfsPropagation = "runbindable"
			b.mount("/m", "tmpfs", "tmpfs")
		}, script: "grep -vc unbindable /proc/self/mountinfo; grep -c ' /m .* unbindable ' /proc/self/mountinfo; echo x 2>/dev/null > /proc/sys/kernel/domainname || echo refused", want: "0\n1\nrefused\n"},
		{name: "recursive bind takes what is mounted below", change: func(t *testing.T, b *bundle) {
			b.mount("/m", "bind", nestedMount(t), "rbind", "rprivate")
		}, script: "cat /m/below/file", want: "in the tmpfs\n"},
		{name: "plain bind leaves what is mounted below", change: func(t *testing.T, b *bundle) {
			b.mount("/m", "bind", nestedMount(t), "bind", "rprivate")
		}, script: "ls /m/below", want: ""},
		{name: "recursive read-only", change: func(t *testing.T, b *bundle) {
			b.mount("/m", "bind", nestedMount(t), "rbind", "rro")
		}, script: "cat /m/below/file; echo x 2>/dev/null > /m/below/file || echo refused", want: "in the tmpfs\nrefused\n"},
		{name: "read-only alone is not recursive", change: func(t *testing.T, b *bundle) {
			b.mount("/m", "bind", nestedMount(t), "rbind", "ro")
		}, script: "echo x 2>/dev/null > /m/x || echo refused; echo written > /m/below/file && cat /m/below/file", want: "refused\nwritten\n"},
		{name: "tmpfs options", change: func(t *testing.T, b *bundle) {
			b.mount("/m", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "size=64k", "mode=1750", "uid=1000", "gid=2000")
		}, script: "stat -c '%a %u %g' /m; df -k /m | tail -1 | awk '{print $2}'; head -c 100000 /dev/zero 2>/dev/null > /m/big || echo full",
			want: "1750 1000 2000\n64\nfull\n"},
		{name: "tmpcopyup", change: func(t *testing.T, b *bundle) {
			b.mount("/var/www", "tmpfs", "tmpfs", "tmpcopyup")
		}, script: "cat /var/www/index.html; echo changed > /var/www/index.html && cat /var/www/index.html", want: "served by busybox\nchanged\n"},
		{name: "mounts in the order of the spec", change: func(t *testing.T, b *bundle) {
			b.mount("/m", "tmpfs", "tmpfs")
			b.mount("/m/inner", "bind", hostDir(t), "rbind")
		}, script: "cat /m/inner/file; echo x > /m/x && echo writable", want: "from the host\nwritable\n"},
		{name: "a missing mount point is made", change: func(t *testing.T, b *bundle) {
			b.mount("/not/there/yet", "tmpfs", "tmpfs", "mode=755")
		}, script: "grep -c ' /not/there/yet ' /proc/self/mountinfo", want: "1\n"},
		{name: "a destination through a symlink stays inside", change: func(t *testing.T, b *bundle) {
			outside := hostDir(t)
			if err := os.Symlink(outside, filepath.Join(b.root, "link")); err != nil {
				t.Fatal(err)
			}
			b.mount("/link/sub", "tmpfs", "tmpfs")
			t.Cleanup(func() {
				if _, err := os.Stat(filepath.Join(outside, "sub")); err == nil {
					t.Error("the mount point was made outside the root")
				}
			})
		}, script: "ls -d $(readlink /link)/sub | grep -c sub", want: "1\n"},
		{name: "a destination with dot-dots stays inside", change: func(t *testing.T, b *bundle) {
			if err := os.Symlink("../../../../../../../..", filepath.Join(b.root, "up")); err != nil {
				t.Fatal(err)
			}
			b.mount("/up/sandlock-made-this", "tmpfs", "tmpfs")
			t.Cleanup(func() {
				if _, err := os.Stat("/sandlock-made-this"); err == nil {
					t.Error("the mount point was made on the host")
				}
			})
		}, script: "grep -c ' /sandlock-made-this ' /proc/self/mountinfo", want: "1\n"},
		{name: "read-only root", change: func(_ *testing.T, b *bundle) { b.spec.Root.Readonly = true },
			script: "echo x 2>/dev/null > /x || echo refused; echo y > /dev/shm/y && cat /dev/shm/y", want: "refused\ny\n"},
		{name: "masked paths", change: func(t *testing.T, b *bundle) {
			b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/etc/passwd", "/home", "/not/there")
		}, script: "cat /etc/passwd; ls /home; echo x 2>/dev/null > /home/x || echo refused; wc -c < /proc/timer_list; cat /etc/group | head -1",
			want: "refused\n0\nroot:x:0:\n"},
		{name: "read-only paths", change: func(t *testing.T, b *bundle) {
			b.spec.Linux.ReadonlyPaths = append(b.spec.Linux.ReadonlyPaths, "/etc", "/not/there")
		}, script: "cat /etc/hosts; echo x 2>/dev/null > /etc/x || echo refused; echo x 2>/dev/null > /proc/sys/kernel/domainname || echo refused; echo x > /tmp/x && cat /tmp/x",
			want: "127.0.0.1 localhost\nrefused\nrefused\nx\n"},
		{name: "default devices", script: "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done; head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo fine; echo x 2>/dev/null > /dev/full || echo full",
			want: "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666\n3\nfine\nfull\n"},
		{name: "default links", script: "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done", want: "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"},
		{name: "a device of the spec", change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Devices = append(b.spec.Linux.Devices, specs.LinuxDevice{Path: "/dev/mynull", Type: "c", Major: 1, Minor: 3, FileMode: pointer(os.FileMode(0o640)), UID: pointer(uint32(1000)), GID: pointer(uint32(2000))})
		}, script: "stat -c '%t:%T %a %u %g' /dev/mynull", want: "1:3 640 1000 2000\n"},
		{name: "the device cgroup holds", script: "mknod /tmp/kmsg c 1 11 && { cat /tmp/kmsg 2>/dev/null || echo refused; }; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo fine", want: "refused\nfine\n"},
		{name: "cgroup mount is read-only and shows only its own", script: "mkdir /sys/fs/cgroup/pids/x 2>/dev/null || echo refused; ls /sys/fs/cgroup/pids | grep -c docker", code: 1, want: "refused\n0\n"},
		{name: "sysfs is read-only", script: "echo x 2>/dev/null > /sys/kernel/x || echo refused; ls -d /sys/kernel", want: "refused\n/sys/kernel\n"},
		{name: "devpts is its own", script: "ls /dev/pts", want: "ptmx\n"},
		{name: "the shm of the spec", script: "df -k /dev/shm | tail -1 | awk '{print $2}'; stat -c %a /dev/shm", want: "65536\n1777\n"},
	})
}

// nestedMount makes a directory with a tmpfs at "below" that holds a file.
func nestedMount(t *testing.T) string {
	t.Helper()
	dir := hostDir(t)
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(below, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(below, "file"), []byte("in the tmpfs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Whatever is mounted inside is seen inside alone, unless the spec asks for shared propagation.
func TestMountPropagation(t *testing.T) {
	source := shortTempDir(t)
	if err := unix.Mount("tmpfs", source, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(source, unix.MNT_DETACH) })
	if err := unix.Mount("", source, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(source, "late"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		option   string
		tag      string // the optional field of mountinfo
		receives bool   // a mount made on the host later is seen inside
	}{{"rprivate", "", false}, {"rslave", "master:", true}, {"rshared", "shared:", true}} {
		t.Run(p.option, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, "grep ' /m ' /proc/self/mountinfo; read x; cat /m/late/file || echo none")
			b.mount("/m", "bind", source, "rbind", p.option)
			if p.option == "rshared" {
				b.spec.Linux.RootfsPropagation = "shared"
			}
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			defer writer.Close()
			c := r.startWithStdin(t, b, reader)
			if info := c.line(t); p.tag != "" && !strings.Contains(info, p.tag) || p.tag == "" && strings.Contains(info, ":") && strings.Contains(strings.SplitN(info, " - ", 2)[0], "shared:") {
				t.Errorf("propagation: want %q in %s", p.tag, info)
			}
			late := filepath.Join(source, "late")
			if err := unix.Mount("tmpfs", late, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(late, unix.MNT_DETACH)
			if err := os.WriteFile(filepath.Join(late, "file"), []byte("late\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			writer.WriteString("\n")
			answer := c.line(t)
			if (answer == "late") != p.receives {
				t.Errorf("a later mount on the host: the container says %q", answer)
			}
			c.wait(t)
		})
	}
}
