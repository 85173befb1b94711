package onbehalf

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

var changeCalls = []string{
	"link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat",
	"truncate", "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes", "futimesat", "utimensat",
	"setxattr", "lsetxattr", "removexattr", "lremovexattr",
}

func (e *Engine) changer(judge Judge) seccompnotif.Handler {
	return seccompnotif.HandlerFunc(func(*seccompnotif.Call) seccompnotif.Action {
		return seccompnotif.Hold(func(h *seccompnotif.Held) { e.ChangeHeld(h, judge, nil) })
	})
}

func startChanger(t *testing.T, s setting, engine bool) *testGuest {
	t.Helper()
	return startInOwnMounts(t, s, engine, changeCalls, Changes(), func(e *Engine) seccompnotif.Handler { return e.changer(allow) })
}

const here = ^uint64(99) // AT_FDCWD

func call(nr int, args ...any) order {
	o := order{Action: "call", NR: uintptr(nr), Strings: map[int]string{}}
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			o.Strings[i] = arg
		case int:
			o.Args[i] = uint64(arg)
		case uint64:
			o.Args[i] = arg
		}
	}
	return o
}

func times(n ...int64) string {
	var b []byte
	for _, n := range n {
		b = binary.NativeEndian.AppendUint64(b, uint64(n))
	}
	return string(b)
}

// changes are calls for each of some paths.
func changes(path, other string) []order {
	return slices.Concat(legacyChanges(path, other), []order{
		call(unix.SYS_TRUNCATE, path, 2), call(unix.SYS_TRUNCATE, path, -1),
		call(unix.SYS_FCHMODAT, here, path, 0o2741), call(unix.SYS_FCHMODAT2, here, path, 0o640, unix.AT_SYMLINK_NOFOLLOW), call(unix.SYS_FCHMODAT2, here, path, 0o640, 1<<20),
		call(unix.SYS_FCHOWNAT, here, path, 1000, uint64(1<<32-1), 0), call(unix.SYS_FCHOWNAT, here, path, 1001, 2000, unix.AT_SYMLINK_NOFOLLOW),
		call(unix.SYS_UTIMENSAT, here, path, times(1000, 5, 2000, 6), 0), call(unix.SYS_UTIMENSAT, here, path, times(3000, 7, 0, unix.UTIME_OMIT), unix.AT_SYMLINK_NOFOLLOW),
		call(unix.SYS_UTIMENSAT, here, path, times(1, -5, 2, 6), 0), call(unix.SYS_UTIMENSAT, here, 0, 0, 0),
		call(unix.SYS_SETXATTR, path, "user.x", "value", 5, 0), call(unix.SYS_LSETXATTR, path, "user.y", "val", 3, unix.XATTR_CREATE), call(unix.SYS_SETXATTR, path, "user.x", "v", 1, unix.XATTR_CREATE),
		call(unix.SYS_REMOVEXATTR, path, "user.x"), call(unix.SYS_LREMOVEXATTR, path, "user.z"), call(unix.SYS_SETXATTR, path, "", "v", 1, 0), call(unix.SYS_SETXATTR, path, strings.Repeat("n", 300), "v", 1, 0),
		call(unix.SYS_LINKAT, here, path, here, other+"1", 0), call(unix.SYS_LINKAT, here, path, here, other+"2", unix.AT_SYMLINK_FOLLOW), call(unix.SYS_LINKAT, here, path, here, other+"2", 1<<20),
		call(unix.SYS_MKDIRAT, here, path, 0o777), call(unix.SYS_MKNODAT, here, path, unix.S_IFIFO|0o666, 0), call(unix.SYS_MKNODAT, here, path+"n", unix.S_IFREG|0o666, 0), call(unix.SYS_SYMLINKAT, "target", here, path), call(unix.SYS_SYMLINKAT, "", here, path+"s"),
		call(unix.SYS_RENAMEAT2, here, path, here, other, unix.RENAME_NOREPLACE), call(unix.SYS_RENAMEAT2, here, other, here, path, unix.RENAME_EXCHANGE), call(unix.SYS_RENAMEAT2, here, other, here, path, 0), call(unix.SYS_RENAMEAT2, here, path, here, path+"r", 1<<20),
		call(unix.SYS_UNLINKAT, here, path, unix.AT_REMOVEDIR), call(unix.SYS_UNLINKAT, here, path, 1<<20), call(unix.SYS_UNLINKAT, here, path, 0),
	})
}

// TestChangesAreLikeTheKernels compares what a guest changes through an engine with what it changes by itself.
func TestChangesAreLikeTheKernels(t *testing.T) {
	paths := []string{
		"file", "a/file", "link", "absolute", "dangling", "a/dangling", "dir", "dir/", "a/b/", "a", "a/b/c", "nothing", "nothing/", "nothing/x", "file/x", "file/", "link/", ".", "..", "/", "a/..", "a/.", "", "loop",
		"closed/file", "theirs/file", "theirs", "shared/root", "shared/new", "secret", "fifo", "null", "a/b/file", "shared/link", strings.Repeat("x", 256), "/proc/self/cwd/up", "me/comm", "/proc/self/fd/0", "/proc/self/nothing",
	}
	for name, s := range map[string]setting{
		"root": {Umask: 0o027}, "user": {UID: 1000, GID: 1000, Groups: []int{2000}}, "root, no caps": {Keep: 1 << unix.CAP_FOWNER}, "chroot": {Root: "a", Dir: "/b"},
		"landlock": {Landlock: []string{"a", "shared", "/proc"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guests, trees := pair(t, s, startChanger)
			for _, path := range paths {
				for _, o := range changes(path, "other") {
					want, got := guests[0].Do(o), guests[1].Do(o)
					// Where two things are wrong with a call, which comes first is different.
					two := want.Errno != 0 && got.Errno != 0 && (strings.HasPrefix(syscallName(int(o.NR)), "rename") || strings.HasPrefix(path, "/proc/"))
					if want.Errno != got.Errno && !two {
						t.Errorf("%s: %v %v: the kernel says %v, the engine %v", syscallName(int(o.NR)), o.Args, o.Strings, want.Errno, got.Errno)
					}
				}
				if want, got := dump(t, trees[0]), dump(t, trees[1]); want != got {
					t.Fatalf("after changes of %q the trees are different:\n%s\n%s", path, want, got)
				}
			}
		})
	}
}

func syscallName(nr int) string {
	for _, name := range changeCalls {
		if n, _, _ := seccompnotif.SyscallNumber(name); n == nr {
			return name
		}
	}
	return fmt.Sprint(nr)
}

// dump lists a tree.
func dump(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	began := time.Now().Add(-time.Hour).Unix()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		link, _ := os.Readlink(path)
		attributes := make([]byte, 1000)
		n, _ := unix.Llistxattr(path, attributes)
		list := strings.Split(string(attributes[:max(n, 0)]), "\x00")
		slices.Sort(list)
		if st.Mtim.Sec > began { // just now
			st.Mtim = unix.Timespec{}
		}
		if st.Atim.Sec > began {
			st.Atim = unix.Timespec{}
		}
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0
		}
		fmt.Fprintf(&b, "%s %#o %d:%d %d links %d bytes %v %v %q %q\n", strings.TrimPrefix(path, dir), st.Mode, st.Uid, st.Gid, st.Nlink, size, st.Mtim, st.Atim, link, list)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
