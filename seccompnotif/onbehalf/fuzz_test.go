package onbehalf

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzSplit(f *testing.F) {
	for _, path := range []string{"", "/", "a", "a/", "/a/b//", "..", "a/..", "./", "//x", "a/./b"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		l := lookup{path: path}
		dir, name, slashed := l.split()
		switch {
		case name == "":
			if dir != path {
				t.Errorf("%q: directory %q", path, dir)
			}
			if last := strings.TrimRight(path, "/"); last != "" && !strings.HasSuffix(last, ".") {
				t.Errorf("%q has no name", path)
			}
			if errno := unnamed(path); errno == 0 {
				t.Errorf("%q can be removed", path)
			}
		case strings.Contains(name, "/"), name == ".", name == "..":
			t.Errorf("%q: name %q", path, name)
		case !strings.HasPrefix(path, dir+name), strings.Trim(path[len(dir+name):], "/") != "", slashed != (path != dir+name), dir != "" && !strings.HasSuffix(dir, "/"):
			t.Errorf("%q: %q, %q, %v", path, dir, name, slashed)
		}
	})
}

// FuzzComponents compares the walk's way through a path with the path cut at its slashes.
func FuzzComponents(f *testing.F) {
	f.Add("a/b/../c")
	f.Add("//a//")
	f.Fuzz(func(t *testing.T, path string) {
		var want, got []string
		for _, name := range strings.Split(path, "/") {
			if name != "" {
				want = append(want, name)
			}
		}
		k := walk{rest: path}
		for range len(path) + 1 {
			name, last, _ := k.component()
			if name != "" {
				got = append(got, name)
			}
			if last {
				break
			}
		}
		if strings.Join(got, "/") != strings.Join(want, "/") {
			t.Errorf("%q: %q", path, got)
		}
	})
}

func FuzzParseHow(f *testing.F) {
	f.Add(make([]byte, 24))
	f.Add(append(make([]byte, 24), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		how, errno := parseHow(b)
		if errno != 0 && how != (unix.OpenHow{}) {
			t.Errorf("%+v with %v", how, errno)
		}
	})
}

func FuzzParseTTY(f *testing.F) {
	f.Add([]byte("12 (a) b) c) S 1 12 12 34816 -1 4194560 1 0\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseTTY(b) })
}

func TestParseTTY(t *testing.T) {
	for text, want := range map[string]uint64{
		"12 (a) b) c) S 1 12 12 34816 -1 4194560\n": unix.Mkdev(136, 0), "12 (a) S 1 12 12 34821 -1": unix.Mkdev(136, 5), "1 (x) S 0 1 1 0 -1": 0, "1 (x) S 0 1 1 1083400 -1": unix.Mkdev(136, 264),
	} {
		if got, err := parseTTY([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %#x, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "12 (a", "12 (a) S 1 2", "12 (a) S 1 12 12 x"} {
		if got, err := parseTTY([]byte(bad)); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
}

func TestMayCreateOver(t *testing.T) {
	const user = 1000
	shared, group, private := unix.Stat_t{Mode: unix.S_IFDIR | 0o1777}, unix.Stat_t{Mode: unix.S_IFDIR | 0o1775}, unix.Stat_t{Mode: unix.S_IFDIR | 0o777}
	theirs, mine := uint32(2000), uint32(user)
	file := func(kind, owner uint32) *unix.Stat_t { return &unix.Stat_t{Mode: kind | 0o666, Uid: owner} }
	for _, c := range []struct {
		name string
		p    protections
		dir  *unix.Stat_t
		file *unix.Stat_t
		want bool
	}{
		{"another's file", protections{regular: 1}, &shared, file(unix.S_IFREG, theirs), false},
		{"the directory's owner's", protections{regular: 1}, &shared, file(unix.S_IFREG, 0), true},
		{"one's own", protections{regular: 1}, &shared, file(unix.S_IFREG, mine), true},
		{"switched off", protections{}, &shared, file(unix.S_IFREG, theirs), true},
		{"not sticky", protections{regular: 2}, &private, file(unix.S_IFREG, theirs), true},
		{"a group's, level 1", protections{regular: 1}, &group, file(unix.S_IFREG, theirs), true},
		{"a group's, level 2", protections{regular: 2}, &group, file(unix.S_IFREG, theirs), false},
		{"a FIFO", protections{fifos: 1}, &shared, file(unix.S_IFIFO, theirs), false},
		{"a FIFO, switched off", protections{regular: 2}, &shared, file(unix.S_IFIFO, theirs), true},
		{"something else", protections{}, &shared, file(unix.S_IFSOCK, theirs), false},
	} {
		if got := c.p.mayCreateOver(c.dir, c.file, user); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
