package onbehalf

import (
	"encoding/gob"
	"fmt"
	"net"
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
)

// The tests run against real guests: the test binary started again, under a filter or, for comparison, without one. It makes the
// calls that the test asks it for over a socket.

const (
	guestEnv    = "ONBEHALF_GUEST"
	guestSocket = 3 // the descriptor that exec.Cmd gives the first extra file
)

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
	TTY         bool     // it has the terminal of descriptor 4 as controlling one
	Proc        bool     // a procfs of the guest's own pid namespace on /proc
	Namespaces  uintptr  // new ones
	TTL         string   // of the network namespace
	Landlock    []string // paths that its Landlock rules leave
	Program     []unix.SockFilter
}

func TestMain(m *testing.M) {
	if os.Getenv(guestEnv) != "" {
		if err := guestMain(); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func guestMain() error {
	runtime.LockOSThread()
	c, err := net.FileConn(os.NewFile(guestSocket, "socket"))
	if err != nil {
		return err
	}
	conn := c.(*net.UnixConn)
	in, out := gob.NewDecoder(conn), gob.NewEncoder(conn)
	var s setting
	if err := in.Decode(&s); err != nil {
		return err
	}
	if err := s.apply(); err != nil {
		return err
	}
	if s.Program != nil {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		p := unix.SockFprog{Len: uint16(len(s.Program)), Filter: &s.Program[0]}
		flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
		listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
		if errno != 0 {
			return errno
		}
		if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(listener)), nil); err != nil {
			return err
		}
		unix.Close(int(listener))
	}
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return nil // the test is done
		}
		action, ok := actions[o.Action]
		if !ok {
			return fmt.Errorf("no action %q", o.Action)
		}
		if err := out.Encode(action(o)); err != nil {
			return err
		}
	}
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
		if err := unix.IoctlSetInt(guestSocket+1, unix.TIOCSCTTY, 0); err != nil {
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
		if errno == unix.EINTR {
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

// guest is a running guest.
type testGuest struct {
	t        testing.TB
	cmd      *exec.Cmd
	conn     *net.UnixConn
	in       *gob.Decoder
	out      *gob.Encoder
	listener int
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
	if notify != nil {
		program, err := seccompnotif.Overlay{Notify: notify}.Assemble()
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
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), guestEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = append([]*os.File{theirs}, extra...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &attr
	// Not the host's /dev/null: guests try to change what their descriptors refer to, whose mount is not read-only.
	stdin, err := os.CreateTemp(t.TempDir(), "stdin")
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	cmd.Stdin = stdin
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	c, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	g := &testGuest{t: t, cmd: cmd, conn: c.(*net.UnixConn), listener: -1}
	t.Cleanup(g.end)
	g.in, g.out = gob.NewDecoder(g.conn), gob.NewEncoder(g.conn)
	if err := g.out.Encode(s); err != nil {
		t.Fatal(err)
	}
	if notify != nil {
		var b [1]byte
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := g.conn.ReadMsgUnix(b[:], oob)
		if err != nil {
			t.Fatalf("no listener from the guest: %v", err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			t.Fatalf("no listener from the guest: %v", err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		g.listener = fds[0]
	}
	return g
}

func (g *testGuest) end() {
	g.conn.Close()
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

func (g *testGuest) send(o order) {
	g.t.Helper()
	if err := g.out.Encode(o); err != nil {
		g.t.Fatal(err)
	}
}

func (g *testGuest) receive() outcome {
	g.t.Helper()
	var r outcome
	if err := g.in.Decode(&r); err != nil {
		g.t.Fatalf("the guest is gone: %v", err)
	}
	return r
}

func (g *testGuest) do(o order) outcome {
	g.t.Helper()
	g.send(o)
	return g.receive()
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
	g.t.Helper()
	all := map[int]seccompnotif.Handler{}
	for _, nr := range nrs {
		all[nr] = h
	}
	g.superviseAll(all)
}

func (g *testGuest) superviseAll(handlers map[int]seccompnotif.Handler) {
	g.t.Helper()
	table := seccompnotif.NewTable()
	for nr, h := range handlers {
		table.Handle(nr, h)
	}
	built, err := table.Build()
	if err != nil {
		g.t.Fatal(err)
	}
	s, err := seccompnotif.New(seccompnotif.Config{Table: built, Log: func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !strings.Contains(text, "not injected") {
			g.t.Errorf("%s", text)
		}
	}})
	if err != nil {
		g.t.Fatal(err)
	}
	if err := s.Attach(g.listener); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		g.end()
		s.Wait()
		if err := s.Close(); err != nil {
			g.t.Error(err)
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
