package onbehalf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// uptimePresenter shows something else than /proc/uptime holds, which is one inode in every procfs.
type uptimePresenter struct {
	ino    uint64
	active atomic.Bool
}

func newUptimePresenter(t testing.TB) *uptimePresenter {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/uptime", &st); err != nil {
		t.Fatal(err)
	}
	p := &uptimePresenter{ino: st.Ino}
	p.active.Store(true)
	return p
}

func (p *uptimePresenter) Active() bool { return p.active.Load() }

func (p *uptimePresenter) Names(name string) bool { return name == "uptime" }

func (p *uptimePresenter) Recognises(o *Object) bool {
	return o.Exists() && o.InProc() && o.Stat().Ino == p.ino
}

func (p *uptimePresenter) Present(*seccompnotif.Call, int) (seccompnotif.Action, bool) {
	return seccompnotif.InjectBytes([]byte("shown")), true
}

func startPresented(t *testing.T, s setting, engine bool) *testGuest {
	t.Helper()
	attr := syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if !engine {
		return startGuestWith(t, s, nil, attr)
	}
	var config Config
	if s.Landlock != nil {
		config.Confine = func() error { return restrict(s.Landlock) }
	}
	g := startGuestWith(t, s, openCalls, attr)
	g.superviseWith(Opens(), newEngine(t, config).Presenting(newUptimePresenter(t)))
	return g
}

// TestPresentingLeavesTheRest compares opens of what no presenter shows with the kernel's.
func TestPresentingLeavesTheRest(t *testing.T) {
	for _, name := range []string{"root", "user", "in a directory", "chroot", "landlock"} {
		t.Run(name, func(t *testing.T) {
			compareWith(t, settings[name], startPresented, func(ask func(order)) {
				for _, flags := range []int{unix.O_RDONLY, unix.O_RDONLY | unix.O_NOFOLLOW, unix.O_RDWR, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_PATH} {
					for _, path := range testPaths {
						ask(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, Flags: flags | unix.O_NONBLOCK})
					}
				}
			})
		})
	}
}

// TestPresenting opens a file that is shown otherwise, by every route.
func TestPresenting(t *testing.T) {
	dir := tree(t)
	for link, target := range map[string]string{"uptime": "/proc/uptime", "twice": "a/../uptime", "self": "/proc/self", "top": "/proc/self/.."} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	p := newUptimePresenter(t)
	engine := newEngine(t, Config{})
	for name, s := range map[string]setting{"root": {Dir: dir}, "user": {Dir: dir, UID: 1000, GID: 1000}, "own procfs": {Dir: dir, Proc: true}} {
		t.Run(name, func(t *testing.T) {
			attr := syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			if s.Proc {
				attr.Cloneflags = unix.CLONE_NEWPID
			}
			g := startGuestWith(t, s, openCalls, attr)
			g.superviseWith(Opens(), engine.Presenting(p))
			reference := g.Do(order{Action: "keep", Dirfd: unix.AT_FDCWD, Path: "/proc/uptime", Flags: unix.O_PATH})
			if reference.Errno != 0 {
				t.Fatal(reference.Errno)
			}
			if s.Proc { // where the test may mount
				if err := os.WriteFile(filepath.Join(dir, "bound"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				g.mount("/proc/uptime", filepath.Join(dir, "bound"))
				r := g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "bound"})
				if r.Text != "shown" {
					t.Errorf("bind mount: %+v", r)
				}
			}
			for _, path := range []string{
				"/proc/uptime", "//proc/./uptime", "/proc/self/../uptime", "/proc/thread-self/../../../uptime", "uptime", "twice", "self/../uptime", "top/uptime", "a/../uptime", "a/b/../../uptime",
				filepath.Join(dir, "uptime"), "../" + filepath.Base(dir) + "/uptime", "/proc/self/cwd/uptime", "/proc/self/root/proc/uptime",
				fmt.Sprintf("/proc/self/fd/%d", reference.FD), fmt.Sprintf("/dev/fd/%d", reference.FD),
			} {
				for _, o := range []order{{Flags: unix.O_RDONLY}, {Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK}, {How: &unix.OpenHow{}}} {
					o.Action, o.Dirfd, o.Path = "open", unix.AT_FDCWD, path
					p.active.Store(true)
					if r := g.Do(o); r.Text != "shown" || r.Errno != 0 {
						t.Errorf("%s %+v: %+v", path, o, r)
					}
					p.active.Store(false)
					if r := g.Do(o); r.Text == "shown" || r.Text == "" || r.Errno != 0 {
						t.Errorf("%s %+v, with nothing to show: %+v", path, o, r)
					}
				}
			}
			p.active.Store(true)
			for _, o := range []order{{Path: "/proc/uptime", Flags: unix.O_RDONLY | unix.O_DIRECTORY}, {Path: "uptime", Flags: unix.O_NOFOLLOW}, {Path: "uptime/"}} {
				o.Action, o.Dirfd = "open", unix.AT_FDCWD
				if r := g.Do(o); r.Errno == 0 {
					t.Errorf("%+v: %+v", o, r)
				}
			}
		})
	}
}

// TestPresentingRandomPaths: by paths that nobody thought of a file is shown otherwise exactly where the kernel would open it.
func TestPresentingRandomPaths(t *testing.T) {
	p := newUptimePresenter(t)
	words := []string{"a", "b", "..", "..", "..", ".", "", "link", "up", "root", "file", "me", "cwd", "proc", "self", "thread-self", "uptime", "uptime", "uptime", "net", "task", "top", "nothing", "fd"}
	for name, s := range map[string]setting{"root": {}, "user": {UID: 1000, GID: 1000}, "in a directory": {Dir: "a/b"}} {
		t.Run(name, func(t *testing.T) {
			guests, trees := pair(t, s, startPresented)
			for _, dir := range trees {
				for link, target := range map[string]string{"uptime": "/proc/uptime", "top": "/proc", "a/uptime": "../up/uptime", "net": "/proc/self/task"} {
					if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := rand.New(rand.NewPCG(3, 4))
			shown := 0
			for range 3000 {
				parts := []string{[]string{"", "/", "/proc/", "/proc/self/"}[r.IntN(4)] + words[r.IntN(len(words))]}
				for range r.IntN(6) {
					parts = append(parts, words[r.IntN(len(words))])
				}
				if r.IntN(2) == 0 {
					parts = append(parts, "uptime")
				}
				o := order{Action: "open", Dirfd: unix.AT_FDCWD, Path: strings.Join(parts, "/"), Flags: []int{unix.O_RDONLY, unix.O_RDONLY | unix.O_NOFOLLOW}[r.IntN(2)] | unix.O_NONBLOCK}
				if r.IntN(3) == 0 {
					o.How = &unix.OpenHow{Flags: uint64(o.Flags)}
				}
				want, got := guests[0].Do(o), guests[1].Do(o)
				is := want.Errno == 0 && want.Ino == p.ino && want.Mode&unix.S_IFMT == unix.S_IFREG
				if is {
					shown++
				}
				if is != (got.Text == "shown") || want.Errno != got.Errno {
					t.Errorf("%q, flags %#o: the kernel %+v, presented %+v", o.Path, o.Flags, want, got)
				}
			}
			if shown < 20 {
				t.Errorf("only %d paths lead to what is shown", shown)
			}
		})
	}
}

// mount binds a file in the guest's mount namespace.
func (g *testGuest) mount(from, to string) {
	g.Helper()
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", g.Cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		g.Fatal(err)
	}
	defer unix.Close(fd)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNS)
		}
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		g.Fatal(err)
	}
}
