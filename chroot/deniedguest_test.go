package chroot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// deniedGuestVariable makes a process of the test binary a guest of the tests of denied paths: in a mount namespace and a root of its own, under
// a filter.
const deniedGuestVariable = "CHROOT_DENIED_GUEST"

type deniedOrder struct {
	Action string
	NR     uintptr
	Args   [6]uint64
	Paths  map[int]string // arguments that point to these
	How    string         // the same for a struct open_how, argument 2
	Other  string
	Times  int
	Argv   []string
}

type deniedOutcome struct {
	R     int64
	Errno unix.Errno
	Text  string
	Count map[string]int
}

func deniedGuestMain(self *testguest.Self) error {
	var root string
	if err := self.Setting(&root); err != nil {
		return err
	}
	// The mount namespace is its own.
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, m := range []struct{ source, target, kind string }{{"proc", "proc", "proc"}, {filepath.Join(root, "data"), "alias", ""}, {filepath.Join(root, "data/dir/sub"), "alias2", ""}} {
		flags := uintptr(0)
		if m.kind == "" {
			flags = unix.MS_BIND
		}
		if err := unix.Mount(m.source, filepath.Join(root, m.target), m.kind, flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := self.Confine(); err != nil {
		return err
	}
	return testguest.Serve(self, func(o deniedOrder) (deniedOutcome, error) { return deniedActions[o.Action](o), nil })
}

func (o deniedOrder) issue() (int64, unix.Errno) {
	args := o.Args
	var keep []*byte
	for i, path := range o.Paths {
		p, err := unix.BytePtrFromString(path)
		if err != nil {
			return -1, unix.EINVAL
		}
		keep = append(keep, p)
		args[i] = uint64(uintptr(unsafe.Pointer(p)))
	}
	if o.How != "" {
		how := []byte(o.How)
		keep = append(keep, &how[0])
		args[2] = uint64(uintptr(unsafe.Pointer(&how[0])))
	}
	r, _, errno := unix.Syscall6(o.NR, uintptr(args[0]), uintptr(args[1]), uintptr(args[2]), uintptr(args[3]), uintptr(args[4]), uintptr(args[5]))
	runtime.KeepAlive(keep)
	return int64(r), errno
}

var deniedActions = map[string]func(deniedOrder) deniedOutcome{
	"call": func(o deniedOrder) deniedOutcome {
		r, errno := o.issue()
		return deniedOutcome{R: r, Errno: errno}
	},
	// An open, and what is read then.
	"read": func(o deniedOrder) deniedOutcome {
		fd, errno := o.issue()
		if errno != 0 {
			return deniedOutcome{R: -1, Errno: errno}
		}
		defer unix.Close(int(fd))
		b := make([]byte, 100)
		n, err := unix.Read(int(fd), b)
		if err != nil {
			return deniedOutcome{R: fd, Text: err.Error()}
		}
		return deniedOutcome{R: fd, Text: string(b[:n])}
	},
	// Opens while another thread writes one path and another over the one that is being opened.
	"race": func(o deniedOrder) deniedOutcome {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return deniedOutcome{Text: err.Error()}
		}
		paths := [][]byte{[]byte(o.Paths[1] + "\x00"), []byte(o.Other + "\x00")}
		return deniedCompetition(o.Times, func(i int) { copy(page, paths[i%2]) }, func() (int64, unix.Errno) {
			r, _, errno := unix.Syscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&page[0])), unix.O_RDONLY, 0, 0, 0)
			return int64(r), errno
		})
	},
	// Opens while another thread has a link lead here and there.
	"swap": func(o deniedOrder) deniedOutcome {
		return deniedCompetition(o.Times, func(i int) {
			_ = unix.Unlink(o.Paths[1] + ".new")
			_ = unix.Symlink([]string{"/open/file", o.Other}[i%2], o.Paths[1]+".new")
			_ = unix.Rename(o.Paths[1]+".new", o.Paths[1])
		}, o.issue)
	},
	// Opens while another thread moves a directory around the denied file to and fro.
	"move": func(o deniedOrder) deniedOutcome {
		defer func() { _ = unix.Rename("/moved", "/data") }()
		return deniedCompetition(o.Times, func(i int) {
			if i%2 == 0 {
				_ = unix.Rename("/data", "/moved")
			} else {
				_ = unix.Rename("/moved", "/data")
			}
		}, o.issue)
	},
	// Links until told otherwise, to have one made in the moment of the denial.
	"links": func(o deniedOrder) deniedOutcome {
		stop := make(chan struct{})
		var done sync.WaitGroup
		done.Go(func() {
			runtime.LockOSThread()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_ = unix.Link("/data/dir/secret", fmt.Sprintf("/open/link%d", i))
				if i > 2 {
					_ = unix.Unlink(fmt.Sprintf("/open/link%d", i-3))
				}
			}
		})
		deniedLinks = func() { close(stop); done.Wait() }
		return deniedOutcome{}
	},
	"unlinks": func(deniedOrder) deniedOutcome {
		deniedLinks()
		r := deniedOutcome{Count: map[string]int{}}
		entries, err := os.ReadDir("/open")
		if err != nil {
			r.Text = err.Error()
		}
		for _, e := range entries {
			b, err := os.ReadFile("/open/" + e.Name())
			if err == nil {
				r.Count[string(b)]++
			}
		}
		return r
	},
	"exec": func(o deniedOrder) deniedOutcome {
		cmd := &exec.Cmd{Path: o.Argv[0], Args: o.Argv[1:], Dir: o.Other}
		b, err := cmd.CombinedOutput()
		r := deniedOutcome{Text: string(b)}
		if err != nil {
			r.Text += err.Error()
			if e, ok := err.(*os.PathError); ok {
				r.Errno, _ = e.Err.(unix.Errno)
			}
		}
		return r
	},
}

