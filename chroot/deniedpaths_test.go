package chroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// way is a way to open something, and what is in it.
type way struct {
	name, text string
	open       func(g *deniedGuest) deniedOutcome
}

// waysTo returns ways to what is denied, after prepare. All of them work before.
func (g *deniedGuest) waysTo() []way {
	dir, sub, file, path, inner := g.keep("/data/dir", unix.O_RDONLY|unix.O_DIRECTORY), g.keep("/data/dir/sub", unix.O_PATH|unix.O_DIRECTORY),
		g.keep("/data/dir/secret", unix.O_RDONLY), g.keep("/data/dir/secret", unix.O_PATH), g.keep("/data/dir/sub", unix.O_RDONLY|unix.O_DIRECTORY)
	if errno := g.call(unix.SYS_CHDIR, "/data/dir/sub"); errno != 0 {
		g.Fatal(errno)
	}
	by := func(dirfd uint64, path string) func(*deniedGuest) deniedOutcome {
		return func(g *deniedGuest) deniedOutcome { return g.read(dirfd, path, unix.O_RDONLY) }
	}
	openat2 := func(dirfd uint64, path string, resolve uint64) func(*deniedGuest) deniedOutcome {
		return func(g *deniedGuest) deniedOutcome {
			how := string(make([]byte, 16)) + string([]byte{byte(resolve), 0, 0, 0, 0, 0, 0, 0})
			return g.Do(deniedOrder{Action: "read", NR: unix.SYS_OPENAT2, Args: [6]uint64{dirfd, 0, 0, 24}, Paths: map[int]string{1: path}, How: how})
		}
	}
	return []way{
		{"name", "the secret", by(currentDir, "/data/dir/secret")},
		{"dots", "the secret", by(currentDir, "/open/../data/./dir//sub/../secret")},
		{"symlink to the directory", "the secret", by(currentDir, "/open/dir/secret")},
		{"below", "the deep secret", by(currentDir, "/data/dir/sub/deep")},
		{"bind mount", "the secret", by(currentDir, "/alias/dir/secret")},
		{"bind mount of what is below", "the deep secret", by(currentDir, "/alias2/deep")},
		{"descriptor", "the secret", by(dir, "secret")},
		{"descriptor, below", "the deep secret", by(dir, "sub/deep")},
		{"O_PATH descriptor", "the deep secret", by(sub, "deep")},
		{"descriptor, up", "the secret", by(inner, "../secret")},
		{"working directory", "the deep secret", by(currentDir, "deep")},
		{"working directory, up", "the secret", by(currentDir, "../secret")},
		{"/proc/self/cwd", "the deep secret", by(currentDir, "/proc/self/cwd/deep")},
		{"/proc/self/root", "the secret", by(currentDir, "/proc/self/root/data/dir/secret")},
		{"/proc/self/fd of the directory", "the secret", by(currentDir, fmt.Sprintf("/proc/self/fd/%d/secret", dir))},
		{"/proc/self/fd of the file", "the secret", by(currentDir, fmt.Sprintf("/proc/self/fd/%d", file))},
		{"/proc/self/fd of an O_PATH descriptor", "the secret", by(currentDir, fmt.Sprintf("/proc/self/fd/%d", path))},
		{"hard link to what is below", "the hard secret", by(currentDir, "/open/hard2")},
		{"openat2 beneath", "the secret", openat2(dir, "secret", unix.RESOLVE_BENEATH)},
		{"openat2 in root", "the secret", openat2(dir, "/secret", unix.RESOLVE_IN_ROOT)},
		{"openat2 without links", "the secret", openat2(currentDir, "/data/dir/secret", unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)},
		{"file by name", "the file", by(currentDir, "/data/file")},
		{"file by link", "the file", by(currentDir, "/open/link")},
		{"file by hard link", "the file", by(currentDir, "/open/hard")},
		{"file by bind mount", "the file", by(currentDir, "/alias/file")},
	}
}

