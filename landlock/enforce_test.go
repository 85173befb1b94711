package landlock

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests of this file let a restricted process try things on the running kernel. Each denial has an allowed twin.

func TestListsAreEnforced(t *testing.T) {
	root := tree(t, "read/file", "read/sub/file", "write/file", "write/gone", "write/sub/", "other/file", "single", "read/inner/file")
	at := func(name string) string { return filepath.Join(root, name) }
	request := Request{
		Read:  []string{"/read", "/single", "/dev/full"},
		Write: []string{"/write", "/read/inner"},
		Keep:  DefaultKeep(),
	}
	try(t, request, inRoot(root), []trial{
		{deed{"read", at("read/file"), ""}, 0},
		{deed{"read", at("read/sub/file"), ""}, 0},
		{deed{"read", at("single"), ""}, 0},
		{deed{"read", at("other/file"), ""}, unix.EACCES},
		{deed{"read", "/etc/passwd", ""}, unix.EACCES},
		{deed{"list", at("read"), ""}, 0},
		{deed{"list", at("other"), ""}, unix.EACCES},
		{deed{"write", at("read/file"), ""}, unix.EACCES},
		{deed{"write", at("single"), ""}, unix.EACCES},
		{deed{"write", at("write/file"), ""}, 0},
		{deed{"write", at("read/inner/file"), ""}, 0}, // a write path inside a read path
		{deed{"read", at("write/file"), ""}, 0},
		{deed{"create", at("read/new"), ""}, unix.EACCES},
		{deed{"create", at("write/new"), ""}, 0},
		{deed{"mkdir", at("read/dir"), ""}, unix.EACCES},
		{deed{"mkdir", at("write/dir"), ""}, 0},
		{deed{"rmdir", at("write/dir"), ""}, 0},
		{deed{"symlink", "x", at("read/symlink")}, unix.EACCES},
		{deed{"symlink", "x", at("write/symlink")}, 0},
		{deed{"fifo", at("read/fifo"), ""}, unix.EACCES},
		{deed{"fifo", at("write/fifo"), ""}, 0},
		{deed{"socket file", at("read/socket"), ""}, unix.EACCES},
		{deed{"socket file", at("write/socket"), ""}, 0},
		{deed{"remove", at("read/file"), ""}, unix.EACCES},
		{deed{"remove", at("write/gone"), ""}, 0},
		{deed{"execute", at("other/file"), ""}, unix.EACCES},
		{deed{"execute", at("read/file"), ""}, unix.ENOEXEC},
		// Kept devices are there to be used fully, a listed one as its list says.
		{deed{"write", "/dev/null", ""}, 0},
		{deed{"read", "/dev/zero", ""}, 0},
		{deed{"ioctl", "/dev/zero", ""}, unix.ENOTTY},
		{deed{"read", "/dev/full", ""}, 0},
		{deed{"read", "/proc/self/status", ""}, 0},
	})
	for name, want := range map[string]bool{"read/file": true, "read/new": false, "write/new": true, "read/dir": false, "write/gone": false} {
		if _, err := os.Lstat(at(name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWholeRootBreaksNothing(t *testing.T) {
	root := tree(t, "a/file", "b/", "a/other")
	at := func(name string) string { return filepath.Join(root, name) }
	outside := tree(t, "file")
	try(t, Request{}, inRoot(root), []trial{
		{deed{"rename", at("a/file"), at("b/file")}, 0},
		{deed{"link", at("b/file"), at("a/linked")}, 0},
		{deed{"truncate", at("b/file"), ""}, 0},
		{deed{"execute", at("b/file"), ""}, unix.ENOEXEC},
		{deed{"remove", at("a/other"), ""}, 0},
		{deed{"write", "/dev/null", ""}, unix.EACCES}, // the host's is not in this root
		// What is not in the root is what a leaked descriptor would lead to.
		{deed{"read", filepath.Join(outside, "file"), ""}, unix.EACCES},
		{deed{"truncate", filepath.Join(outside, "file"), ""}, unix.EACCES},
	})
	if content, _ := os.ReadFile(at("b/file")); string(content) != "h" {
		t.Errorf("after the truncation: %q", content)
	}
	if content, _ := os.ReadFile(filepath.Join(outside, "file")); string(content) != "hello" {
		t.Errorf("outside: %q", content)
	}
}

// TestRefer shows renames and links across directories under each mode, and that an ABI without them refuses all.
func TestRefer(t *testing.T) {
	request := Request{Read: []string{"/read"}, Write: []string{"/one", "/two"}}
	trials := func(root string, across unix.Errno) []trial {
		at := func(name string) string { return filepath.Join(root, name) }
		return []trial{
			{deed{"rename", at("one/a"), at("one/b")}, 0},
			{deed{"rename", at("one/b"), at("read/b")}, unix.EACCES},
			{deed{"rename", at("one/b"), at("two/b")}, across},
			{deed{"link", at("two/c"), at("one/c")}, across},
			{deed{"link", at("read/file"), at("one/stolen")}, unix.EXDEV}, // it would become writable
		}
	}
	root := tree(t, "one/a", "two/c", "read/file")
	try(t, request, inRoot(root), trials(root, 0))
	if _, err := os.Lstat(filepath.Join(root, "two/b")); err != nil {
		t.Error(err)
	}
	root = tree(t, "one/a", "two/c", "read/file")
	request.Modes = map[Protection]Mode{FSRefer: Off}
	try(t, request, inRoot(root), trials(root, 0))

	root = tree(t, "one/a", "two/c", "read/file")
	request.Modes = modes(Degrade)
	ruleset, err := Plan(request, 1)
	if err != nil {
		t.Fatal(err)
	}
	list := trials(root, unix.EXDEV)
	tryRuleset(t, ruleset, inRoot(root), list)
	if _, err := os.Lstat(filepath.Join(root, "two/b")); err == nil {
		t.Error("moved though it was refused")
	}
}

func TestTruncate(t *testing.T) {
	root := tree(t, "read/file", "write/file")
	read, write := filepath.Join(root, "read/file"), filepath.Join(root, "write/file")
	request := Request{Read: []string{"/read"}, Write: []string{"/write"}}
	try(t, request, inRoot(root), []trial{
		{deed{"truncate", read, ""}, unix.EACCES},
		{deed{"truncate", write, ""}, 0},
	})
	for name, want := range map[string]string{read: "hello", write: "h"} {
		if content, _ := os.ReadFile(name); string(content) != want {
			t.Errorf("%s: %q", name, content)
		}
	}
	request.Modes = map[Protection]Mode{FSTruncate: Off}
	try(t, request, inRoot(root), []trial{{deed{"truncate", read, ""}, 0}})
}

func TestDeviceIoctl(t *testing.T) {
	root := tree(t, "empty/")
	request := Request{Read: []string{"/dev/full"}, Write: []string{"/dev/zero"}}
	try(t, request, inRoot(root), []trial{
		{deed{"ioctl", "/dev/full", ""}, unix.EACCES},
		{deed{"ioctl", "/dev/zero", ""}, unix.ENOTTY},
	})
	request.Modes = map[Protection]Mode{FSIoctlDev: Off}
	try(t, request, inRoot(root), []trial{{deed{"ioctl", "/dev/full", ""}, unix.ENOTTY}})
}

// listen gives a TCP listener on the loopback address and its port.
func listen(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, uint16(listener.Addr().(*net.TCPAddr).Port)
}

func TestTCPPorts(t *testing.T) {
	root := tree(t, "empty/")
	_, allowed := listen(t)
	_, denied := listen(t)
	free, bindable := listen(t)
	_ = free.Close()
	connect := func(port uint16, want unix.Errno) trial {
		return trial{deed{"connect", strconv.Itoa(int(port)), ""}, want}
	}
	bind := func(port uint16, want unix.Errno) trial {
		return trial{deed{"bind", strconv.Itoa(int(port)), ""}, want}
	}
	try(t, Request{ConnectTCP: []uint16{allowed}, BindTCP: []uint16{bindable}}, inRoot(root), []trial{
		connect(allowed, 0), connect(denied, unix.EACCES),
		bind(bindable, 0), bind(bindable+1, unix.EACCES), bind(0, unix.EACCES), bind(allowed, unix.EACCES),
	})
	// Empty is none, nil is not restricted, and each is apart from the other.
	try(t, Request{ConnectTCP: []uint16{}}, inRoot(root), []trial{connect(allowed, unix.EACCES), bind(0, 0)})
	try(t, Request{BindTCP: []uint16{}}, inRoot(root), []trial{connect(allowed, 0), bind(0, unix.EACCES)})
	try(t, Request{BindTCP: []uint16{0}}, inRoot(root), []trial{bind(0, 0), bind(bindable, unix.EACCES)})
	try(t, Request{ConnectTCP: []uint16{}, Modes: map[Protection]Mode{NetTCP: Off}}, inRoot(root), []trial{connect(allowed, 0)})
}

func TestScopes(t *testing.T) {
	root := tree(t, "empty/")
	name := fmt.Sprintf("@landlock-test-%d", os.Getpid())
	listener, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	pid := strconv.Itoa(os.Getpid())
	trials := func(signal, abstract unix.Errno) []trial {
		return []trial{
			{deed{"signal", pid, ""}, signal},
			{deed{"signal", "0", ""}, 0},
			{deed{"abstract", name, ""}, abstract},
			{deed{"abstract inside", name + "-inside", ""}, 0},
		}
	}
	try(t, Request{}, inRoot(root), trials(0, 0))
	try(t, Request{SignalScope: true}, inRoot(root), trials(unix.EPERM, 0))
	try(t, Request{AbstractUnixScope: true}, inRoot(root), trials(0, unix.EPERM))
	try(t, Request{SignalScope: true, AbstractUnixScope: true, Modes: modes(Off)}, inRoot(root), trials(0, 0))
}

// TestPathsAddedLater shows the two phases: the ruleset is made first and its paths come through a duplicate.
func TestPathsAddedLater(t *testing.T) {
	root := tree(t, "read/file", "other/file")
	ruleset, err := Plan(Request{Read: []string{"/read"}}, running(t))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := ruleset.New()
	if err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the ruleset would be inherited")
	}
	same, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(same) }()
	if err := ruleset.AddPaths(same, inRoot(root)); err != nil {
		t.Fatal(err)
	}
	tryFD(t, fd, []trial{
		{deed{"read", filepath.Join(root, "read/file"), ""}, 0},
		{deed{"read", filepath.Join(root, "other/file"), ""}, unix.EACCES},
	})
}

func TestMissingPathFailsByName(t *testing.T) {
	root := tree(t, "file")
	ruleset, err := Plan(Request{Read: []string{"/file"}, Write: []string{"/nope"}, Keep: DefaultKeep()}, running(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = ruleset.Create(inRoot(root))
	if err == nil || err.Error() != "filesystem.write: /nope: no such file or directory in the container" {
		t.Error(err)
	}
	var where *PathError
	if !errors.As(err, &where) || where.Path != "/nope" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%#v", err)
	}
	ruleset, err = Plan(Request{Read: []string{"/file/x"}}, running(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ruleset.Create(inRoot(root)); err == nil || err.Error() != "filesystem.read: /file/x: not a directory" {
		t.Error(err)
	}
}

// TestKeptObjectsMustBeWhatTheyAre shows that an image does not get more by putting files where devices and mounts are kept.
func TestKeptObjectsMustBeWhatTheyAre(t *testing.T) {
	root := tree(t, "allowed/file", "dev/null", "dev/pts/file", "dev/shm/file", "proc/file", "dev/zero/file")
	opener := func(name string) (int, error) { // unlike inRoot, /dev is the image's
		return unix.Open(filepath.Join(root, name), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	at := func(name string) string { return filepath.Join(root, name) }
	try(t, Request{Read: []string{"/allowed"}, Keep: DefaultKeep()}, opener, []trial{
		{deed{"read", at("allowed/file"), ""}, 0},
		{deed{"read", at("dev/null"), ""}, unix.EACCES},
		{deed{"read", at("dev/zero/file"), ""}, unix.EACCES},
		{deed{"read", at("dev/pts/file"), ""}, unix.EACCES},
		{deed{"read", at("dev/shm/file"), ""}, unix.EACCES},
		{deed{"read", at("proc/file"), ""}, unix.EACCES},
	})
}

// TestOpenedAgain shows that standard streams can be opened again through /proc, for what they were opened for.
func TestOpenedAgain(t *testing.T) {
	root, outside := tree(t, "empty/"), tree(t, "input", "output", "both", "untold")
	open := func(name string, flags int) *os.File {
		file, err := os.OpenFile(filepath.Join(outside, name), flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	input, output, both, untold := open("input", os.O_RDONLY), open("output", os.O_WRONLY), open("both", os.O_RDWR), open("untold", os.O_RDWR)
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pipe.Close(), other.Close() }()
	dir := open(".", os.O_RDONLY)

	ruleset, err := Plan(Request{Read: []string{"/empty"}, Keep: DefaultKeep()}, running(t))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := ruleset.Create(inRoot(root))
	if err != nil {
		t.Fatal(err)
	}
	given := []*os.File{input, output, both, pipe, dir}
	for _, file := range given {
		if err := ruleset.AddOpened(fd, int(file.Fd()), -1); err != nil {
			t.Fatal(err)
		}
	}
	link := func(i int) string { return fmt.Sprintf("/proc/self/fd/%d", rulesetFD+1+i) }
	tryFD(t, fd, []trial{
		{deed{"read", link(0), ""}, 0}, {deed{"write", link(0), ""}, unix.EACCES},
		{deed{"write", link(1), ""}, 0}, {deed{"read", link(1), ""}, unix.EACCES}, {deed{"truncate", link(1), ""}, 0},
		{deed{"read", link(2), ""}, 0}, {deed{"write", link(2), ""}, 0},
		{deed{"read", link(3), ""}, 0},
		{deed{"list", link(4), ""}, unix.EACCES},
		{deed{"read", link(5), ""}, unix.EACCES},
	}, append(given, untold)...)
}
