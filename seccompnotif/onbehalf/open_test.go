package onbehalf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// tree makes files and links to open.
func tree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o755))
	must(os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755))
	must(os.Chmod(filepath.Dir(dir), 0o755))
	for _, d := range []string{"a", "a/b", "a/b/c", "closed", "shared", "theirs", "proc", "dev"} {
		must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for _, f := range []string{"file", "a/file", "a/b/file", "a/b/c/file", "closed/file", "theirs/file", "secret", "shared/root"} {
		must(os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644))
	}
	must(os.Chmod(filepath.Join(dir, "closed"), 0o700))
	must(os.Chmod(filepath.Join(dir, "secret"), 0o600))
	must(os.Chmod(filepath.Join(dir, "shared"), 0o777|os.ModeSticky))
	must(os.Chmod(filepath.Join(dir, "shared/root"), 0o666))
	must(os.Chown(filepath.Join(dir, "theirs"), 1000, 1000))
	must(os.Chown(filepath.Join(dir, "theirs/file"), 1000, 2000))
	must(os.Chmod(filepath.Join(dir, "theirs/file"), 0o640))
	for link, target := range map[string]string{
		"link": "file", "absolute": "/file", "up": "../../file", "a/up": "../file", "dir": "a/b", "dangling": "nothing", "a/dangling": "../nothing2",
		"loop": "loop", "x": "y", "y": "x", "slashed": "a/", "dangling-dir": "nothing/", "a/root": "/", "mounts": "/proc/self/mounts", "stdin": "/proc/self/fd/0",
		"deep": "dir/../link", "me": "/proc/self", "shared/link": "../file",
	} {
		must(os.Symlink(target, filepath.Join(dir, link)))
	}
	must(os.Lchown(filepath.Join(dir, "shared/link"), 1000, 1000))
	must(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
	must(unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	return dir
}

var testPaths = []string{
	"", ".", "..", "/", "//", "file", "./file", "file/", "file/.", "a", "a/", "a/.", "a/..", "a/../file", "../file", "../../../../../../file", "/file",
	"a/b/c/file", "a//b///file", "a/b/c/../../../file", "link", "link/", "absolute", "up", "a/up", "dir", "dir/", "dir/file", "dir/../file", "dangling", "a/dangling", "loop", "x",
	"slashed", "slashed/file", "dangling-dir", "a/root/file", "closed", "closed/file", "closed/nothing", "secret", "theirs/file", "shared/root", "shared/link", "nothing", "nothing/", "nothing/x", "a/nothing",
	"file/x", "deep", "fifo", "null", strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("a/../", 700) + "file", strings.Repeat("./", 2047) + "file", "mounts",
	"stdin", "me/comm", "/proc/self/comm", "/proc/self/fd/0", "/proc/self/exe", "/proc/self/cwd/file", "/proc/self/root/file", "/proc/self/cwd", "/proc/self/cwd/", "/proc/self/cwd/..", "/proc/thread-self/comm", "/proc/self/maps", "/proc/self/environ", "/proc/self/mem",
	"/proc/self", "/proc/self/", "/proc/thread-self", "/proc/self/fd", "/proc/self/fd/3", "/proc/self/fd/99", "/proc/self/ns/net", "/proc/self/task", "/proc/mounts", "/proc/net/tcp", "/proc/net", "/proc/1/comm", "/proc/1/exe", "/proc/1/environ", "/proc/nothing", "/proc/self/nothing", "/proc/self/exe/x",
	"/proc/sys/kernel/hostname", "/proc/sys/net/core/somaxconn", "/proc/self/../self/comm", "/proc/self/map_files", "/proc/self/attr/current", "/proc/self/auxv",
	"/dev/null", "/dev/zero", "/dev/stdin", "/dev/fd/0", "/dev/tty", "/dev/ptmx", "/etc/mtab",
}

var testFlags = []int{
	unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_CLOEXEC, unix.O_RDONLY | unix.O_NOFOLLOW, unix.O_RDONLY | unix.O_DIRECTORY,
	unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, unix.O_PATH | unix.O_NOFOLLOW | unix.O_DIRECTORY,
	unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR | unix.O_NOFOLLOW, unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL, unix.O_RDONLY | unix.O_CREAT, unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND,
	unix.O_WRONLY | unix.O_CREAT | unix.O_NOFOLLOW, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC, unix.O_RDWR | unix.O_TMPFILE, unix.O_RDONLY | unix.O_TMPFILE, unix.O_WRONLY | unix.O_TMPFILE | unix.O_EXCL,
	unix.O_CREAT | unix.O_DIRECTORY, unix.O_PATH | unix.O_CREAT, unix.O_ACCMODE, 1 << 30, unix.O_RDWR | unix.O_SYNC, unix.O_RDONLY | unix.O_NOATIME, unix.O_RDONLY | unix.O_DIRECT,
}

var settings = map[string]setting{
	"root":           {},
	"user":           {UID: 1000, GID: 1000, Umask: 0o027},
	"group":          {UID: 1001, GID: 1001, Groups: []int{7, 2000}},
	"root, no caps":  {Keep: 1 << unix.CAP_CHOWN},
	"non-dumpable":   {UID: 1000, GID: 1000, NonDumpable: true},
	"in a directory": {Dir: "a/b"},
	"chroot":         {Root: "a", Dir: "/b"},
	"cwd outside":    {Root: "a"},
	"landlock":       {Landlock: []string{"a", "theirs", "/proc"}},
	"landlock, user": {UID: 1000, GID: 1000, Landlock: []string{"a", "theirs", "/proc/sys"}},
}

// TestOpenIsLikeTheKernels compares what a guest gets through an engine with what it gets of the kernel.
func TestOpenIsLikeTheKernels(t *testing.T) {
	for name, s := range settings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			every := 5 // a part will do where little is different
			if name == "user" || name == "root, no caps" {
				every = 1
			}
			compare(t, s, func(ask func(order)) {
				for i, flags := range testFlags {
					for j, path := range testPaths {
						if (i+j)%every != 0 {
							continue
						}
						ask(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, Flags: flags | unix.O_NONBLOCK, Mode: 0o6777})
					}
				}
			})
		})
	}
}

