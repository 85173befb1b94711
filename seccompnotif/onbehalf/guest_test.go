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
