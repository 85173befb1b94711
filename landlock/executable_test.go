package landlock

import (
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// image makes a root in which /lib is a link, /bin/app needs /lib/ld.so and /bin/script needs /bin/app.
func image(t *testing.T) string {
	t.Helper()
	root := tree(t, "usr/lib/ld.so", "bin/static", "etc/", "bin/dir/")
	if err := os.Symlink("/usr/lib", filepath.Join(root, "lib")); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"bin/app": string(elfFile(t, elf.ELFCLASS64, "/lib/ld.so")), "bin/script": "#!/bin/app\n", "bin/lost": "#!/bin/nothing\n",
		"bin/loop": "#!/bin/loop\n", "bin/broken": "#!\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestCheckExecutable(t *testing.T) {
	root := image(t)
	for _, c := range []struct {
		read  []string
		tried []string
		want  string
	}{
		{[]string{"/bin", "/usr"}, []string{"/bin/app"}, ""},
		{[]string{"/bin", "/lib"}, []string{"/bin/app"}, ""}, // the list names the link, the file is beneath its target
		{[]string{"/bin", "/lib/ld.so"}, []string{"/bin/script"}, ""},
		{[]string{"/bin"}, []string{"/bin/static"}, ""},
		{[]string{"/bin/static"}, []string{"/sbin/static", "/etc", "/bin/data", "/bin/static"}, ""},
		{[]string{"/bin"}, []string{"/bin/broken"}, ""},
		{[]string{"/bin"}, []string{"/bin/loop"}, ""},
		{nil, []string{"/bin/lost"}, ""},
		{[]string{"/bin"}, []string{"/bin/app"}, "filesystem.read: /bin/app: the lists do not let its interpreter /lib/ld.so be executed"},
		{[]string{"/bin"}, []string{"/bin/script"}, "filesystem.read: /bin/script: the lists do not let its interpreter /lib/ld.so be executed"},
		{[]string{"/usr"}, []string{"/bin/app"}, "filesystem.read: /bin/app: the lists do not let it be executed"},
		{[]string{}, []string{"/bin/static"}, "filesystem.read: /bin/static: the lists do not let it be executed"},
		{[]string{"/bin"}, []string{"/bin/lost"}, "/bin/lost: interpreter /bin/nothing: no such file or directory"},
		{[]string{"/bin"}, []string{"/bin/nothing"}, "/bin/nothing: file does not exist"},
		{[]string{"/bin"}, []string{"/bin/data"}, "/bin/data: permission denied"},
		{[]string{"/bin"}, nil, "no program: file does not exist"},
	} {
		ruleset, err := Plan(Request{Read: c.read, Keep: DefaultKeep()}, latest)
		if err != nil {
			t.Fatal(err)
		}
		err = ruleset.CheckExecutable(inRoot(root), c.tried...)
		if got := errText(err); got != c.want {
			t.Errorf("%v, %v: %q, want %q", c.read, c.tried, got, c.want)
		}
		var refused *ExecutableError
		if errors.As(err, &refused) != strings.Contains(c.want, "the lists") {
			t.Errorf("%v, %v: %T", c.read, c.tried, err)
		}
		if strings.Contains(c.want, "not exist") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, %v: %v is not fs.ErrNotExist", c.read, c.tried, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestCheckExecutableIsRight has the kernel confirm both answers: no list is refused that would have worked, and none is
// accepted that would not.
func TestCheckExecutableIsRight(t *testing.T) {
	root := image(t)
	for _, read := range [][]string{{"/bin"}, {"/bin", "/lib"}, {"/bin/app", "/usr/lib/ld.so"}, {"/lib"}, {}} {
		request := Request{Read: read}
		ruleset, err := Plan(request, running(t))
		if err != nil {
			t.Fatal(err)
		}
		want := unix.EACCES
		if ruleset.CheckExecutable(inRoot(root), "/bin/static") == nil {
			want = unix.ENOEXEC
		}
		try(t, request, inRoot(root), []trial{{deed{"execute", filepath.Join(root, "bin/static"), ""}, want}})
		want = unix.EACCES
		if ruleset.Executes("/usr/lib/ld.so") || ruleset.CheckExecutable(inRoot(root), "/usr/lib/ld.so") == nil {
			want = unix.ENOEXEC
		}
		try(t, request, inRoot(root), []trial{{deed{"execute", filepath.Join(root, "usr/lib/ld.so"), ""}, want}})
	}
}

func TestProbed(t *testing.T) {
	for _, c := range []struct {
		version int
		err     error
		abi     ABI
		want    error
	}{
		{7, nil, 7, nil},
		{-1, unix.ENOSYS, 0, ErrAbsent},
		{-1, unix.EOPNOTSUPP, 0, ErrDisabled},
		{-1, unix.EPERM, 0, unix.EPERM},
	} {
		abi, err := probed(c.version, c.err)
		if abi != c.abi || !errors.Is(err, c.want) {
			t.Errorf("%+v: %d, %v", c, abi, err)
		}
	}
	if _, err := probed(0, nil); err == nil {
		t.Error("ABI 0 was accepted")
	}
}
