package onbehalf

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// guestVariable makes a process of the test binary a guest, which comes under a filter or, for comparison, under none.
const guestVariable = "ONBEHALF_GUEST"

// setting is what a guest is, before it comes under its filter.
type setting struct {
	Tree        string // all that can be written to
	From        string // where the guest is when it changes its root
	Root, Dir   string
	UID, GID    int
	Groups      []int
	Umask       int
	Keep        uint64 // capabilities that a guest which stays root keeps; zero is all
	NonDumpable bool
	TTY         bool     // it has the terminal of its first extra descriptor as controlling one
	Proc        bool     // a procfs of the guest's own pid namespace on /proc
	Namespaces  uintptr  // new ones
	TTL         string   // of the network namespace
	Landlock    []string // paths that its Landlock rules leave
}

func TestMain(m *testing.M) {
	testguest.Main(guestVariable, func(self *testguest.Self) error {
		var s setting
		if err := self.Setting(&s); err != nil {
			return err
		}
		if err := s.apply(); err != nil {
			return err
		}
		if err := self.Confine(); err != nil {
			return err
		}
		return testguest.Serve(self, func(o order) (outcome, error) {
			action, ok := actions[o.Action]
			if !ok {
				return outcome{}, fmt.Errorf("no action %q", o.Action)
			}
			return action(o), nil
		})
	})
	os.Exit(m.Run())
}

func (s *setting) apply() error {
	if s.Namespaces != 0 {
		// Of the leader alone, which makes all calls.
		if err := unix.Unshare(int(s.Namespaces)); err != nil {
			return err
		}
	}
	if s.Tree != "" {
		// The mount namespace is the guest's own.
		if err := unix.Mount(s.Tree, s.Tree, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &readOnly); err != nil {
			return err
		}
		writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, s.Tree, 0, &writable); err != nil {
			return err
		}
	}
	if s.From != "" {
		if err := unix.Chdir(s.From); err != nil {
			return err
		}
	}
	if s.Proc {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return err
		}
	}
	if s.TTL != "" {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte(s.TTL), 0); err != nil {
			return err
		}
	}
	if s.TTY {
		if _, err := unix.Setsid(); err != nil {
			return err
		}
		if err := unix.IoctlSetInt(testguest.FirstExtra, unix.TIOCSCTTY, 0); err != nil {
			return err
		}
	}
	if s.Root != "" {
		if err := unix.Chroot(s.Root); err != nil {
			return err
		}
	}
	if s.Dir != "" {
		if err := unix.Chdir(s.Dir); err != nil {
			return err
		}
	}
	unix.Umask(s.Umask)
	if s.UID != 0 {
		if err := syscall.Setgroups(s.Groups); err != nil {
			return err
		}
		if err := syscall.Setresgid(s.GID, s.GID, s.GID); err != nil {
			return err
		}
		if err := syscall.Setresuid(s.UID, s.UID, s.UID); err != nil {
			return err
		}
		if !s.NonDumpable {
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
				return err
			}
		}
	}
	if s.Landlock != nil {
		if err := restrict(s.Landlock); err != nil {
			return err
		}
	}
	if s.Keep != 0 {
		return setEffective(s.Keep, s.Keep) // of the leader, which makes all calls
	}
	return nil
}

// order is something for the guest to do, outcome what came of it.
type order struct {
	Action string
	Dirfd  int
	Path   string
	Flags  int
	Mode   uint32
	How    *unix.OpenHow
	Size   int // of the struct open_how, if it is not ours
	Write  string
	Other  string
	Times  int

	NR      uintptr
	Args    [6]uint64
	Strings map[int]string // arguments that are pointers to these bytes
}

type outcome struct {
	Errno   unix.Errno
	FD      int
	Dev     uint64
	Ino     uint64
	Mode    uint32
	UID     uint32
	GID     uint32
	Flags   int
	Cloexec bool
	Text    string
	Count   int
	Paths   []string
}

var actions = map[string]func(order) outcome{
	"open": func(o order) outcome {
		fd, errno := o.open()
		if errno != 0 {
			return outcome{Errno: errno, FD: -1}
		}
		defer unix.Close(fd)
		return describe(fd, o)
	},
	"keep": func(o order) outcome { // the descriptor stays open
		fd, errno := o.open()
		return outcome{Errno: errno, FD: fd}
	},
	"call": func(o order) outcome {
		var keep [][]byte
		for i, s := range o.Strings {
			b := append([]byte(s), 0)
			keep = append(keep, b)
			o.Args[i] = uint64(uintptr(unsafe.Pointer(&b[0])))
		}
		_, _, errno := unix.Syscall6(o.NR, uintptr(o.Args[0]), uintptr(o.Args[1]), uintptr(o.Args[2]), uintptr(o.Args[3]), uintptr(o.Args[4]), uintptr(o.Args[5]))
		runtime.KeepAlive(keep)
		return outcome{Errno: errno}
	},
	"pid":   func(order) outcome { return outcome{FD: os.Getpid()} },
	"close": func(o order) outcome { return outcome{Errno: errnoOf(unix.Close(o.Dirfd))} },
	// Another thread writes one path and the other over the one that is being opened.
	"race": func(o order) outcome {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return outcome{Errno: errnoOf(err)}
		}
		var stop atomic.Bool
		defer stop.Store(true)
		copy(page, o.Path)
		go func() {
			runtime.LockOSThread()
			for !stop.Load() {
				copy(page, o.Path)
				copy(page, o.Other)
			}
		}()
		r := outcome{}
		for range o.Times {
			fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&page[0])), unix.O_RDONLY, 0, 0, 0)
			if errno != 0 {
				continue
			}
			var b [64]byte
			n, _ := unix.Read(int(fd), b[:])
			unix.Close(int(fd))
			if string(b[:n]) == o.Write {
				r.Count++
			} else {
				r.FD++
			}
		}
		return r
	},
	"times": func(o order) outcome {
		for range o.Times {
			fd, errno := o.open()
			if errno != 0 {
				return outcome{Errno: errno}
			}
			unix.Close(fd)
		}
		return outcome{}
	},
}

