package chroot

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fillForCopy(b *box) {
	b.Helper()
	b.file("var/lib/file", "content\n", 0o640)
	b.file("var/lib/deep/er/tool", "tool\n", 0o755)
	b.must(os.Chmod(b.root+"/var/lib/deep/er/tool", 0o755|os.ModeSetuid))
	b.must(os.Chown(b.root+"/var/lib/file", 7, 8))
	b.link("/etc/outside", "var/lib/link")
	b.must(unix.Mkfifo(b.root+"/var/lib/fifo", 0o600))
	b.must(unix.Mknod(b.root+"/var/lib/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	b.must(os.Chmod(b.root+"/var/lib/null", 0o666))
	b.must(unix.Setxattr(b.root+"/var/lib/file", "trusted.test", []byte("value"), 0))
	b.must(os.Chmod(b.root+"/var/lib", 0o751))
	b.must(os.Chown(b.root+"/var/lib", 5, 6))
	at := time.Unix(1000000000, 0)
	b.must(os.Chtimes(b.root+"/var/lib/deep/er", at, at))
	b.must(os.Chtimes(b.root+"/var/lib/file", at, at))
}

func TestCopyUp(t *testing.T) {
	b := newBox(t)
	fillForCopy(b)
	b.mount("/var/lib", "tmpfs", "tmpfs", "tmpcopyup", "nosuid")
	b.mount("/var/new", "tmpfs", "tmpfs", "tmpcopyup")
	b.want(`cd /var/lib; cat file deep/er/tool; readlink link; stat -c '%n %a %u %g %F' . file deep/er/tool fifo null; stat -c %Y deep/er file; ls -A /var/new; `+try("touch x", "echo more >>file", "touch /var/new/x"),
		"content\ntool\n/etc/outside\n. 751 5 6 directory\nfile 640 7 8 regular file\ndeep/er/tool 4755 0 0 regular file\nfifo 600 0 0 fifo\nnull 666 0 0 character special file\n1000000000\n1000000000\nyes\nyes\nyes")
	if content, err := os.ReadFile(b.root + "/var/lib/file"); err != nil || string(content) != "content\n" {
		t.Errorf("the image has changed: %q, %v", content, err)
	}
	if _, err := os.Lstat(b.root + "/var/lib/x"); !os.IsNotExist(err) {
		t.Errorf("the image has changed: %v", err)
	}
}

func TestCopyUpOptions(t *testing.T) {
	b := newBox(t)
	fillForCopy(b)
	b.mount("/var/lib", "tmpfs", "tmpfs", "tmpcopyup", "ro", "mode=700", "uid=9")
	b.mount("/small", "tmpfs", "tmpfs")
	b.want(`stat -c '%a %u %g' /var/lib; cat /var/lib/file; `+try("touch /var/lib/x"), "700 9 6\ncontent\nno")
	b = newBox(t)
	b.file("var/lib/large", string(make([]byte, 1<<16)), 0o644)
	b.mount("/var/lib", "tmpfs", "tmpfs", "tmpcopyup", "size=8k")
	_, _, err := b.run("")
	if err == nil || !os.IsTimeout(err) && err.Error() != "mounts[6] /var/lib: tmpcopyup: large: write large: no space left on device" && err.Error() != "mounts[6] /var/lib: tmpcopyup: large: copy_file_range: no space left on device" {
		t.Errorf("%v", err)
	}
}

// The copy never leaves the image, and the directory that is copied is found as inside the container.
func TestCopyUpStaysInside(t *testing.T) {
	b := newBox(t)
	outside := b.host("outside")
	b.link(outside, "link")
	b.mount("/link", "tmpfs", "tmpfs", "tmpcopyup")
	b.want("ls -A /link; "+try("touch /link/x"), "yes")
	b = newBox(t)
	b.must(os.MkdirAll(b.root+outside, 0o755))
	b.file(filepath.Join(outside, "inner"), "inner\n", 0o644)
	b.link(outside, "link")
	b.mount("/link", "tmpfs", "tmpfs", "tmpcopyup")
	b.want("ls -A /link; cat /link/inner", "inner\ninner")
}

func TestCopyUpOfVolume(t *testing.T) {
	b := newBox(t)
	source := b.host("volume")
	b.must(os.Mkdir(source+"/sub", 0o755))
	b.must(os.WriteFile(source+"/sub/file", []byte("volume\n"), 0o644))
	b.mount("/data", "", source, "bind", "ro")
	b.mount("/data/sub", "tmpfs", "tmpfs", "tmpcopyup")
	b.want("cat /data/sub/file; "+try("touch /data/x", "touch /data/sub/x"), "volume\nno\nyes")
}

func TestCopyUpInUserNamespace(t *testing.T) {
	b := newBox(t)
	fillForCopy(b)
	b.inUserNamespace()
	b.mount("/var/lib", "tmpfs", "tmpfs", "tmpcopyup", "uid=4")
	_, _, err := b.run("")
	if err == nil || err.Error() != "mounts[6] /var/lib: uid=4: id 4 is not mapped to the host" {
		t.Errorf("%v", err)
	}
	b.request.Spec.Mounts[6].Options = []string{"tmpcopyup"}
	b.want(`cat /var/lib/file; stat -c '%a %u %g' /var/lib; `+try("touch /var/lib/x"), "content\n751 0 0\nyes")
}
