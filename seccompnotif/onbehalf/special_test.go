package onbehalf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// asleep waits until the guest's leader is in a system call and waits there.
func (g *testGuest) asleep() {
	g.Helper()
	testguest.Await(g, "the guest waits in openat", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", g.Cmd.Process.Pid))
		return err == nil && strings.HasPrefix(string(b), strconv.Itoa(unix.SYS_OPENAT)+" ")
	})
}

// TestFIFO has guests wait for the other end, while others are served.
func TestFIFO(t *testing.T) {
	for name, flags := range map[string]int{"read": unix.O_RDONLY, "write": unix.O_WRONLY} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tree(t), "fifo")
			g := supervised(t, setting{}, Config{}, allow)
			other := unix.O_RDWR
			g.Send(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, Flags: flags})
			g.asleep()
			// It waits for longer than the listener's thread would.
			time.Sleep(2 * patience)
			fd, err := unix.Open(path, other|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if r := g.Receive(); r.Errno != 0 || r.Mode&unix.S_IFMT != unix.S_IFIFO || r.Flags&unix.O_NONBLOCK != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestFIFOSignal interrupts the wait: the call starts again, as the guest's handlers ask for.
func TestFIFOSignal(t *testing.T) {
	path := filepath.Join(tree(t), "fifo")
	var calls atomic.Int32
	g := supervised(t, setting{}, Config{}, func(o *Object) (seccompnotif.Action, bool) {
		if o.Name() == "fifo" {
			calls.Add(1)
		}
		return seccompnotif.Action{}, false
	})
	g.Send(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, Flags: unix.O_RDONLY})
	// Before that the signal would interrupt a call that nobody has seen.
	testguest.Await(t, "the call", func() bool { return calls.Load() > 0 })
	g.asleep()
	if err := unix.Tgkill(g.Cmd.Process.Pid, g.Cmd.Process.Pid, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	testguest.Await(t, "the call starts again", func() bool { return calls.Load() > 1 })
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if r := g.Receive(); r.Errno != 0 {
		t.Errorf("%+v", r)
	}
}

// TestFIFOKilled has the guest die while it waits: nobody goes on waiting in its place, or the engine would not close.
func TestFIFOKilled(t *testing.T) {
	path := filepath.Join(tree(t), "fifo")
	g := supervised(t, setting{}, Config{}, allow)
	g.Send(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, Flags: unix.O_WRONLY})
	g.asleep()
	if err := g.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestTTY opens /dev/tty, which is the guest's terminal and not the supervisor's.
func TestTTY(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	g := supervised(t, setting{TTY: true}, Config{}, allow, slave)
	if r := g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "/dev/tty", Flags: unix.O_RDWR, Write: "hello"}); r.Errno != 0 {
		t.Fatalf("%+v", r)
	}
	b := make([]byte, len("hello"))
	if n, err := io.ReadFull(master, b); err != nil || string(b) != "hello" {
		t.Errorf("the terminal got %q, %v", b[:n], err)
	}
	without := supervised(t, setting{}, Config{}, allow)
	if err := unix.Access("/dev/tty", unix.F_OK); err != nil {
		t.Fatal(err)
	}
	// The test's own terminal, if it has one, is that of this guest as well.
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	if r := without.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "/dev/tty"}); r.Errno != errnoOf(err) {
		t.Errorf("%+v; without a supervisor %v", r, err)
	}
}

