package launch

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disturbed is a directory whose file "a/../file" is looked up while another thread renames all the time, so that the kernel now and then
// fails the lookup with EAGAIN: the test has seen it do so.
func disturbed(t *testing.T) (dir int, path string) {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Renameat(dir, "b", dir, "c")
			_ = unix.Renameat(dir, "c", dir, "b")
		}
	})
	t.Cleanup(func() {
		close(stop)
		done.Wait()
		unix.Close(dir)
	})
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: InRoot}
	for deadline := time.Now().Add(time.Minute); ; {
		fd, err := unix.Openat2(dir, "a/../file", &how)
		if err == unix.EAGAIN {
			return dir, "a/../file"
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		if time.Now().After(deadline) {
			t.Fatal("the kernel never says EAGAIN: the disturbance is none")
		}
	}
}

const disturbedLookups = 2000

func TestOpenInRootDuringRenames(t *testing.T) {
	dir, path := disturbed(t)
	for range disturbedLookups {
		fd, err := OpenInRoot(dir, path, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
}

func TestStepsDuringRenames(t *testing.T) {
	dir, path := disturbed(t)
	p := New()
	file := p.Openat2(Inherited(dir, "dir"), path, unix.O_PATH|unix.O_CLOEXEC, 0, InRoot).Result("file")
	for range disturbedLookups {
		p.Close(file)
		p.Openat2(Inherited(dir, "dir"), path, unix.O_PATH|unix.O_CLOEXEC, 0, InRoot).Into(file)
	}
	p.Execve("/bin/true", Strings([]string{"true"}, ""), Strings(nil, ""))
	c := start(t, p, Options{})
	wantDone(t, c)
	if code := finish(t, c); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