// pair starts two guests in the same setting, each in a tree of its own, one of them under an engine.
func pair(t *testing.T, s setting, start func(t *testing.T, s setting, engine bool) *testGuest) (guests [2]*testGuest, trees [2]string) {
	t.Helper()
	for i := range guests {
		dir := tree(t)
		trees[i] = dir
		mine := s
		if s.Root != "" {
			mine.Root = filepath.Join(dir, s.Root)
			mine.From = dir
		}
		for j, path := range s.Landlock {
			if !strings.HasPrefix(path, "/") {
				mine.Landlock = slices.Clone(mine.Landlock)
				mine.Landlock[j] = filepath.Join(dir, path)
			}
		}
		if s.Root == "" {
			mine.Dir = filepath.Join(dir, s.Dir)
		}
		mine.Tree = dir
		guests[i] = start(t, mine, i == 1)
	}
	return guests, trees
}

// compare has two guests open the same.
func compare(t *testing.T, s setting, plan func(ask func(order))) {
	t.Helper()
	compareWith(t, s, startOpener, plan)
}

// compareWith is compare with guests that are started in another way.
func compareWith(t *testing.T, s setting, start func(t *testing.T, s setting, engine bool) *testGuest, plan func(ask func(order))) {
	t.Helper()
	guests, trees := pair(t, s, start)
	inodes := [2]map[[2]uint64]string{names(t, trees[0]), names(t, trees[1])}
	plan(func(o order) {
		want, got := guests[0].Do(o), guests[1].Do(o)
		switch {
		case o.Path == "/dev/tty" && s.Landlock != nil,
			strings.HasPrefix(o.Path, "/proc/self/") && !strings.Contains(o.Path, "cwd") && o.Flags&unix.O_TMPFILE == unix.O_TMPFILE,
			o.Path == "/dev/tty" && o.Flags&unix.O_NOATIME != 0:
			// Which of two errors comes first is different.
			if (want.Errno == 0) != (got.Errno == 0) {
				t.Errorf("%q: %+v, %+v", o.Path, want, got)
			}
			return
		}
		if s.Landlock != nil && strings.HasPrefix(o.Path, "/proc/1/") && got.Errno == unix.EACCES {
			return // see package comment
		}
		if s.NonDumpable && got.Errno == unix.EACCES && strings.HasPrefix(o.Path, "/proc/") {
			return // see package comment
		}
		if o.How != nil && o.How.Flags&unix.O_PATH != 0 && got.Errno == unix.ENOSYS {
			return // it always is
		}
		for i, r := range []*outcome{&want, &got} {
			if name, ok := inodes[i][[2]uint64{r.Dev, r.Ino}]; ok {
				r.Text += " at " + name
				r.Dev, r.Ino = 0, 0
			} else if r.Mode&unix.S_IFMT != unix.S_IFDIR || r.Mode&0o7777 != 0o555 { // new, or the process's own
				r.Ino = 0
			}
			r.FD = min(r.FD, 0)
			if strings.HasPrefix(o.Path, "/proc") || strings.Contains(o.Path, "m") {
				r.Text, r.Ino, r.Dev = fmt.Sprint(r.Text != ""), 0, 0
			}
			r.Flags &^= unix.O_NOFOLLOW | unix.O_DIRECTORY // in O_PATH descriptors they only tell how they came to be
		}
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("%q, flags %#o, how %+v:\n the kernel: %+v\n the engine: %+v", o.Path, o.Flags, o.How, want, got)
		}
	})
}

