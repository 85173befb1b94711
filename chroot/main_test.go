package chroot

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

// inside tells the test binary that it has its mount namespace already.
const inside = "CHROOT_TEST_INSIDE"

// TestMain gives the tests a mount namespace of their own as "the host": what they mount goes with it.
func TestMain(m *testing.M) {
	testguest.Main(deniedGuestVariable, deniedGuestMain)
	flag.Parse()
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		if os.Geteuid() == 0 {
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				fmt.Fprintln(os.Stderr, "making the test's mount namespace private:", err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inside+"=1")
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := again.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	busybox   = "/bin/busybox"
	hostIDs   = 100000 // where a user namespace's ids start on the host
	countOfID = 65536
)

// box is a container in the making: a directory with busybox, and the request for its map.
type box struct {
	testing.TB
	root    string
	request MapRequest
	setup   func(*launch.Program, launch.FD) // steps between pivot and finish
	hook    func(*launch.Child)              // what the parent does when everything is attached
	sync    func(*launch.Child)              // what it does at the sync points of setup
	sources *Sources                         // of the run
	opened  func(*Sources)                   // what happens to the sources before the start
}

// newBox has Docker's mounts without the cgroups.
func newBox(t testing.TB) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: mounting takes root")
	}
	dir := t.TempDir()
	// The kernel looks paths up as the container's root, who is nobody on the host in a user namespace.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b := &box{TB: t, root: dir + "/rootfs"}
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "data"} {
		b.mkdir(d)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	b.file("bin/busybox", string(program), 0o755)
	for _, applet := range []string{"sh", "cat", "ls", "stat", "mount", "umount", "touch", "mkdir", "mknod", "readlink", "test", "tty", "id", "find", "chmod", "sleep", "head", "wc", "grep", "dd"} {
		b.link("busybox", "bin/"+applet)
	}
	spec := dockerSpec(t)
	var mounts []specs.Mount
	for _, m := range spec.Mounts {
		if m.Type != "bind" && m.Type != "cgroup" {
			mounts = append(mounts, m)
		}
	}
	spec.Mounts = mounts
	b.request = MapRequest{Spec: spec, RootFS: b.root, Bundle: dir, KernelCore: true}
	return b
}

func (b *box) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) mkdir(name string) string {
	b.Helper()
	b.must(os.MkdirAll(filepath.Join(b.root, name), 0o755))
	return filepath.Join(b.root, name)
}

func (b *box) file(name, content string, mode os.FileMode) {
	b.Helper()
	file := filepath.Join(b.root, name)
	b.must(os.MkdirAll(filepath.Dir(file), 0o755))
	b.must(os.WriteFile(file, []byte(content), mode))
	b.must(os.Chmod(file, mode))
}

func (b *box) link(target, name string) {
	b.Helper()
	b.must(os.Symlink(target, filepath.Join(b.root, name)))
}

// host makes a directory beside the root with one file in it.
func (b *box) host(name string) string {
	b.Helper()
	dir := filepath.Join(filepath.Dir(b.root), name)
	b.must(os.MkdirAll(dir, 0o755))
	b.must(os.WriteFile(dir+"/file", []byte("host\n"), 0o644))
	return dir
}

func (b *box) mount(destination, kind, source string, options ...string) {
	b.request.Spec.Mounts = append(b.request.Spec.Mounts, specs.Mount{Destination: destination, Type: kind, Source: source, Options: options})
}

// inUserNamespace maps the container's ids to the host's from hostIDs on, and gives the root to its root.
func (b *box) inUserNamespace() {
	b.Helper()
	b.request.UserNamespace = true
	b.must(filepath.Walk(b.root, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, hostIDs, hostIDs)
	}))
}

// run starts script in the container and returns what it prints and its exit status.
func (b *box) run(script string) (string, int, error) {
	b.Helper()
	m, err := NewMap(b.request)
	if err != nil {
		return "", 0, err
	}
	s, err := Open(m)
	if err != nil {
		return "", 0, err
	}
	defer s.Close()
	b.sources = s
	if b.opened != nil {
		b.opened(s)
	}
	read, write, err := os.Pipe()
	b.must(err)
	defer read.Close()
	defer write.Close()

	p := launch.New()
	o := launch.Options{Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP}
	if b.request.UserNamespace {
		o.Namespaces |= unix.CLONE_NEWUSER
		p.Sync("born")
		p.Setresgid(0)
		p.Setresuid(0)
	}
	root := s.Steps(p)
	attached := p.Sync("attached")
	s.Pivot(p, root)
	if b.setup != nil {
		b.setup(p, root)
	}
	s.Finish(p, root)
	p.Dup3(launch.Inherited(int(write.Fd()), "output"), 1)
	p.Dup3(launch.Inherited(int(write.Fd()), "output"), 2)
	p.Unblock()
	p.CloseOnExec(3)
	p.Execve("/bin/sh", launch.Strings([]string{"sh", "-c", script}, ""), launch.Strings([]string{"PATH=/bin"}, ""))

	c, err := launch.Start(p, o)
	b.must(err)
	defer c.PIDFD.Close()
	defer c.Close()
	write.Close()
	for {
		at, err := c.Wait()
		if err != nil {
			b.reap(c)
			return "", 0, err
		}
		if at == launch.Done {
			break
		}
		if b.request.UserNamespace && at == launch.Sync(1) {
			for _, file := range []string{"uid_map", "gid_map"} {
				b.must(os.WriteFile(fmt.Sprintf("/proc/%d/%s", c.PID, file), fmt.Appendf(nil, "0 %d %d\n", hostIDs, countOfID), 0o600))
			}
		}
		if at == attached && b.hook != nil {
			b.hook(c)
		}
		if at > attached && b.sync != nil {
			b.sync(c)
		}
		b.must(c.Proceed())
	}
	out, err := io.ReadAll(read)
	b.must(err)
	return string(out), b.reap(c), nil
}

func (b *box) reap(c *launch.Child) int {
	b.Helper()
	var status unix.WaitStatus
	_, err := unix.Wait4(c.PID, &status, 0, nil)
	b.must(err)
	return status.ExitStatus()
}

// want runs script and compares what it prints.
func (b *box) want(script, want string) {
	b.Helper()
	got, _, err := b.run(script)
	if err != nil {
		b.Fatal(err)
	}
	if strings.TrimSpace(got) != want {
		b.Errorf("%s:\n%s\nwant\n%s", script, got, want)
	}
}

// refused wants the start to fail with these words.
func (b *box) refused(want string) {
	b.Helper()
	got, _, err := b.run("echo started")
	if err == nil {
		b.Fatalf("it started: %q; want %q", got, want)
	}
	if err.Error() != want {
		b.Errorf("%q, want %q", err, want)
	}
}