// TestDenyPath opens what is denied in every way, and what is not.
func TestDenyPath(t *testing.T) {
	g := startDenied(t, deniedOptions{})
	ways := g.waysTo()
	for _, w := range ways {
		if r := w.open(g); r.Text != w.text {
			t.Errorf("before: %s: %+v", w.name, r)
		}
	}
	g.deny("/data/dir", "/data/file")
	for _, w := range ways {
		if r := w.open(g); r.Errno != unix.EACCES || r.Text != "" {
			t.Errorf("%s: %+v", w.name, r)
		}
	}
	if int(g.refusals.Load()) != len(ways) {
		t.Errorf("%d refusals are on record, of %d", g.refusals.Load(), len(ways))
	}
	for path, text := range map[string]string{"/open/file": "open", "/data/beside": "beside", "/alias/beside": "beside", "/proc/self/comm": "exe\n"} {
		if r := g.read(currentDir, path, unix.O_RDONLY); r.Text != text {
			t.Errorf("%s is not denied: %+v", path, r)
		}
	}
	for _, flags := range []uint64{unix.O_WRONLY, unix.O_RDWR | unix.O_CREAT, unix.O_WRONLY | unix.O_TRUNC, unix.O_RDWR | unix.O_TMPFILE, unix.O_RDONLY | unix.O_DIRECTORY} {
		for _, path := range []string{"deep", "new", ".", "..", "/data/dir", "/data/file", "/open/hard"} {
			if r := g.read(currentDir, path, flags); r.Errno == 0 {
				t.Errorf("open of %s with flags %#o: %+v", path, flags, r)
			}
		}
	}
	for name, text := range map[string]string{"data/dir/secret": "the secret", "data/file": "the file", "data/dir/sub/deep": "the deep secret"} {
		if b, err := os.ReadFile(filepath.Join(g.root, name)); err != nil || string(b) != text {
			t.Errorf("%s on the host: %q, %v", name, b, err)
		}
	}
}

// TestDenyPathCover has no supervisor: what the cover alone does.
func TestDenyPathCover(t *testing.T) {
	g := startDenied(t, deniedOptions{unguarded: true})
	g.deny("/data/dir", "/data/file")
	for _, path := range []string{"/data/dir/secret", "/alias/dir/secret", "/open/dir/secret", "/proc/self/root/data/dir/secret", "/alias2/deep"} {
		if r := g.read(currentDir, path, unix.O_RDONLY); r.Errno != unix.ENOENT {
			t.Errorf("%s: %+v", path, r)
		}
	}
	for _, path := range []string{"/data/file", "/alias/file", "/open/link"} {
		if r := g.read(currentDir, path, unix.O_RDONLY); r.Text != "" {
			t.Errorf("%s: %+v", path, r)
		}
	}
	// And that is not all, which is why there is a supervisor.
	if r := g.read(currentDir, "/open/hard", unix.O_RDONLY); r.Text != "the file" {
		t.Errorf("control: /open/hard: %+v", r)
	}
}

