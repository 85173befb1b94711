package chroot

import (
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

// versionPresenter shows something else than /proc/version holds, which is one inode in every procfs.
type versionPresenter struct{ ino uint64 }

func newVersionPresenter(t testing.TB) versionPresenter {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/version", &st); err != nil {
		t.Fatal(err)
	}
	return versionPresenter{st.Ino}
}

func (versionPresenter) Active() bool { return true }

func (versionPresenter) Names(name string) bool { return name == "version" }

func (p versionPresenter) Recognises(o *onbehalf.Object) bool {
	return o.Exists() && o.InProc() && o.Stat().Ino == p.ino
}

func (versionPresenter) Present(*seccompnotif.Call, int) (seccompnotif.Action, bool) {
	return seccompnotif.InjectBytes([]byte("shown")), true
}

// TestDenyPathPresented has files shown otherwise beside paths that are denied: neither gets into the other's way, and what is denied is not
// shown at all.
func TestDenyPathPresented(t *testing.T) {
	g := startDenied(t, deniedOptions{presenter: newVersionPresenter(t)})
	ways := g.waysTo()
	reference := g.keep("/proc/version", unix.O_PATH)
	shown := []string{"/proc/version", "/proc/self/../version", "/proc/self/root/proc/version", fmt.Sprintf("/proc/self/fd/%d", reference)}
	rest := map[string]string{"/open/file": "open", "/data/beside": "beside", "/proc/self/comm": "exe\n", "/open/nothing": ""}
	look := func(when string) {
		t.Helper()
		for _, path := range shown {
			if r := g.read(currentDir, path, unix.O_RDONLY); r.Text != "shown" {
				t.Errorf("%s: %s: %+v", when, path, r)
			}
			if r := g.read(currentDir, path, unix.O_RDONLY|unix.O_DIRECTORY); r.Errno != unix.ENOTDIR {
				t.Errorf("%s: %s as a directory: %+v", when, path, r)
			}
		}
		for path, text := range rest {
			if r := g.read(currentDir, path, unix.O_RDONLY); r.Text != text || text == "" && r.Errno != unix.ENOENT {
				t.Errorf("%s: %s: %+v", when, path, r)
			}
		}
	}
	for _, w := range ways {
		if r := w.open(g); r.Text != w.text {
			t.Errorf("before: %s: %+v", w.name, r)
		}
	}
	look("before")
	g.deny("/data/dir", "/data/file")
	for _, w := range ways {
		if r := w.open(g); r.Errno != unix.EACCES || r.Text != "" {
			t.Errorf("%s: %+v", w.name, r)
		}
	}
	look("after")
	g.deny("/proc/version")
	for _, path := range shown {
		if r := g.read(currentDir, path, unix.O_RDONLY); r.Errno != unix.EACCES || r.Text != "" {
			t.Errorf("denied, %s: %+v", path, r)
		}
	}
}

// meanwhile is a versionPresenter that does something before it answers.
type meanwhile struct {
	versionPresenter
	do atomic.Pointer[func()] // nil for nothing
}

func (m *meanwhile) Present(c *seccompnotif.Call, fd int) (seccompnotif.Action, bool) {
	if do := m.do.Load(); do != nil {
		(*do)()
	}
	return m.versionPresenter.Present(c, fd)
}

// TestDenyPathWhilePresented denies what is shown after it was opened and before the answer: the answer has to be that it is denied.
func TestDenyPathWhilePresented(t *testing.T) {
	p := &meanwhile{versionPresenter: newVersionPresenter(t)}
	g := startDenied(t, deniedOptions{presenter: p})
	if r := g.read(currentDir, "/proc/version", unix.O_RDONLY); r.Text != "shown" {
		t.Fatalf("before: %+v", r)
	}
	denied := make(chan error, 1)
	deny := func() { denied <- g.denied.DenyPath("/proc/version") }
	p.do.Store(&deny)
	if r := g.read(currentDir, "/proc/version", unix.O_RDONLY); r.Errno != unix.EACCES || r.Text != "" {
		t.Errorf("denied meanwhile: %+v", r)
	}
	if err := <-denied; err != nil {
		t.Error(err)
	}
	if r := g.read(currentDir, "/proc/version", unix.O_RDONLY); r.Errno != unix.EACCES {
		t.Errorf("after: %+v", r)
	}
}
