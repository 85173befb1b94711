package chroot

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMaskedPaths(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		b.file("etc/one", "secret\n", 0o644)
		b.file("etc/two", "secret\n", 0o644)
		b.file("etc/three", "open\n", 0o644)
		b.file("var/a/file", "secret\n", 0o644)
		b.file("var/b/file", "secret\n", 0o644)
		b.link("b", "var/link")
		if userNamespace {
			b.inUserNamespace()
		}
		b.request.Spec.Linux.MaskedPaths = append(b.request.Spec.Linux.MaskedPaths, "/etc/one", "/etc/two", "/var/a", "/var/link/", "/none", "/etc/three/none", "/etc/one")
		b.want("cat /etc/one /etc/two /etc/three; ls -A /var/a /var/b; head -c 1 /proc/timer_list; ls -A /sys/firmware; "+try("touch /var/a/x", "test -s /proc/kcore", "test -s /proc/cpuinfo || test -e /proc/cpuinfo"),
			"open\n/var/a:\n\n/var/b:\nno\nno\nyes")
	}
}

func TestReadOnlyPaths(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		b.file("var/a/file", "kept\n", 0o644)
		if userNamespace {
			b.inUserNamespace()
		}
		b.mount("/var/a/sub", "tmpfs", "tmpfs")
		b.request.Spec.Linux.ReadonlyPaths = append(b.request.Spec.Linux.ReadonlyPaths, "/var/a", "/none")
		b.want("cat /var/a/file; "+try("touch /var/a/x", "touch /var/x", "touch /var/a/sub/x", "echo 1 >/proc/sys/kernel/shm_rmid_forced", "test -d /proc/sys/kernel"), "kept\nno\nyes\nyes\nno\nyes")
		b.request.Spec.Linux.ReadonlyPaths = nil
		b.want(try("touch /var/a/x", "echo 1 >/proc/sys/kernel/shm_rmid_forced"), "yes\nyes")
	}
}

func TestDenied(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		for _, file := range []string{"etc/shadow", "etc/passwd", "srv/a/key", "srv/b/key", "srv/c/key"} {
			b.file(file, "content\n", 0o644)
		}
		b.link("/srv/b", "alias")
		if userNamespace {
			b.inUserNamespace()
		}
		source := b.host("volume")
		b.must(os.Mkdir(source+"/private", 0o755))
		b.must(os.WriteFile(source+"/private/key", []byte("content\n"), 0o644))
		b.mount("/data", "", source, "rbind")
		b.request.Denied = []string{"/etc/shadow", "/srv/a", "/alias", "/data/private", "/data/file"}
		b.want("exec 2>/dev/null; cat /etc/passwd /etc/shadow /srv/c/key; stat -c %a /etc/shadow /srv/a /srv/b /data/private /data/file; echo $(ls -A /srv/a; ls -A /srv/b; ls -A /data/private); "+
			try("cat /srv/a/key", "cat /srv/b/key", "cat /alias/key", "cat /data/private/key", "grep . /data/file", "touch /srv/a/x", "echo x >/etc/shadow", "chmod 777 /srv/a", "cat /srv/c/key"),
			"content\ncontent\n0\n0\n0\n0\n0\n\nno\nno\nno\nno\nno\nno\nno\nno\nyes")
		if content, err := os.ReadFile(source + "/private/key"); err != nil || string(content) != "content\n" {
			t.Errorf("on the host: %q, %v", content, err)
		}
		b.request.Denied = nil
		b.want("cat /etc/shadow /srv/a/key /alias/key /data/private/key /data/file", "content\ncontent\ncontent\ncontent\nhost")
	}
}

// A path that is reached through another denied path is covered as well.
func TestDeniedThroughEachOther(t *testing.T) {
	b := newBox(t)
	b.file("srv/a/deep/key", "content\n", 0o644)
	b.link("/srv/a/deep", "zz")
	b.request.Denied = []string{"/srv/a", "/zz"}
	b.want(try("cat /srv/a/deep/key", "cat /zz/key", "test -d /srv"), "no\nno\nyes")
}

func TestDeniedMustExist(t *testing.T) {
	b := newBox(t)
	b.request.Denied = []string{"/etc", "/srv/none"}
	b.refused("filesystem.deny /srv/none: openat2: no such file or directory")
	b = newBox(t)
	b.link("/proc/1/root", "out")
	b.request.Denied = []string{"/out"}
	b.refused("filesystem.deny /out: openat2: too many levels of symbolic links")
}

// Before Linux 6.15 the child takes the empty objects out of their filesystem.
func TestDeniedOnOlderKernels(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		for _, file := range []string{"etc/shadow", "etc/other", "srv/a/key", "srv/b/key"} {
			b.file(file, "content\n", 0o644)
		}
		if userNamespace {
			b.inUserNamespace()
		}
		b.request.Denied = []string{"/etc/shadow", "/etc/other", "/srv/a", "/srv/b"}
		b.opened = func(s *Sources) {
			both, err := s.hold(unix.FcntlInt(uintptr(s.opened[len(s.opened)-3]), unix.F_DUPFD_CLOEXEC, 0))
			b.must(err)
			s.denied = deniedObjects{-1, -1, both}
		}
		b.want("exec 2>/dev/null; cat /etc/shadow /etc/other; ls -A /srv/a; ls -A /srv/b; stat -c %a /etc/shadow /srv/a; ls /; grep denied /proc/self/mountinfo | wc -l; pwd", "0\n0\nbin\ndata\ndev\netc\nproc\nsrv\nsys\ntmp\n4\n/")
	}
}