// TestDeniedChanges tries to get hold of what is denied by moving it, or to change it.
func TestDeniedChanges(t *testing.T) {
	attempts := func(g *deniedGuest, dir uint64) map[string]unix.Errno {
		return map[string]unix.Errno{
			"rename out":             g.call(unix.SYS_RENAMEAT2, dir, "secret", currentDir, "/open/got", 0),
			"rename a directory out": g.call(unix.SYS_RENAMEAT2, currentDir, "../sub", currentDir, "/open/sub", 0),
			"exchange":               g.call(unix.SYS_RENAMEAT2, dir, "secret", currentDir, "/open/file", unix.RENAME_EXCHANGE),
			"link out":               g.call(unix.SYS_LINKAT, dir, "secret", currentDir, "/open/got2", 0),
			"link from /proc":        g.call(unix.SYS_LINKAT, currentDir, fmt.Sprintf("/proc/self/fd/%d", dir+1), currentDir, "/open/got3", unix.AT_SYMLINK_FOLLOW),
			"link by descriptor":     g.call(unix.SYS_LINKAT, dir+1, "", currentDir, "/open/got4", unix.AT_EMPTY_PATH),
			"link of a hard link":    g.call(unix.SYS_LINKAT, currentDir, "/open/hard2", currentDir, "/open/got5", 0),
			"rename in":              g.call(unix.SYS_RENAMEAT2, currentDir, "/open/file", dir, "in", 0),
			"replace":                g.call(unix.SYS_RENAMEAT2, currentDir, "/open/file", currentDir, "/open/hard2", 0),
			"rename a hard link":     g.call(unix.SYS_RENAMEAT2, currentDir, "/open/hard2", currentDir, "/open/hard3", 0),
			"unlink":                 g.call(unix.SYS_UNLINKAT, dir, "secret", 0),
			"rmdir":                  g.call(unix.SYS_UNLINKAT, dir, "sub", unix.AT_REMOVEDIR),
			"mkdir":                  g.call(unix.SYS_MKDIRAT, dir, "new", 0o755),
			"mknod":                  g.call(unix.SYS_MKNODAT, currentDir, "new", unix.S_IFREG|0o644, 0),
			"symlink":                g.call(unix.SYS_SYMLINKAT, "x", currentDir, "newlink"),
			"truncate":               g.call(unix.SYS_TRUNCATE, "deep", 0),
			"truncate a hard link":   g.call(unix.SYS_TRUNCATE, "/open/hard2", 0),
			"chmod":                  g.call(unix.SYS_FCHMODAT, dir, "secret", 0o777),
			"chown":                  g.call(unix.SYS_FCHOWNAT, currentDir, "deep", 1, 1, 0),
			"utimes":                 g.call(unix.SYS_UTIMENSAT, currentDir, "deep", 0, 0),
			"setxattr":               g.call(unix.SYS_SETXATTR, "deep", "user.x", "v", 1, 0),
		}
	}
	start := func(t *testing.T) (*deniedGuest, uint64) {
		g := startDenied(t, deniedOptions{})
		dir := g.keep("/data/dir", unix.O_RDONLY|unix.O_DIRECTORY)
		if file := g.keep("/data/dir/secret", unix.O_RDONLY); file != dir+1 {
			t.Fatal(file)
		}
		if errno := g.call(unix.SYS_CHDIR, "/data/dir/sub"); errno != 0 {
			t.Fatal(errno)
		}
		return g, dir
	}
	t.Run("denied", func(t *testing.T) {
		g, dir := start(t)
		g.deny("/data/dir")
		for name, errno := range attempts(g, dir) {
			if errno != unix.EACCES {
				t.Errorf("%s: %v", name, errno)
			}
		}
		entries, err := os.ReadDir(filepath.Join(g.root, "open"))
		if err != nil || len(entries) != 5 {
			t.Errorf("/open has %v, %v", entries, err)
		}
		for name, text := range map[string]string{"data/dir/secret": "the secret", "data/dir/sub/deep": "the deep secret", "data/dir/hard": "the hard secret"} {
			if b, err := os.ReadFile(filepath.Join(g.root, name)); err != nil || string(b) != text {
				t.Errorf("%s on the host: %q, %v", name, b, err)
			}
		}
		// What is not denied can be changed.
		for name, errno := range map[string]unix.Errno{
			"rename": g.call(unix.SYS_RENAMEAT2, currentDir, "/open/file", currentDir, "/open/other", 0),
			"chmod":  g.call(unix.SYS_FCHMODAT, currentDir, "/open/other", 0o600),
			"link":   g.call(unix.SYS_LINKAT, currentDir, "/open/other", currentDir, "/open/more", 0),
			"unlink": g.call(unix.SYS_UNLINKAT, currentDir, "/open/more", 0),
			"mkdir":  g.call(unix.SYS_MKDIRAT, currentDir, "/open/new", 0o755),
			"around": g.call(unix.SYS_RENAMEAT2, currentDir, "/data", currentDir, "/moved", 0),
		} {
			if errno != 0 {
				t.Errorf("%s of what is not denied: %v", name, errno)
			}
		}
		if r := g.read(currentDir, "/moved/dir/secret", 0); r.Errno != unix.EACCES {
			t.Errorf("after its parent was renamed: %+v", r)
		}
		if r := g.read(currentDir, "/moved/beside", 0); r.Text != "beside" {
			t.Errorf("what is beside: %+v", r)
		}
	})
	t.Run("control", func(t *testing.T) {
		g, dir := start(t)
		for name, errno := range attempts(g, dir) {
			switch name {
			case "rename a directory out", "exchange", "link out", "unlink", "rmdir", "rename a hard link", "link of a hard link", "replace", "chmod", "chown":
				// Depends on what came before.
			default:
				if errno == unix.EACCES {
					t.Errorf("%s: %v", name, errno)
				}
			}
		}
		if r := g.read(currentDir, "/open/got", 0); r.Text == "" {
			t.Errorf("what was moved out: %+v", r)
		}
	})
}