// TestNamespaces opens what is different in each namespace. The supervisor's own must not be seen.
func TestNamespaces(t *testing.T) {
	const path, ttl = "/proc/sys/net/ipv4/ip_default_ttl", "77"
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(own)) == ttl {
		t.Fatal("the test's own namespace has the value by which the guest's is to be told")
	}
	attr := syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	g := startGuestWith(t, setting{TTL: ttl, Proc: true}, openCalls, attr)
	g.superviseWith(Opens(), newEngine(t, Config{}).Opener(allow))
	open := func(path string) outcome {
		t.Helper()
		r := g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path})
		if r.Errno != 0 {
			t.Errorf("%s: %v", path, r.Errno)
		}
		return r
	}
	if r := open(path); strings.TrimSpace(r.Text) != ttl {
		t.Errorf("%s: %q", path, r.Text)
	}
	// It is process 1 there.
	for _, path := range []string{"/proc/self/stat", "/proc/thread-self/stat", "/proc/self/task/1/stat", "/proc/thread-self/../1/stat"} {
		if r := open(path); !strings.HasPrefix(r.Text, "1 (") {
			t.Errorf("%s: %q", path, r.Text)
		}
	}
	open("/dev/stdin")
	open("/proc/self/fd/0")
	kept := g.Do(order{Action: "keep", Dirfd: unix.AT_FDCWD, Path: "/proc/self"})
	if r := g.Do(order{Action: "open", Dirfd: kept.FD, Path: "stat"}); !strings.HasPrefix(r.Text, "1 (") {
		t.Errorf("stat of a kept directory: %+v", r)
	}
	if r := g.Do(order{Action: "open", Dirfd: kept.FD, Path: "fd/0"}); r.Errno != 0 {
		t.Errorf("fd/0 of a kept directory: %+v", r)
	}
}

// TestRace has a thread exchange the path while it is being opened.
func TestRace(t *testing.T) {
	dir := tree(t)
	secret := filepath.Join(dir, "a/b/secret")
	if err := os.WriteFile(secret, []byte("the secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(secret, &st); err != nil {
		t.Fatal(err)
	}
	denied := Inode{st.Dev, st.Ino}
	o := order{Action: "race", Path: filepath.Join(dir, "a/b/./file") + "\x00", Other: secret + "\x00", Write: "the secret", Times: 3000}
	t.Run("judged", func(t *testing.T) {
		g := supervised(t, setting{}, Config{}, func(o *Object) (seccompnotif.Action, bool) {
			return seccompnotif.Errno(unix.EACCES), o.Identity() == denied
		})
		testguest.Await(t, "a successful open", func() bool {
			r := g.Do(o)
			if r.Count != 0 {
				t.Fatalf("the secret was read %d times, the other file %d times", r.Count, r.FD)
			}
			return r.FD > 0
		})
	})
	t.Run("control", func(t *testing.T) {
		g := startGuest(t, setting{}, openCalls)
		g.superviseWith(Opens(), seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action {
			if path, err := c.ReadString(c.Arg(1), unix.PathMax); err == nil && path == secret {
				return seccompnotif.Errno(unix.EACCES)
			}
			return seccompnotif.Continue() // which is what must not be done: that is the point
		}))
		// On a busy machine the two threads may hardly run at the same time.
		testguest.Await(t, "a supervisor that lets the call continue is beaten, or the attack is none", func() bool { return g.Do(o).Count > 0 })
	})
}

// TestSwappedLink has a link lead to one and the other.
func TestSwappedLink(t *testing.T) {
	dir := tree(t)
	secret := filepath.Join(dir, "secret")
	var st unix.Stat_t
	if err := unix.Stat(secret, &st); err != nil {
		t.Fatal(err)
	}
	denied := Inode{st.Dev, st.Ino}
	g := supervised(t, setting{}, Config{}, func(o *Object) (seccompnotif.Action, bool) {
		return seccompnotif.Errno(unix.EACCES), o.Identity() == denied
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			temporary := filepath.Join(dir, "new")
			_ = os.Symlink([]string{"file", "secret"}[i%2], temporary)
			_ = os.Rename(temporary, filepath.Join(dir, "swapped"))
		}
	}()
	ends := map[string]int{}
	for range 2000 {
		r := g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: filepath.Join(dir, "swapped")})
		ends[r.Text]++
	}
	close(stop)
	<-stopped
	if ends["secret"] != 0 || ends["file"] == 0 {
		t.Errorf("%v", ends)
	}
}