var deniedLinks func()

// deniedCompetition opens again and again while disturb runs in another thread, and counts what was read.
func deniedCompetition(times int, disturb func(i int), open func() (int64, unix.Errno)) deniedOutcome {
	var stop atomic.Bool
	var done sync.WaitGroup
	begun := make(chan struct{})
	done.Go(func() {
		runtime.LockOSThread()
		for i := 0; !stop.Load(); i++ {
			if i == 2 {
				close(begun)
			}
			disturb(i)
		}
	})
	<-begun
	r := deniedOutcome{Count: map[string]int{}}
	for range times {
		fd, errno := open()
		if errno != 0 {
			r.Count[errno.Error()]++
			continue
		}
		b := make([]byte, 100)
		n, _ := unix.Read(int(fd), b)
		unix.Close(int(fd))
		r.Count[string(b[:max(n, 0)])]++
	}
	stop.Store(true)
	done.Wait()
	return r
}

// deniedGuest is a running guest.
type deniedGuest struct {
	*testguest.Guest[deniedOrder, deniedOutcome]
	root     string // on the host
	denied   *DeniedPaths
	refusals atomic.Int32
}

type deniedOptions struct {
	unguarded bool // no filter
	exec      bool // execve is judged
	confine   func() error
	presenter onbehalf.Presenter
}

// startDenied starts a guest whose root has /data/dir/secret and more.
func startDenied(t testing.TB, o deniedOptions) *deniedGuest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: mounting takes root")
	}
	root := filepath.Join(t.TempDir(), "rootfs")
	deniedTree(t, root)
	overlay := seccompnotif.Overlay{Notify: DeniedNotifications(), Deny: DeniedDenials()}
	if o.exec {
		overlay.NotifyWhen = seccompnotif.CreationNotifications()
		overlay.Notify = append(overlay.Notify, "execve", "execveat")
		overlay.Deny = append(overlay.Deny, seccompnotif.CreationDenials()...)
	}
	options := testguest.Options{Variable: deniedGuestVariable, Setting: root, Flags: unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV}
	options.Change = func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} }
	if !o.unguarded {
		program, err := overlay.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		options.Program = program
	}
	g := &deniedGuest{Guest: testguest.Start[deniedOrder, deniedOutcome](t, options), root: root}
	g.watch(o)
	if !o.unguarded {
		g.supervise(o, overlay)
	}
	return g
}

// watch makes the set of denied paths.
func (g *deniedGuest) watch(o deniedOptions) {
	g.Helper()
	open := func(name string, flags int) int {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", g.Cmd.Process.Pid, name), flags|unix.O_CLOEXEC, 0)
		if err != nil {
			g.Fatal(err)
		}
		g.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	viewer, err := onbehalf.New(onbehalf.Config{Log: g.Errorf})
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		g.End()
		viewer.Close()
	})
	g.denied, err = NewDeniedPaths(DeniedConfig{
		Root: open("root", unix.O_PATH), MountNamespace: open("ns/mnt", unix.O_RDONLY), Confine: o.confine, Presenter: o.presenter, Viewer: viewer,
		Denied: func(*seccompnotif.Call, string) { g.refusals.Add(1) },
		Log:    func(format string, args ...any) { g.Errorf(format, args...) },
	})
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		g.End()
		if err := g.denied.Close(); err != nil {
			g.Error(err)
		}
	})
}