// TestDeniedRaces has other threads of the guest change what the paths lead to.
func TestDeniedRaces(t *testing.T) {
	const times = 1500
	g := startDenied(t, deniedOptions{})
	control := startDenied(t, deniedOptions{unguarded: true})
	for _, g := range []*deniedGuest{g, control} {
		if errno := g.call(unix.SYS_CHDIR, "/data/dir"); errno != 0 {
			t.Fatal(errno)
		}
	}
	g.deny("/data/dir", "/data/file")
	for name, o := range map[string]deniedOrder{
		"path in memory": {Action: "race", Paths: map[int]string{1: "/open/../open/file"}, Other: "/data/dir/secret", Times: times},
		"path in memory, by the working directory": {Action: "race", Paths: map[int]string{1: "/open/file"}, Other: "sub/deep", Times: times},
		"hard link":       {Action: "race", Paths: map[int]string{1: "/open/file"}, Other: "/open/hard", Times: times},
		"symbolic link":   {Action: "swap", NR: unix.SYS_OPENAT, Args: [6]uint64{currentDir}, Paths: map[int]string{1: "/tmp/swap"}, Other: "/data/dir/secret", Times: times},
		"link to a link":  {Action: "swap", NR: unix.SYS_OPENAT, Args: [6]uint64{currentDir}, Paths: map[int]string{1: "/tmp/swap"}, Other: "/open/hard2", Times: times},
		"moving parent":   {Action: "move", NR: unix.SYS_OPENAT, Args: [6]uint64{currentDir}, Paths: map[int]string{1: "/moved/dir/secret"}, Times: times},
		"moving parent 2": {Action: "move", NR: unix.SYS_OPENAT, Args: [6]uint64{currentDir}, Paths: map[int]string{1: "/data/dir/../file"}, Times: times},
	} {
		if found := secretIn(g.Do(o).Count); found != nil {
			t.Errorf("%s: the guest has read %q", name, found)
		}
		o.Times *= 20 // it is so much faster
		testguest.Await(t, name+": the control, a guest without a supervisor, reads a secret", func() bool { return secretIn(control.Do(o).Count) != nil })
	}
}

// TestDeniedInTheMoment has a guest make hard links all the time while their directory is denied: none of them may lead to the file afterwards.
func TestDeniedInTheMoment(t *testing.T) {
	for range 10 {
		g := startDenied(t, deniedOptions{})
		g.Do(deniedOrder{Action: "links"})
		g.deny("/data/dir")
		r := g.Do(deniedOrder{Action: "unlinks"})
		if r.Text != "" || r.Count["the secret"] != 0 {
			t.Fatalf("after the denial the guest has read %v %s", r.Count, r.Text)
		}
	}
}

