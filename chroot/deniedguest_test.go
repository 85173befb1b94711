package chroot

import (
	"encoding/gob"
	"fmt"
	"net"
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
)

// The tests of denied paths run against real guests: the test binary started again, in a mount namespace and a root of its own, under a filter.
// It does what the test asks it for over a socket.

const (
	deniedGuestEnv    = "CHROOT_DENIED_GUEST"
	deniedGuestSocket = 3
)

type deniedStart struct {
	Root    string
	Program []unix.SockFilter
}

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

func deniedGuestMain() error {
	runtime.LockOSThread()
	c, err := net.FileConn(os.NewFile(deniedGuestSocket, "socket"))
	if err != nil {
		return err
	}
	conn := c.(*net.UnixConn)
	in, out := gob.NewDecoder(conn), gob.NewEncoder(conn)
	var s deniedStart
	if err := in.Decode(&s); err != nil {
		return err
	}
	// The mount namespace is its own.
	if err := unix.Mount(s.Root, s.Root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, m := range []struct{ source, target, kind string }{{"proc", "proc", "proc"}, {filepath.Join(s.Root, "data"), "alias", ""}, {filepath.Join(s.Root, "data/dir/sub"), "alias2", ""}} {
		flags := uintptr(0)
		if m.kind == "" {
			flags = unix.MS_BIND
		}
		if err := unix.Mount(m.source, filepath.Join(s.Root, m.target), m.kind, flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := unix.Chdir(s.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	listener := -1
	if s.Program != nil {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		p := unix.SockFprog{Len: uint16(len(s.Program)), Filter: &s.Program[0]}
		flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
		if errno != 0 {
			return errno
		}
		listener = int(fd)
	}
	rights := []byte(nil)
	if listener >= 0 {
		rights = unix.UnixRights(listener)
	}
	if _, _, err := conn.WriteMsgUnix([]byte{0}, rights, nil); err != nil {
		return err
	}
	if listener >= 0 {
		unix.Close(listener)
	}
	for {
		var o deniedOrder
		if err := in.Decode(&o); err != nil {
			return nil // the test is done
		}
		if err := out.Encode(deniedActions[o.Action](o)); err != nil {
			return err
		}
	}
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
	testing.TB
	cmd      *exec.Cmd
	conn     *net.UnixConn
	in       *gob.Decoder
	out      *gob.Encoder
	root     string // on the host
	denied   *DeniedPaths
	refusals atomic.Int32
}

type deniedOptions struct {
	unguarded bool // no filter
	exec      bool // execve is judged
	confine   func() error
}

// startDenied starts a guest whose root has /data/dir/secret and more.
func startDenied(t testing.TB, o deniedOptions) *deniedGuest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: mounting takes root")
	}
	g := &deniedGuest{TB: t, root: filepath.Join(t.TempDir(), "rootfs")}
	g.tree()
	s := deniedStart{Root: g.root}
	overlay := seccompnotif.Overlay{Notify: DeniedNotifications(), Deny: DeniedDenials()}
	if o.exec {
		overlay.NotifyWhen = seccompnotif.CreationNotifications()
		overlay.Notify = append(overlay.Notify, "execve", "execveat")
		overlay.Deny = append(overlay.Deny, seccompnotif.CreationDenials()...)
	}
	if !o.unguarded {
		program, err := overlay.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		s.Program = program
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(pair[1]), "guest"), os.NewFile(uintptr(pair[0]), "test")
	g.cmd = exec.Command("/proc/self/exe")
	g.cmd.Env = append(os.Environ(), deniedGuestEnv+"=1", "GORACE=atexit_sleep_ms=0")
	g.cmd.ExtraFiles = []*os.File{theirs}
	g.cmd.Stderr = os.Stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	c, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	g.conn = c.(*net.UnixConn)
	t.Cleanup(g.end)
	g.in, g.out = gob.NewDecoder(g.conn), gob.NewEncoder(g.conn)
	if err := g.out.Encode(s); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := g.conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		t.Fatalf("the guest is gone: %v", err)
	}
	if o.unguarded {
		g.watch(o)
		return g
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("no listener from the guest: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	g.watch(o)
	g.supervise(o, overlay, fds[0])
	return g
}

// watch makes the set of denied paths.
func (g *deniedGuest) watch(o deniedOptions) {
	g.Helper()
	open := func(name string, flags int) int {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", g.cmd.Process.Pid, name), flags|unix.O_CLOEXEC, 0)
		if err != nil {
			g.Fatal(err)
		}
		g.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	var err error
	g.denied, err = NewDeniedPaths(DeniedConfig{
		Root: open("root", unix.O_PATH), MountNamespace: open("ns/mnt", unix.O_RDONLY), Confine: o.confine,
		Denied: func(*seccompnotif.Call, string) { g.refusals.Add(1) },
		Log:    func(format string, args ...any) { g.Errorf(format, args...) },
	})
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		g.end()
		if err := g.denied.Close(); err != nil {
			g.Error(err)
		}
	})
}

func (g *deniedGuest) supervise(o deniedOptions, overlay seccompnotif.Overlay, listener int) {
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
		if _, err := s.Enroll(g.cmd.Process.Pid); err != nil {
			g.Fatal(err)
		}
	}
	if err := s.Attach(listener); err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		g.end()
		s.Wait()
		if err := s.Close(); err != nil {
			g.Error(err)
		}
	})
}

