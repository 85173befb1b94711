package chroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// try prints "yes" or "no" for each of the commands.
func try(commands ...string) string {
	var b strings.Builder
	for _, c := range commands {
		b.WriteString("if (" + c + ") >/dev/null 2>&1; then echo yes; else echo no; fi; ")
	}
	return b.String()
}

// mountsOf prints destination, attributes, type and source as the container sees them.
const mountsOf = `while read id parent dev root at opts rest; do rest=${rest#*- }; echo $at $opts $rest; done </proc/self/mountinfo`

func TestDockerMounts(t *testing.T) {
	b := newBox(t)
	out, _, err := b.run(mountsOf)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"/proc rw,nosuid,nodev,noexec,relatime proc proc rw",
		"/dev rw,nosuid tmpfs tmpfs rw,size=65536k,mode=755",
		"/dev/pts rw,nosuid,noexec,relatime devpts devpts rw,gid=5,mode=620,ptmxmode=666",
		"/sys ro,nosuid,nodev,noexec,relatime sysfs sysfs rw",
		"/dev/mqueue rw,nosuid,nodev,noexec,relatime mqueue mqueue rw",
		"/dev/shm rw,nosuid,nodev,noexec,relatime tmpfs shm rw,size=65536k",
		"/proc/sys ro,nosuid,nodev,noexec,relatime proc proc rw",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no mount %q in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "\n"); n > 25 {
		t.Errorf("%d mounts:\n%s", n, out)
	}
}