// TestScopedDuringRenames has a lookup that must stay beneath its start disturbed by renames elsewhere. The kernel fails some of these with EAGAIN,
// upon which the guest tries again; nothing else may come of it.
func TestScopedDuringRenames(t *testing.T) {
	dir := tree(t)
	g := supervised(t, setting{Dir: dir}, Config{}, allow)
	elsewhere := t.TempDir()
	from, to := filepath.Join(elsewhere, "from"), filepath.Join(elsewhere, "to")
	if err := os.Mkdir(from, 0o700); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(from, to)
			_ = os.Rename(to, from)
		}
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	how := unix.OpenHow{Flags: unix.O_RDONLY, Resolve: unix.RESOLVE_BENEATH}
	disturbed := false
	for deadline := time.Now().Add(time.Minute); !disturbed; {
		fd, err := unix.Openat2(unix.AT_FDCWD, "../onbehalf", &unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_IN_ROOT})
		closeAll(fd)
		if disturbed = err == unix.EAGAIN; !disturbed && time.Now().After(deadline) {
			t.Fatal("the kernel never says EAGAIN: the disturbance is none")
		}
	}
	for range 1000 {
		if r := g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "a/b/../../file", How: &how}); r.Errno != 0 || r.Text != "file" {
			t.Fatalf("%+v", r)
		}
	}
}

func TestDescriptorLimit(t *testing.T) {
	g := supervised(t, setting{}, Config{}, allow)
	fd := g.Do(order{Action: "keep", Dirfd: unix.AT_FDCWD, Path: "/etc/passwd"}).FD
	limit := unix.Rlimit{Cur: uint64(fd), Max: uint64(fd)}
	if err := unix.Prlimit(g.Cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	if r := g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "/etc/passwd"}); r.Errno != unix.EACCES {
		t.Errorf("%+v", r)
	}
}

// TestUnfit has threads that cannot be confined.
func TestUnfit(t *testing.T) {
	refused := errors.New("refused")
	if _, err := New(Config{Confine: func() error { return refused }}); !errors.Is(err, refused) {
		t.Errorf("an engine whose threads cannot be confined: %v", err)
	}
	first := true
	e, err := New(Config{Confine: func() error {
		if first {
			first = false
			return nil
		}
		return refused
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.on(func(*worker) unix.Errno { panic("on purpose") }); err == nil {
		t.Error("a panic is no error")
	}
	if err := e.on(func(*worker) unix.Errno { return 0 }); !errors.Is(err, refused) {
		t.Errorf("after the first thread is gone: %v", err)
	}
}

// TestNothingIsLeftBehind counts descriptors and threads around opens and changes of all kinds.
func TestNothingIsLeftBehind(t *testing.T) {
	dir := tree(t)
	e := newEngine(t, Config{})
	refuse := func(o *Object) (seccompnotif.Action, bool) {
		if o.Exists() && o.Ancestors(func(int, Inode) bool { return true }) != 0 {
			return seccompnotif.Errno(unix.EIO), true
		}
		return seccompnotif.Errno(unix.EACCES), o.Name() == "secret"
	}
	attr := syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	g := startGuestWith(t, setting{Tree: dir, Dir: dir}, append(append([]string{}, openCalls...), changeCalls...), attr)
	table := map[int]seccompnotif.Handler{}
	for _, nr := range Opens() {
		table[nr] = e.Opener(refuse)
	}
	for _, nr := range Changes() {
		table[nr] = e.changer(refuse)
	}
	g.superviseAll(table)
	round := func() {
		for _, path := range []string{"file", "secret", "link", "nothing", "a/b/c/file", "loop", "closed", "/proc/self/maps", "/proc/self/fd/0", "/proc/self/nothing", "me/exe", "/dev/tty", "null", "dangling", "fifo", strings.Repeat("x", 256)} {
			for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR | unix.O_CREAT, unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL, unix.O_PATH, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_RDWR | unix.O_TMPFILE} {
				g.Do(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, Flags: flags | unix.O_NONBLOCK, Mode: 0o600})
			}
			for _, o := range changes(path+"-", "other") {
				g.Do(o)
			}
			g.Do(call(unix.SYS_FCHMODAT, here, "file", 0o644)) // nothing outside of the tree
		}
	}
	count := func() (fds, threads int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), len(tasks)
	}
	round()
	fds, threads := count()
	for range 5 {
		round()
	}
	// A worker more, or one that is about to end, makes no trend.
	const slack = 6
	var f, n int
	testguest.Await(t, "nothing has come to stay", func() bool {
		f, n = count()
		return f <= fds+slack && n <= threads+slack
	})
	t.Logf("%d descriptors and %d threads have become %d and %d", fds, threads, f, n)
}
