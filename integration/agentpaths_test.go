package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// reader is a shell in a container that prints the first line of the files that it is told.
type reader struct{ *stepper }

// reader starts one in a directory, which it also has open as descriptor 9.
func (c *container) reader(t testing.TB, dir string, flags ...string) reader {
	t.Helper()
	text := fmt.Sprintf(`cd %s; exec 9<.; echo up; while read -r p; do x=; read -r x <"$p" && echo "it says $x" || echo refused; done`, dir)
	args := append([]string{"--root", c.rt.root}, c.rt.args...)
	args = append(append(append(args, "exec"), flags...), c.id, "/bin/sh", "-c", text)
	cmd := exec.Command(c.rt.path, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	s := &stepper{orders: in, answer: bufio.NewReader(out), t: t}
	if line := s.line(); line != "up" {
		t.Fatalf("the reader said %q", line)
	}
	return reader{s}
}

func (r reader) read(path string) string {
	r.t.Helper()
	fmt.Fprintln(r.orders, path)
	return r.line()
}

// secretRoot adds what is denied later, and other names of it, to a root.
func secretRoot(t testing.TB, root string) {
	t.Helper()
	for _, dir := range []string{"data/dir/sub", "open"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"data/dir/secret": "secret", "data/dir/sub/deep": "deep", "data/file": "file", "open/file": "open", "data/dir/linked": "linked"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"data/dir/linked": "open/hard", "data/file": "open/hard2"} {
		if err := os.Link(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/data/dir", filepath.Join(root, "open/dir")); err != nil {
		t.Fatal(err)
	}
}

// TestPolicyAgentDeniesPaths denies paths of a running container. That the ways are open before is the control.
func TestPolicyAgentDeniesPaths(t *testing.T) {
	ways := map[string]string{
		"/data/dir/secret": "secret", "/open/dir/secret": "secret", "/open/../data/dir/sub/../secret": "secret", "/data/dir/sub/deep": "deep", "deep": "deep", "../secret": "secret",
		"/proc/self/root/data/dir/secret": "secret", "/proc/self/cwd/deep": "deep", "/proc/self/fd/9/deep": "deep", "/open/hard": "linked", "/data/file": "file", "/open/hard2": "file",
	}
	rest := map[string]string{"/open/file": "open", "/etc/group": "root:x:0:", "/proc/self/comm": "sh"}
	for name, c := range map[string]struct {
		flags       []string
		annotations []string
		events      string
	}{
		"root":           {nil, nil, ""},
		"user":           {[]string{"--user", "1000:1000"}, nil, ""},
		"path rules":     {nil, []string{"io.sandlock.filesystem.read", "/", "io.sandlock.filesystem.write", "/tmp"}, ""},
		"without events": {nil, nil, `,"syscalls":[]`},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, `{"type":"hello","version":1`+c.events+`}`, allowAll)
			r := newRuntimeWithAgent(t, a.path)
			b := script(t, "echo up; sleep 1000")
			secretRoot(t, b.root)
			b.annotate(c.annotations...)
			box := r.start(t, b)
			box.line(t)
			in := box.reader(t, "/data/dir/sub", c.flags...)
			expect := func(when string, want map[string]string, refused bool) {
				t.Helper()
				for path, text := range want {
					text = "it says " + text
					if refused {
						text = "refused"
					}
					if got := in.read(path); got != text {
						t.Errorf("%s: %s: %q", when, path, got)
					}
				}
			}
			expect("before", ways, false)
			for _, path := range []string{"/data/dir", "/data/file"} {
				if err := a.change(`"op":"restrict","deny_path":%q`, path); err != "" {
					t.Fatal(err)
				}
			}
			expect("after", ways, true)
			expect("beside", rest, false)
			// A process that comes later knows no more.
			later := box.reader(t, "/open", c.flags...)
			for _, path := range []string{"/data/dir/secret", "hard", "dir/secret", "hard2"} {
				if got := later.read(path); got != "refused" {
					t.Errorf("a later process: %s: %q", path, got)
				}
			}
			if got := later.read("file"); got != "it says open" {
				t.Errorf("a later process: %q", got)
			}
			if b, err := os.ReadFile(filepath.Join(b.root, "data/dir/secret")); err != nil || string(b) != "secret\n" {
				t.Errorf("on the host: %q, %v", b, err)
			}
			file, err := os.ReadFile(filepath.Join(r.root, box.id, "denials.log"))
			eventually(t, "it is on record", func() bool {
				file, err = os.ReadFile(filepath.Join(r.root, box.id, "denials.log"))
				return err == nil && strings.Contains(string(file), `"target":"/data/dir"`) && strings.Contains(string(file), `"target":"/data/file"`)
			})
		})
	}
}

// TestPolicyAgentDeniesPathsOfPrograms denies a program, by the kernel alone.
func TestPolicyAgentDeniesPathsOfPrograms(t *testing.T) {
	a := newAgent(t, helloAll, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	b := script(t, "echo up; sleep 1000")
	if err := os.Link(filepath.Join(b.root, "bin/busybox"), filepath.Join(b.root, "bin/busybox-tool")); err != nil {
		t.Fatal(err)
	}
	c := r.start(t, b)
	c.line(t)
	if res := c.shell(t, "/bin/busybox-tool echo it runs"); !strings.Contains(res.stdout, "it runs") {
		t.Fatalf("before: %+v", res)
	}
	if err := a.change(`"op":"restrict","deny_path":"/bin/guest"`); err != "" {
		t.Fatal(err)
	}
	if res := c.shell(t, "/bin/guest sleep || echo refused; /bin/busybox-tool echo it runs"); !strings.Contains(res.stdout, "refused\nit runs") {
		t.Errorf("after: %+v", res)
	}
}

func TestPolicyAgentDeniesPathsErrors(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":[]}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	c := r.start(t, script(t, "echo up; sleep 1000"))
	c.line(t)
	for path, want := range map[string]string{"/nothing": unix.ENOENT.Error(), "/": "root", "/bin/busybox/x": unix.ENOTDIR.Error()} {
		if err := a.change(`"op":"restrict","deny_path":%q`, path); !strings.Contains(err, want) {
			t.Errorf("%s: %q", path, err)
		}
	}
}