// tree makes the guest's root.
func (g *deniedGuest) tree() {
	g.Helper()
	must := func(err error) {
		g.Helper()
		if err != nil {
			g.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "alias", "alias2", "data/dir/sub", "open", "bin", "tmp"} {
		must(os.MkdirAll(filepath.Join(g.root, dir), 0o755))
	}
	for name, text := range map[string]string{
		"data/dir/secret": "the secret", "data/dir/sub/deep": "the deep secret", "data/file": "the file", "data/beside": "beside", "open/file": "open", "data/dir/hard": "the hard secret",
	} {
		must(os.WriteFile(filepath.Join(g.root, name), []byte(text), 0o644))
	}
	busybox, err := os.ReadFile(busybox)
	must(err)
	must(os.Mkdir(filepath.Join(g.root, "dev"), 0o755))
	must(unix.Mknod(filepath.Join(g.root, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(os.WriteFile(filepath.Join(g.root, "bin/busybox"), busybox, 0o755))
	must(os.WriteFile(filepath.Join(g.root, "bin/tool"), busybox, 0o755))
	must(os.Link(filepath.Join(g.root, "bin/tool"), filepath.Join(g.root, "bin/busybox-alias")))
	must(os.WriteFile(filepath.Join(g.root, "bin/script"), []byte("#!/bin/busybox-alias echo\n"), 0o755))
	must(os.Link(filepath.Join(g.root, "data/file"), filepath.Join(g.root, "open/hard")))
	must(os.Link(filepath.Join(g.root, "data/dir/hard"), filepath.Join(g.root, "open/hard2")))
	must(os.Symlink("/data/dir", filepath.Join(g.root, "open/dir")))
	must(os.Symlink("/data/file", filepath.Join(g.root, "open/link")))
}

func (g *deniedGuest) end() {
	g.conn.Close()
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

func (g *deniedGuest) do(o deniedOrder) deniedOutcome {
	g.Helper()
	if err := g.out.Encode(o); err != nil {
		g.Fatal(err)
	}
	var r deniedOutcome
	if err := g.in.Decode(&r); err != nil {
		g.Fatalf("the guest is gone: %v", err)
	}
	return r
}

const currentDir = ^uint64(99) // AT_FDCWD

// read has the guest open a path and read.
func (g *deniedGuest) read(dirfd uint64, path string, flags uint64) deniedOutcome {
	g.Helper()
	return g.do(deniedOrder{Action: "read", NR: unix.SYS_OPENAT, Args: [6]uint64{dirfd, 0, flags, 0o600}, Paths: map[int]string{1: path}})
}

// keep has the guest open a path and keep it open.
func (g *deniedGuest) keep(path string, flags uint64) uint64 {
	g.Helper()
	r := g.do(deniedOrder{Action: "call", NR: unix.SYS_OPENAT, Args: [6]uint64{currentDir, 0, flags}, Paths: map[int]string{1: path}})
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
	return g.do(o).Errno
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