func startOpener(t *testing.T, s setting, engine bool) *testGuest {
	t.Helper()
	return startInOwnMounts(t, s, engine, openCalls, Opens(), func(e *Engine) seccompnotif.Handler { return e.Opener(allow) })
}

// startInOwnMounts starts a guest in a mount namespace of its own, under an engine, which is confined as it is, or under nothing.
func startInOwnMounts(t *testing.T, s setting, engine bool, calls []string, numbers []int, handler func(*Engine) seccompnotif.Handler) *testGuest {
	t.Helper()
	attr := syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if !engine {
		return startGuestWith(t, s, nil, attr)
	}
	var config Config
	if s.Landlock != nil {
		config.Confine = func() error { return restrict(s.Landlock) }
	}
	g := startGuestWith(t, s, calls, attr)
	g.superviseWith(numbers, handler(newEngine(t, config)))
	return g
}

// names returns the paths in a tree by device and inode.
func names(t *testing.T, dir string) map[[2]uint64]string {
	t.Helper()
	found := map[[2]uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		found[[2]uint64{st.Dev, st.Ino}] = rel
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestOpenat2IsLikeTheKernels is the same for the flags of openat2.
func TestOpenat2IsLikeTheKernels(t *testing.T) {
	for name, s := range map[string]setting{"user": {UID: 1000, GID: 1000}, "in a directory": {Dir: "a/b"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compare(t, s, func(ask func(order)) {
				for _, resolve := range []uint64{
					0, unix.RESOLVE_BENEATH, unix.RESOLVE_IN_ROOT, unix.RESOLVE_NO_SYMLINKS, unix.RESOLVE_NO_MAGICLINKS, unix.RESOLVE_NO_XDEV, unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT, 1 << 20,
				} {
					for _, flags := range []uint64{unix.O_RDONLY, unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_WRONLY | unix.O_CREAT, 1 << 40} {
						for _, path := range testPaths {
							how := unix.OpenHow{Flags: flags, Resolve: resolve}
							if flags&unix.O_PATH == 0 {
								how.Flags |= unix.O_NONBLOCK
							}
							if flags&unix.O_CREAT != 0 {
								how.Mode = 0o640
							}
							ask(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: path, How: &how})
						}
					}
				}
				for _, size := range []int{1, 8, 23, 24, 1 << 20} {
					ask(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "file", How: &unix.OpenHow{}, Size: size})
				}
				ask(order{Action: "open", Dirfd: unix.AT_FDCWD, Path: "file", How: &unix.OpenHow{Mode: 0o600}})
			})
		})
	}
}

// TestOpenRandomPaths compares paths that nobody thought of.
func TestOpenRandomPaths(t *testing.T) {
	words := []string{"a", "b", "c", "file", "..", "..", ".", "", "link", "up", "dir", "root", "dangling", "loop", "closed", "nothing", "slashed", "theirs", "me", "absolute", "cwd"}
	compare(t, setting{UID: 1000, GID: 1000}, func(ask func(order)) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 1000 {
			var parts []string
			for range 1 + r.IntN(7) {
				parts = append(parts, words[r.IntN(len(words))])
			}
			o := order{Action: "open", Dirfd: unix.AT_FDCWD, Path: strings.Join(parts, "/")}
			o.Flags = []int{unix.O_RDONLY, unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_RDONLY | unix.O_DIRECTORY}[r.IntN(4)]
			if r.IntN(3) == 0 {
				o.How = &unix.OpenHow{Flags: uint64(o.Flags), Resolve: []uint64{unix.RESOLVE_BENEATH, unix.RESOLVE_IN_ROOT, unix.RESOLVE_NO_SYMLINKS}[r.IntN(3)]}
			}
			ask(o)
		}
	})
}
