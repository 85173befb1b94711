package integration

import (
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
	s := converse(t, cmd)
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
		"without events": {nil, nil, `,"syscalls":[],"deny_paths":true`},
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

// TestPolicyAgentDeniesPathsOfPrograms denies a program, which has another name and is what a script is run by.
func TestPolicyAgentDeniesPathsOfPrograms(t *testing.T) {
	for name, hello := range map[string]string{
		"all events": helloAll, "no arguments": `{"type":"hello","version":1,"syscalls":["execve"],"argv":false,"deny_paths":true}`,
		"no events": `{"type":"hello","version":1,"syscalls":[],"deny_paths":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, hello, allowAll)
			r := newRuntimeWithAgent(t, a.path)
			b := script(t, "echo up; sleep 1000")
			bin := filepath.Join(b.root, "bin")
			program, err := os.ReadFile(filepath.Join(bin, "busybox"))
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{
				os.WriteFile(filepath.Join(bin, "busybox-tool"), program, 0o755), os.Link(filepath.Join(bin, "busybox-tool"), filepath.Join(bin, "busybox-alias")),
				os.WriteFile(filepath.Join(bin, "script"), []byte("#!/bin/busybox-alias sh\necho it runs\n"), 0o755),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			c := r.start(t, b)
			c.line(t)
			ways := []string{"/bin/busybox-tool echo it runs", "/bin/busybox-alias echo it runs", "cd /bin; ./busybox-alias echo it runs", "/bin/script", "/proc/self/root/bin/busybox-tool echo it runs"}
			for _, way := range ways {
				if res := c.shell(t, way); res.stdout != "it runs\n" {
					t.Errorf("before: %s: %+v", way, res)
				}
			}
			if err := a.change(`"op":"restrict","deny_path":"/bin/busybox-tool"`); err != "" {
				t.Fatal(err)
			}
			for _, way := range ways {
				if res := c.shell(t, way); res.stdout != "" || !strings.Contains(res.stderr, "ermission denied") {
					t.Errorf("after: %s: %+v", way, res)
				}
			}
			if res := c.shell(t, "/bin/busybox echo it runs"); res.stdout != "it runs\n" {
				t.Errorf("what is not denied: %+v", res)
			}
		})
	}
}

func TestPolicyAgentDeniesPathsErrors(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"syscalls":[],"deny_paths":true}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	c := r.start(t, script(t, "echo up; sleep 1000"))
	c.line(t)
	for path, want := range map[string]string{"/nothing": unix.ENOENT.Error(), "/": "root", "/bin/busybox/x": unix.ENOTDIR.Error()} {
		if err := a.change(`"op":"restrict","deny_path":%q`, path); !strings.Contains(err, want) {
			t.Errorf("%s: %q", path, err)
		}
	}
}

// TestPolicyAgentWithoutDenyPaths: who does not want to deny paths does not have files trapped, and cannot.
func TestPolicyAgentWithoutDenyPaths(t *testing.T) {
	a := newAgent(t, `{"type":"hello","version":1,"categories":["network"]}`, allowAll)
	r := newRuntimeWithAgent(t, a.path)
	c := r.start(t, script(t, "echo up; sleep 1000"))
	c.line(t)
	if err := a.change(`"op":"restrict","deny_path":"/etc"`); !strings.Contains(err, "deny_paths") {
		t.Errorf("%q", err)
	}
	if text := r.must(t, "inspect", c.id); strings.Contains(text, "openat") || !strings.Contains(text, "connect") {
		t.Errorf("trapped: %s", text)
	}
}