// TestDeniedExec executes what is denied.
func TestDeniedExec(t *testing.T) {
	g := startDenied(t, deniedOptions{exec: true})
	bin := g.keep("/bin", unix.O_RDONLY|unix.O_DIRECTORY)
	run := func(path, dir string) deniedOutcome {
		t.Helper()
		return g.Do(deniedOrder{Action: "exec", Argv: []string{path, "echo", "it runs"}, Other: dir})
	}
	ways := []string{"/bin/tool", "/bin/busybox-alias", "/bin/script", fmt.Sprintf("/proc/self/fd/%d/busybox-alias", bin), "/proc/self/root/bin/tool", "/bin/../bin/busybox-alias"}
	for _, path := range ways {
		if r := run(path, "/"); !strings.Contains(r.Text, "it runs") {
			t.Errorf("before: %s: %+v", path, r)
		}
	}
	g.deny("/bin/tool")
	for _, path := range ways {
		if r := run(path, "/"); r.Errno != unix.EACCES || r.Text == "" || strings.Contains(r.Text, "it runs") {
			t.Errorf("%s: %+v", path, r)
		}
	}
	if r := run("/bin/busybox", "/"); !strings.Contains(r.Text, "it runs") {
		t.Errorf("what is not denied: %+v", r)
	}
}

func TestDenyPathErrors(t *testing.T) {
	g := startDenied(t, deniedOptions{unguarded: true})
	for path, want := range map[string]error{"/nothing": unix.ENOENT, "/data/file/x": unix.ENOTDIR, "/proc/self/root/data": unix.ELOOP} {
		if err := g.denied.DenyPath(path); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{"", "data", "/", "/open/.."} {
		if err := g.denied.DenyPath(path); err == nil {
			t.Errorf("%q can be denied", path)
		}
	}
	if r := g.read(currentDir, "/data/file", 0); r.Text != "the file" {
		t.Errorf("%+v", r)
	}
}

// TestDenyPathAgain denies the same, by each of its names, again and again: it takes nothing more each time.
func TestDenyPathAgain(t *testing.T) {
	g := startDenied(t, deniedOptions{})
	ways := g.waysTo()
	paths := []string{"/data/dir", "/data/file", "/open/hard", "/alias/file", "/open/dir"}
	state := func() (descriptors, mounts, objects int) {
		t.Helper()
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", g.Cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds), strings.Count(string(table), "\n"), len(g.denied.set.Load().objects)
	}
	g.deny(paths...)
	g.deny(paths...) // a path through another that is denied by now leads nowhere new
	descriptors, mounts, objects := state()
	for range 20 {
		g.deny(paths...)
	}
	if d, m, o := state(); d != descriptors || m != mounts || o != objects {
		t.Errorf("%d descriptors, %d mounts, %d objects have become %d, %d, %d", descriptors, mounts, objects, d, m, o)
	}
	for _, w := range ways {
		if r := w.open(g); r.Errno != unix.EACCES || r.Text != "" {
			t.Errorf("%s: %+v", w.name, r)
		}
	}
	if r := g.read(currentDir, "/data/beside", unix.O_RDONLY); r.Text != "beside" {
		t.Errorf("what is not denied: %+v", r)
	}
}

func TestParseMounts(t *testing.T) {
	const text = "28 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" +
		`40 28 0:31 /a\040b /mnt/x\134y ro master:3 propagate_from:1 - tmpfs tmpfs rw` + "\n"
	list, err := parseMounts([]byte(text))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if want := (mountEntry{28, "253:0", "/", "/", true}); list[0] != want {
		t.Errorf("%+v", list[0])
	}
	if want := (mountEntry{40, "0:31", "/a b", `/mnt/x\y`, false}); list[1] != want {
		t.Errorf("%+v", list[1])
	}
	for _, bad := range []string{"28 1\n", "x 1 253:0 / / rw - a b c\n", `1 1 0:1 /\04 / rw - a b c`, `1 1 0:1 /\999 / rw - a b c`} {
		if list, err := parseMounts([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, list)
		}
	}
	for _, c := range []struct {
		above, path, rest string
		ok                bool
	}{{"/", "/a/b", "a/b", true}, {"/a", "/a", "", true}, {"/a", "/ab", "", false}, {"/a/", "/a/b", "b", true}, {"/", "/", "", true}, {"/a/b", "/a", "", false}} {
		if rest, ok := beneathPath(c.above, c.path); ok != c.ok || ok && rest != c.rest {
			t.Errorf("%+v: %q, %v", c, rest, ok)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("28 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"))
	f.Add([]byte(`40 28 0:31 /a\040b /mnt/x\134y ro - tmpfs tmpfs rw`))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = parseMounts(text) })
}