func TestOldRootIsGone(t *testing.T) {
	b := newBox(t)
	secret := b.host("secret")
	b.want(try("test -e "+secret+"/file", "test -e /../.."+secret+"/file", "test -e /proc/1/root"+secret+"/file", "test -e /proc/1/cwd/../"+secret+"/file", "test -e /bin/busybox"),
		"no\nno\nno\nno\nyes")
	out, _, err := b.run("cat /proc/self/mountinfo")
	if err != nil || strings.Contains(out, filepath.Dir(b.root)) && strings.Count(out, filepath.Dir(b.root)) > 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUserNamespace(t *testing.T) {
	b := newBox(t)
	b.inUserNamespace()
	b.mount("/data", "", b.host("source"), "bind", "ro")
	b.want("id -u; cat /data/file /dev/null; echo x >/dev/null; head -c 3 /dev/zero | wc -c; "+try("touch /data/x", "touch /tmp/x", "mknod /tmp/n c 1 3"), "0\nhost\n3\nno\nyes\nno")
	out, _, err := b.run(mountsOf)
	if err != nil || !strings.Contains(out, "/dev/null ") || !strings.Contains(out, "/dev/pts rw,nosuid,noexec,relatime devpts devpts rw,gid=100005,mode=620,ptmxmode=666\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A child that may not search the directories above its root gets there all the same.
func TestUserNamespaceBehindClosedDirectory(t *testing.T) {
	b := newBox(t)
	b.inUserNamespace()
	if err := os.Chmod(filepath.Dir(b.root), 0o700); err != nil {
		t.Fatal(err)
	}
	b.want("echo in; "+try("test -e /usr/lib"), "in\nno")
}

func TestReadOnlyRoot(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		if userNamespace {
			b.inUserNamespace()
		}
		b.request.Spec.Root.Readonly = true
		b.mount("/missing/data", "tmpfs", "tmpfs")
		b.want(try("touch /x", "touch /etc/x", "touch /missing/data/x", "touch /dev/shm/x"), "no\nno\nyes\nyes")
		b.request.Spec.Root.Readonly = false
		b.want(try("touch /x"), "yes")
	}
}

func TestBindAttributes(t *testing.T) {
	b := newBox(t)
	source := b.host("source")
	sub := filepath.Join(source, "sub")
	b.must(os.Mkdir(sub, 0o755))
	b.must(mountTmpfs(t, sub, "nosuid"))
	b.mount("/plain", "", source, "bind")
	b.mount("/ro", "", source, "rbind", "ro")
	b.mount("/rro", "", source, "rbind", "rro")
	b.mount("/sub", "", sub, "bind", "noexec", "noatime")
	b.mount("/suid", "", sub, "bind", "suid", "strictatime")
	b.want(try("touch /plain/a", "test -e /plain/file", "touch /plain/sub/a", "touch /ro/a", "touch /ro/sub/b", "touch /rro/a", "touch /rro/sub/c"), "yes\nyes\nyes\nno\nyes\nno\nno")
	out, _, err := b.run(mountsOf)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/ro ro,relatime ", "/ro/sub rw,nosuid,relatime ", "/rro/sub ro,nosuid,relatime ", "/sub rw,noexec,noatime ", "/suid rw "} {
		if !strings.Contains(out, "\n"+want) {
			t.Errorf("no mount %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "/plain/sub") {
		t.Errorf("bind took the mounts beneath along:\n%s", out)
	}
}

func TestBindOfFile(t *testing.T) {
	b := newBox(t)
	file := b.host("source") + "/file"
	b.mount("/etc/made/by/us", "", file, "bind", "ro")
	b.want("cat /etc/made/by/us; "+try("touch /etc/made/by/us", "touch /etc/made/by/other"), "host\nno\nyes")
	b.must(os.MkdirAll(b.root+"/var", 0o755))
	b.link("/run", "var/run")
	b.mount("/dev/termination-log", "", file, "bind")
	b.mount("/dev/a/b/file", "", file, "bind")
	b.mount("/var/run/some.sock", "", file, "bind")
	b.want("cat /dev/termination-log /dev/a/b/file /run/some.sock", "host\nhost\nhost")
}

func TestMissingSource(t *testing.T) {
	b := newBox(t)
	b.mount("/data", "", "/no/such/source", "rbind")
	b.refused("mounts[6] /data: source /no/such/source: no such file or directory")
	b = newBox(t)
	b.request.RootFS += "/none"
	b.refused("root " + b.root + "/none: no such file or directory")
	b.request.RootFS = b.root + "/bin/busybox"
	b.refused("root " + b.root + "/bin/busybox: not a directory")
}

// Links of the image lead to places of the image, however they are written.
func TestLinksStayInside(t *testing.T) {
	b := newBox(t)
	outside := b.host("outside")
	b.link("/../../../.."+outside, "absolute")
	b.link("../../../.."+outside, "relative")
	b.must(os.MkdirAll(b.root+outside, 0o755))
	b.mount("/absolute", "tmpfs", "tmpfs", "mode=700")
	b.mount("/relative/made", "", outside, "bind")
	b.mount("/absolute/deep/er", "tmpfs", "tmpfs")
	b.want("cat "+outside+"/made/file; stat -c %a "+outside+"; "+try("test -d /absolute/deep/er"), "host\n700\nyes")
	if _, err := os.Lstat(outside + "/made"); !os.IsNotExist(err) {
		t.Errorf("a mount point was made on the host: %v", err)
	}
	if entries, _ := os.ReadDir(b.root + outside); len(entries) != 0 {
		t.Errorf("a mount point was made beneath a mount: %v", entries)
	}
}

// A link to nothing has its target made, inside: images of systemd have /etc/resolv.conf as such a link.
func TestDanglingLink(t *testing.T) {
	b := newBox(t)
	outside := filepath.Dir(b.root) + "/nowhere"
	b.link("../run/resolve/stub.conf", "etc/resolv.conf")
	b.link(outside, "dangling")
	b.mount("/etc/resolv.conf", "", b.host("x")+"/file", "bind")
	b.mount("/dangling", "tmpfs", "tmpfs")
	b.mount("/dangling/file", "", b.host("x")+"/file", "bind")
	b.want("cat /etc/resolv.conf /run/resolve/stub.conf /dangling/file "+outside+"/file", "host\nhost\nhost\nhost")
	if _, err := os.Lstat(outside); !os.IsNotExist(err) {
		t.Errorf("a mount point was made on the host: %v", err)
	}
	b = newBox(t)
	b.link("/", "top")
	b.mount("/top", "tmpfs", "tmpfs")
	b.refused("mounts[6] /top: a link leads to the root")
}

func TestLinkIntoProcIsRefused(t *testing.T) {
	links := map[string]string{"direct": "/proc/self/attr", "relative": "proc/1", "magic": "/proc/self/root/etc", "parent": "/proc/1"}
	for name, target := range links {
		b := newBox(t)
		b.link(target, name)
		b.mount("/"+name+"/made", "tmpfs", "tmpfs")
		b.refused("mounts[6] /" + name + "/made: a link leads into /proc")
	}
	// A file that is meant to be covered.
	b := newBox(t)
	b.mount("/proc/uptime", "", b.host("x")+"/file", "bind")
	b.want("cat /proc/uptime", "host")
}

// Somebody who can write to the image exchanges what the parent has looked at before the child comes to it.
func TestExchangedMountPoint(t *testing.T) {
	tests := []struct{ target, want string }{
		{"/proc/self/attr", "mounts[6] /data/x: a link leads into /proc: operation not permitted"},
		{"/proc/1/root/tmp", "mounts[6] /data/x: openat2: too many levels of symbolic links"},
		{"/proc/self/none", "mounts[6] /data/x: openat2: not a directory"},
	}
	for _, test := range tests {
		b := newBox(t)
		b.mount("/data/x", "tmpfs", "tmpfs")
		b.opened = func(*Sources) { b.link(test.target, "data/x") }
		b.refused(test.want)
	}
	b := newBox(t)
	b.mount("/data", "tmpfs", "tmpfs")
	b.opened = func(*Sources) {
		b.must(os.Remove(b.root + "/data"))
		b.link("/proc/self", "data")
	}
	b.refused("mounts[6] /data: openat2: too many levels of symbolic links")
	b = newBox(t)
	b.mount("/data", "tmpfs", "tmpfs")
	b.opened = func(*Sources) {}
	b.want(try("touch /data/x"), "yes")
}

// The image cannot have the runtime mount /proc elsewhere and leave a directory of its own in its place.
func TestProcMustBeDirectory(t *testing.T) {
	for _, name := range []string{"proc", "sys"} {
		b := newBox(t)
		b.must(os.Remove(b.root + "/" + name))
		b.link("/tmp", name)
		index := map[string]string{"proc": "mounts[0] /proc", "sys": "mounts[3] /sys"}[name]
		b.refused(index + ": openat2: not a directory")
		b.must(os.Remove(b.root + "/" + name))
		b.want(try("test -e /"+name+"/.", "test -d /proc/self", "test -d /sys/kernel"), "yes\nyes\nyes")
	}
}

func TestBindOverProc(t *testing.T) {
	b := newBox(t)
	b.request.Spec.Mounts[0].Source, b.request.Spec.Mounts[0].Options = b.host("fake"), []string{"bind"}
	b.refused("mounts[0] /proc: source " + b.host("fake") + ": only a proc filesystem can be mounted there")
	b.request.Spec.Mounts[0].Source, b.request.Spec.Mounts[0].Options = "/proc", []string{"rbind", "rprivate"}
	b.want(try("test -d /proc/self"), "yes")
}

func TestTmpfsOptions(t *testing.T) {
	b := newBox(t)
	b.must(os.Chmod(b.mkdir("var/covered"), 0o751))
	b.mount("/var/covered", "tmpfs", "tmpfs", "noexec")
	b.mount("/var/new", "tmpfs", "tmpfs")
	b.mount("/var/own", "tmpfs", "tmpfs", "mode=0710,uid=3,gid=4", "size=64k", "nr_inodes=5")
	b.mount("/var/ro", "tmpfs", "tmpfs", "ro")
	b.mount("/var/ro/inner", "tmpfs", "tmpfs")
	b.want("stat -c '%a %u %g' /var/covered /var/new /var/own; "+try("touch /var/own/a", "dd if=/dev/zero of=/var/own/a bs=1k count=128", "touch /var/ro/a", "touch /var/ro/inner/a"),
		"751 0 0\n1777 0 0\n710 3 4\nyes\nno\nno\nyes")
	b.mount("/bad", "tmpfs", "tmpfs", "no_such_option=1")
	b.refused(`mounts[11] /bad: option "no_such_option=1": fsconfig: invalid argument`)
}

func TestProcAndDevptsOptions(t *testing.T) {
	b := newBox(t)
	b.request.Spec.Mounts[0].Options = []string{"nosuid", "hidepid=2", "subset=pid"}
	b.request.Spec.Mounts[2].Options = []string{"mode=0600", "max=3"}
	out, _, err := b.run(mountsOf)
	if err != nil || !strings.Contains(out, "/proc rw,nosuid,relatime proc proc rw,hidepid=invisible,subset=pid\n") || !strings.Contains(out, "devpts rw,mode=600,ptmxmode=000,max=3\n") {
		t.Errorf("%v\n%s", err, out)
	}
	b.want(try("test -e /proc/meminfo", "test -e /proc/self/status"), "no\nyes")
}

func TestReadOnlyDev(t *testing.T) {
	b := newBox(t)
	b.request.Spec.Mounts[1].Options = append(b.request.Spec.Mounts[1].Options, "ro")
	b.want("echo x >/dev/null; "+try("touch /dev/x", "test -c /dev/zero", "touch /dev/shm/x"), "no\nyes\nyes")
}

func TestUnknownFilesystem(t *testing.T) {
	b := newBox(t)
	b.mount("/data", "nosuchfs", "x")
	b.refused("mounts[6] /data: filesystem nosuchfs: fsopen: no such device")
}