func (g *deniedGuest) supervise(o deniedOptions, overlay seccompnotif.Overlay) {
	g.Helper()
	table := seccompnotif.NewTable().Under(overlay)
	g.denied.Register(table)
	if o.exec {
		table.TrackCreation()
		g.denied.RegisterExec(table)
	}
	built, err := table.Build()
	if err != nil {
		g.Fatal(err)
	}
	s, err := seccompnotif.New(seccompnotif.Config{Table: built, Log: func(format string, args ...any) { g.Errorf(format, args...) }})
	if err != nil {
		g.Fatal(err)
	}
	if o.exec {
		if _, err := s.Enroll(g.Cmd.Process.Pid); err != nil {
			g.Fatal(err)
		}
	}
	if err := s.Attach(g.TakeListener()); err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		g.End()
		s.Wait()
		if err := s.Close(); err != nil {
			g.Error(err)
		}
	})
}

// deniedTree makes the guest's root.
func deniedTree(t testing.TB, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "alias", "alias2", "data/dir/sub", "open", "bin", "tmp"} {
		must(os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for name, text := range map[string]string{
		"data/dir/secret": "the secret", "data/dir/sub/deep": "the deep secret", "data/file": "the file", "data/beside": "beside", "open/file": "open", "data/dir/hard": "the hard secret",
	} {
		must(os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	busybox, err := os.ReadFile(busybox)
	must(err)
	must(os.Mkdir(filepath.Join(root, "dev"), 0o755))
	must(unix.Mknod(filepath.Join(root, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755))
	must(os.WriteFile(filepath.Join(root, "bin/tool"), busybox, 0o755))
	must(os.Link(filepath.Join(root, "bin/tool"), filepath.Join(root, "bin/busybox-alias")))
	must(os.WriteFile(filepath.Join(root, "bin/script"), []byte("#!/bin/busybox-alias echo\n"), 0o755))
	must(os.Link(filepath.Join(root, "data/file"), filepath.Join(root, "open/hard")))
	must(os.Link(filepath.Join(root, "data/dir/hard"), filepath.Join(root, "open/hard2")))
	must(os.Symlink("/data/dir", filepath.Join(root, "open/dir")))
	must(os.Symlink("/data/file", filepath.Join(root, "open/link")))
}

const currentDir = ^uint64(99) // AT_FDCWD

// read has the guest open a path and read.
func (g *deniedGuest) read(dirfd uint64, path string, flags uint64) deniedOutcome {
	g.Helper()
	return g.Do(deniedOrder{Action: "read", NR: unix.SYS_OPENAT, Args: [6]uint64{dirfd, 0, flags, 0o600}, Paths: map[int]string{1: path}})
}

// keep has the guest open a path and keep it open.
func (g *deniedGuest) keep(path string, flags uint64) uint64 {
	g.Helper()
	r := g.Do(deniedOrder{Action: "call", NR: unix.SYS_OPENAT, Args: [6]uint64{currentDir, 0, flags}, Paths: map[int]string{1: path}})
	if r.Errno != 0 {
		g.Fatalf("%s: %v", path, r.Errno)
	}
	return uint64(r.R)
}

// call has the guest make a system call; strings are paths.
func (g *deniedGuest) call(nr uintptr, args ...any) unix.Errno {
	g.Helper()
	o := deniedOrder{Action: "call", NR: nr, Paths: map[int]string{}}
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			o.Paths[i] = arg
		case int:
			o.Args[i] = uint64(arg)
		case uint64:
			o.Args[i] = arg
		}
	}
	return g.Do(o).Errno
}

func (g *deniedGuest) deny(paths ...string) {
	g.Helper()
	for _, path := range paths {
		if err := g.denied.DenyPath(path); err != nil {
			g.Fatal(err)
		}
	}
}

// secretIn tells which of the counted texts are secrets.
func secretIn(count map[string]int) []string {
	var found []string
	for text := range count {
		if strings.Contains(text, "secret") || text == "the file" {
			found = append(found, text)
		}
	}
	slices.Sort(found)
	return found
}
