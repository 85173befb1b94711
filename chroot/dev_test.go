package chroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

func TestDefaultDevices(t *testing.T) {
	const nodes = "cd /dev; stat -c '%n %t:%T' null zero full random urandom tty; for l in fd stdin stdout stderr core ptmx; do readlink $l; done; "
	const want = "null 1:3\nzero 1:5\nfull 1:7\nrandom 1:8\nurandom 1:9\ntty 5:0\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\npts/ptmx\n"
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		if userNamespace {
			b.inUserNamespace()
		}
		b.want(nodes+try("echo x >null", "test -s null", "echo x >full", "head -c 1 urandom", "test -e console", "test -e sda"), want+"yes\nno\nno\nyes\nno\nno")
	}
	// Modes are exact, whatever the caller's umask.
	b := newBox(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	b.want("stat -c %a /dev/null /dev/shm /dev/pts; umask", "666\n1777\n755\n0022")
}

func TestDevicesOfSpec(t *testing.T) {
	b := newBox(t)
	mode, id := os.FileMode(0o640), uint32(9)
	b.request.Spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200, FileMode: &mode, UID: &id, GID: &id},
		{Path: "/dev/disk", Type: "b", Major: 7, Minor: 0},
		{Path: "/run/pipe", Type: "p", FileMode: &mode},
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: &mode},
	}
	b.want("stat -c '%n %t:%T %a %u %g %F' /dev/net/tun /dev/disk /run/pipe /dev/null",
		"/dev/net/tun a:c8 640 9 9 character special file\n/dev/disk 7:0 666 0 0 block special file\n/run/pipe 0:0 640 0 0 fifo\n/dev/null 1:3 640 0 0 character special file")
}

// In a user namespace, where nobody makes nodes, those of the host are bound that are the same device by the same name; others are made on the host. What else has
// the name there does not get in.
func TestDevicesOfSpecInAUserNamespace(t *testing.T) {
	b := newBox(t)
	b.inUserNamespace()
	ids := []specs.LinuxIDMapping{{HostID: hostIDs, Size: 10}}
	b.request.Spec.Linux.UIDMappings, b.request.Spec.Linux.GIDMappings = ids, ids
	mode, id := os.FileMode(0o640), uint32(9)
	file, other := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "other")
	b.must(os.WriteFile(file, []byte("the host's"), 0o666))
	b.must(unix.Mknod(other, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))))
	for _, name := range []string{"/dev/mine", file, other} {
		b.request.Spec.Linux.Devices = append(b.request.Spec.Linux.Devices, specs.LinuxDevice{Path: name, Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &id, GID: &id})
	}
	b.request.Spec.Linux.Devices = append(b.request.Spec.Linux.Devices, specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: &mode})
	const made = "character special file 1:5 640 9 9 "
	b.want("for f in /dev/mine "+file+" "+other+"; do stat -c '%F %t:%T %a %u %g' $f | tr '\\n' ' '; head -c 2 $f | tr '\\0' 0; echo; done; stat -c '%t:%T %a' /dev/null",
		made+"00\n"+made+"00\n"+made+"00\n1:3 666")
	if text, err := os.ReadFile(file); err != nil || string(text) != "the host's" {
		t.Errorf("%q, %v", text, err)
	}
}

// What the image has in /dev stays where the spec mounts nothing there, but for /dev/ptmx.
func TestDevOfImage(t *testing.T) {
	b := newBox(t)
	b.request.Spec.Mounts = b.request.Spec.Mounts[:1]
	b.file("dev/zero", "the image's\n", 0o644)
	b.file("dev/ptmx", "the image's\n", 0o644)
	b.want("cat /dev/zero; readlink /dev/ptmx; "+try("test -c /dev/null"), "the image's\npts/ptmx\nyes")
}

func TestDevOfHost(t *testing.T) {
	b := newBox(t)
	b.request.Spec.Mounts = b.request.Spec.Mounts[:1]
	source := b.host("dev")
	b.mount("/dev", "", source, "bind")
	b.want("cat /dev/file; test -e /dev/null || echo nothing else", "host\nnothing else")
	if entries, err := os.ReadDir(source); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestTerminal(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		if userNamespace {
			b.inUserNamespace()
		}
		b.setup = func(p *launch.Program, root launch.FD) {
			master, slave := Terminal(p, root, 7, &specs.Box{Height: 33, Width: 99})
			b.sources.Console(p, root, slave)
			p.Sync("terminal")
			b.sync = func(c *launch.Child) {
				end, err := c.Take(master)
				b.must(err)
				t.Cleanup(func() { end.Close() })
				size, err := unix.IoctlGetWinsize(int(end.Fd()), unix.TIOCGWINSZ)
				if err != nil || size.Row != 33 || size.Col != 99 {
					t.Errorf("%+v, %v", size, err)
				}
			}
			p.Setsid()
			p.Ioctl(slave, "TIOCSCTTY", unix.TIOCSCTTY, launch.Value(0))
			p.Dup3(slave, 0)
		}
		b.want("tty; stat -c '%u %t:%T' /dev/pts/0 /dev/console; stat -c %n /dev/pts/*; test -t 0 && echo terminal", "/dev/pts/0\n7 88:0\n7 88:0\n/dev/pts/0\n/dev/pts/ptmx\nterminal")
	}
}

func TestTerminalIsTheContainersOwn(t *testing.T) {
	b := newBox(t)
	b.request.Spec.Mounts = append(b.request.Spec.Mounts[:2:2], b.request.Spec.Mounts[3:]...)
	b.mkdir("dev/pts")
	b.setup = func(p *launch.Program, root launch.FD) { Terminal(p, root, 0, nil) }
	b.refused("terminal: openat2: no such file or directory")
	b.mount("/dev/pts", "tmpfs", "tmpfs")
	b.refused("terminal: /dev/pts is not a devpts: no such device")
}

func TestReopenNull(t *testing.T) {
	b := newBox(t)
	null, err := os.Open("/dev/null")
	b.must(err)
	defer null.Close()
	host, err := os.Stat("/dev/null")
	b.must(err)
	for reopen, want := range map[bool]bool{true: false, false: true} {
		b.setup = func(p *launch.Program, root launch.FD) {
			p.Dup3(launch.Inherited(int(null.Fd()), "null"), 0)
			if reopen {
				ReopenNull(p, root, 0)
			}
		}
		out, _, err := b.run("stat -L -c '%d:%i %t:%T' /proc/self/fd/0 /dev/null")
		lines := strings.Fields(out)
		if err != nil || len(lines) != 4 || lines[1] != "1:3" || (lines[0] != lines[2]) != want {
			t.Errorf("reopened %v: %q, %v (%v)", reopen, out, err, host)
		}
	}
}
