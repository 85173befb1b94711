package landlock

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// deed is one thing that a victim tries. The answer is the errno, 0 for success.
type deed struct {
	Do   string // a key of deeds
	A, B string // paths of the host, or a name or number
}

const victimEnv = "LANDLOCK_TEST_DEEDS"

// rulesetFD is where a victim finds the ruleset: the first of exec.Cmd's ExtraFiles.
const rulesetFD = 3

func TestMain(m *testing.M) {
	if text := os.Getenv(victimEnv); text != "" {
		victim(text)
		return
	}
	os.Exit(m.Run())
}

// victim restricts one locked thread, on which everything below then runs, and does what it is told to.
func victim(text string) {
	runtime.LockOSThread()
	var list []deed
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		panic(err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if err := ll.LandlockRestrictSelf(rulesetFD, 0); err != nil {
		panic(err)
	}
	answers := make([]unix.Errno, len(list))
	for i, one := range list {
		if err := deeds[one.Do](one.A, one.B); err != nil && !errors.As(err, &answers[i]) {
			panic(err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}

// open opens and closes.
func open(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

var deeds = map[string]func(a, b string) error{
	"read":   func(a, _ string) error { return open(a, unix.O_RDONLY) },
	"write":  func(a, _ string) error { return open(a, unix.O_WRONLY) },
	"create": func(a, _ string) error { return open(a, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL) },
	"list": func(a, _ string) error {
		return open(a, unix.O_RDONLY|unix.O_DIRECTORY)
	},
	"remove":   func(a, _ string) error { return unix.Unlink(a) },
	"mkdir":    func(a, _ string) error { return unix.Mkdir(a, 0o700) },
	"rmdir":    func(a, _ string) error { return unix.Rmdir(a) },
	"symlink":  func(a, b string) error { return unix.Symlink(a, b) },
	"fifo":     func(a, _ string) error { return unix.Mknod(a, unix.S_IFIFO|0o600, 0) },
	"rename":   func(a, b string) error { return unix.Rename(a, b) },
	"link":     func(a, b string) error { return unix.Link(a, b) },
	"truncate": func(a, _ string) error { return unix.Truncate(a, 1) },
	"socket file": func(a, _ string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Bind(fd, &unix.SockaddrUnix{Name: a})
	},
	// ENOTTY from a device that has no terminal, once Landlock lets the ioctl through.
	"ioctl": func(a, _ string) error {
		fd, err := unix.Open(a, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		_, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	},
	// ENOEXEC from a file that is no program, once Landlock lets it be executed.
	"execute": func(a, _ string) error { return unix.Exec(a, []string{a}, nil) },
	"connect": func(a, _ string) error {
		return tcp(a, unix.Connect)
	},
	"bind": func(a, _ string) error { return tcp(a, unix.Bind) },
	"signal": func(a, _ string) error {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		if pid == 0 {
			pid = os.Getpid()
		}
		return unix.Kill(pid, 0)
	},
	"abstract": func(a, _ string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Connect(fd, &unix.SockaddrUnix{Name: a})
	},
	"abstract inside": func(a, _ string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: a}); err != nil {
			return err
		}
		if err := unix.Listen(fd, 1); err != nil {
			return err
		}
		other, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(other) }()
		return unix.Connect(other, &unix.SockaddrUnix{Name: a})
	},
}

func tcp(port string, call func(int, unix.Sockaddr) error) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return call(fd, &unix.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}})
}

// trial is a deed and what must come of it.
type trial struct {
	deed
	want unix.Errno
}

// try has a victim, restricted by the request's ruleset, do one deed after another. Extra files follow the ruleset's
// descriptor.
func try(t *testing.T, request Request, opener Opener, trials []trial, extra ...*os.File) {
	t.Helper()
	ruleset, err := Plan(request, running(t))
	if err != nil {
		t.Fatal(err)
	}
	tryRuleset(t, ruleset, opener, trials, extra...)
}

func tryRuleset(t *testing.T, ruleset Ruleset, opener Opener, trials []trial, extra ...*os.File) {
	t.Helper()
	fd, err := ruleset.Create(opener)
	if err != nil {
		t.Fatal(err)
	}
	tryFD(t, fd, trials, extra...)
}

// tryFD takes over the ruleset's descriptor.
func tryFD(t *testing.T, fd int, trials []trial, extra ...*os.File) {
	t.Helper()
	file := os.NewFile(uintptr(fd), "ruleset")
	defer func() { _ = file.Close() }()
	list := make([]deed, len(trials))
	for i, one := range trials {
		list[i] = one.deed
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self)
	command.Env = append(os.Environ(), victimEnv+"="+string(text))
	command.ExtraFiles = append([]*os.File{file}, extra...)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []unix.Errno
	if err := json.Unmarshal(output, &answers); err != nil {
		t.Fatalf("%s: %v", output, err)
	}
	for i, one := range trials {
		if answers[i] != one.want {
			t.Errorf("%s %s %s: errno %d (%v), want %d (%v)", one.Do, one.A, one.B, answers[i], answers[i], one.want, one.want)
		}
	}
}

// running is the kernel's ABI. The project's tests need what the project's protections need.
func running(t *testing.T) ABI {
	t.Helper()
	abi, err := Probe()
	if err != nil {
		t.Fatalf("this host cannot run the tests: %v", err)
	}
	if abi < SignalScope.Floor() {
		t.Fatalf("this host cannot run the tests: Landlock ABI %d, need %d", abi, SignalScope.Floor())
	}
	return min(abi, latest)
}

// inRoot opens the paths of a container whose root is a directory of the host; /dev and /proc are the host's.
func inRoot(root string) Opener {
	return func(name string) (int, error) {
		at := root
		for _, prefix := range []string{"/dev", "/proc"} {
			if name == prefix || len(name) > len(prefix) && name[:len(prefix)+1] == prefix+"/" {
				at = "/"
			}
		}
		dir, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer func() { _ = unix.Close(dir) }()
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			return -1, &os.PathError{Op: "openat2", Path: name, Err: err}
		}
		return fd, nil
	}
}

// tree makes a root with files: a name that ends in / is a directory, the rest are executable files of five bytes.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		at := filepath.Join(root, name)
		if name[len(name)-1] == '/' {
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte("hello"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