// scoped tells whether the kernel answers EAGAIN, and openat2(2) says to try again, if something is renamed or mounted meanwhile: maybe by other tests.
func (o *order) scoped() bool {
	return o.How != nil && o.How.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0
}

func (o *order) open() (int, unix.Errno) {
	path, err := unix.BytePtrFromString(o.Path)
	if err != nil {
		return -1, unix.EINVAL
	}
	for {
		var fd uintptr
		var errno unix.Errno
		if o.How != nil {
			size := uintptr(sizeofHow)
			if o.Size != 0 {
				size = uintptr(o.Size)
			}
			fd, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(o.Dirfd), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(o.How)), size, 0, 0)
		} else {
			fd, _, errno = unix.Syscall6(unix.SYS_OPENAT, uintptr(o.Dirfd), uintptr(unsafe.Pointer(path)), uintptr(o.Flags), uintptr(o.Mode), 0, 0)
		}
		if errno == unix.EINTR || errno == unix.EAGAIN && o.scoped() {
			continue
		}
		if errno != 0 {
			return -1, errno
		}
		return int(fd), 0
	}
}

func describe(fd int, o order) outcome {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return outcome{Errno: errnoOf(err)}
	}
	r := outcome{FD: fd, Dev: st.Dev, Ino: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid}
	r.Flags, _ = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	cloexec, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	r.Cloexec = cloexec&unix.FD_CLOEXEC != 0
	if o.Write != "" {
		_, err := unix.Write(fd, []byte(o.Write))
		r.Errno = errnoOf(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		b := make([]byte, 200)
		n, err := unix.Read(fd, b)
		if err == nil {
			r.Text = string(b[:n])
		}
	}
	return r
}

// testGuest is a running guest.
type testGuest struct {
	*testguest.Guest[order, outcome]
}

// startGuest starts a guest; with notify it is under a filter that notifies these calls.
func startGuest(t testing.TB, s setting, notify []string, extra ...*os.File) *testGuest {
	t.Helper()
	return startGuestWith(t, s, notify, syscall.SysProcAttr{}, extra...)
}

func startGuestWith(t testing.TB, s setting, notify []string, attr syscall.SysProcAttr, extra ...*os.File) *testGuest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: acting as other users takes root")
	}
	options := testguest.Options{Variable: guestVariable, Setting: s, Flags: unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV}
	if notify != nil {
		program, err := seccompnotif.Overlay{Notify: notify}.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		options.Program = program
	}
	// Not the host's /dev/null: guests try to change what their descriptors refer to, whose mount is not read-only.
	stdin, err := os.CreateTemp(t.TempDir(), "stdin")
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	options.Change = func(cmd *exec.Cmd) {
		cmd.ExtraFiles = append(cmd.ExtraFiles, extra...)
		cmd.SysProcAttr = &attr
		cmd.Stdin = stdin
	}
	return &testGuest{testguest.Start[order, outcome](t, options)}
}

var openCalls = []string{"open", "creat", "openat", "openat2"}

func allow(*Object) (seccompnotif.Action, bool) { return seccompnotif.Action{}, false }

// supervised starts a guest whose opens an engine makes.
func supervised(t testing.TB, s setting, config Config, judge Judge, extra ...*os.File) *testGuest {
	t.Helper()
	g := startGuest(t, s, openCalls, extra...)
	g.superviseWith(Opens(), newEngine(t, config).Opener(judge))
	return g
}

func newEngine(t testing.TB, config Config) *Engine {
	t.Helper()
	if config.Log == nil {
		config.Log = func(format string, args ...any) { t.Errorf(format, args...) }
	}
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (g *testGuest) superviseWith(nrs []int, h seccompnotif.Handler) {
	g.Helper()
	all := map[int]seccompnotif.Handler{}
	for _, nr := range nrs {
		all[nr] = h
	}
	g.superviseAll(all)
}

func (g *testGuest) superviseAll(handlers map[int]seccompnotif.Handler) {
	g.Helper()
	table := seccompnotif.NewTable()
	for nr, h := range handlers {
		table.Handle(nr, h)
	}
	built, err := table.Build()
	if err != nil {
		g.Fatal(err)
	}
	s, err := seccompnotif.New(seccompnotif.Config{Table: built, Log: func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !strings.Contains(text, "not injected") {
			g.Errorf("%s", text)
		}
	}})
	if err != nil {
		g.Fatal(err)
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

// restrict puts the calling thread under Landlock rules that leave reading and writing beneath some paths.
func restrict(paths []string) error {
	const (
		execute, writeFile, readFile, readDir = 1 << 0, 1 << 1, 1 << 2, 1 << 3
		makeReg                               = 1 << 8
		all                                   = execute | writeFile | readFile | readDir | makeReg
		beneath                               = 1 // LANDLOCK_RULE_PATH_BENEATH
	)
	handled := uint64(all)
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), 8, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(ruleset))
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		rule := struct {
			access uint64
			parent int32
		}{all, int32(fd)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, beneath, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		unix.Close(fd)
		if errno != 0 {
			return fmt.Errorf("landlock_add_rule: %s: %w", path, errno)
		}
	}
	if err := rawErr(unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}
