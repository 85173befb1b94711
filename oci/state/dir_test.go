package state

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestValidateID(t *testing.T) {
	for _, id := range []string{"a", "A_b+c-d.e", "0", "...", ".a", strings.Repeat("x", maxID)} {
		if err := ValidateID(id); err != nil {
			t.Errorf("%.20q: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "a/b", "/", "a b", "ä", "a\x00", "a\n", "a:b", strings.Repeat("x", maxID+1)} {
		err := ValidateID(id)
		if !errors.Is(err, ErrInvalidID) || !strings.HasPrefix(err.Error(), "invalid container ID format") {
			t.Errorf("%.20q: %v", id, err)
		}
		if _, err := Create(t.TempDir(), id); !errors.Is(err, ErrInvalidID) {
			t.Errorf("Create %.20q: %v", id, err)
		}
		if _, err := Open(t.TempDir(), id); !errors.Is(err, ErrInvalidID) {
			t.Errorf("Open %.20q: %v", id, err)
		}
	}
}

func create(t *testing.T, root, id string) *Dir {
	t.Helper()
	d, err := Create(root, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestCreateOpenList(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "root")
	if _, err := Open(root, "c"); !errors.Is(err, ErrNotExist) {
		t.Errorf("Open without a root: %v", err)
	}
	if _, err := List(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List without a root: %v", err)
	}
	d := create(t, root, "c")
	create(t, root, "b")
	for _, dir := range []string{root, d.Path()} {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	_, err := Create(root, "c")
	if !errors.Is(err, ErrExist) || err.Error() != `container with given ID already exists: "c"` {
		t.Errorf("second Create: %v", err)
	}
	_, err = Open(root, "d")
	if !errors.Is(err, ErrNotExist) || err.Error() != `container does not exist: "d"` {
		t.Errorf("Open of none: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "not an id"), 0o700); err != nil {
		t.Fatal(err)
	}
	ids, err := List(root)
	if err != nil || !slices.Equal(ids, []string{"b", "c"}) {
		t.Errorf("List = %v, %v", ids, err)
	}
	if uid, err := d.Owner(); err != nil || uid != os.Geteuid() {
		t.Errorf("Owner = %d, %v", uid, err)
	}
}

func TestSymlinkIsNoContainer(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink(t.TempDir(), filepath.Join(root, "c")); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(root, "c"); err == nil {
		d.Close()
		t.Error("a symbolic link was opened as a container")
	}
	if _, err := Create(root, "c"); !errors.Is(err, ErrExist) {
		t.Errorf("Create over a symbolic link: %v", err)
	}
}

func TestOneOfManyCreatesWins(t *testing.T) {
	root := t.TempDir()
	var won, lost atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			d, err := Create(root, "c")
			if err == nil {
				won.Add(1)
				_ = d.Close()
			} else if errors.Is(err, ErrExist) {
				lost.Add(1)
			} else {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || lost.Load() != 15 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}

func TestWriteFileIsAllOrNothing(t *testing.T) {
	d := create(t, t.TempDir(), "c")
	texts := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<15)}
	if err := d.WriteFile("f", texts[0]); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for w := range 2 {
		group.Go(func() {
			for range 50 {
				if err := d.WriteFile("f", texts[w]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 200 {
			got, err := d.ReadFile("f")
			if err != nil || !bytes.Equal(got, texts[0]) && !bytes.Equal(got, texts[1]) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		}
	})
	group.Wait()
	names, err := os.ReadDir(d.Path())
	if err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting a small tmpfs needs root")
	}
	root := t.TempDir()
	if err := unix.Mount("small", root, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	d := create(t, root, "c")
	if err := d.WriteFile("f", []byte("old")); err != nil {
		t.Fatal(err)
	}
	err := d.WriteFile("f", make([]byte, 1<<20))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if got, err := d.ReadFile("f"); err != nil || string(got) != "old" {
		t.Errorf("the old file has become %.10q, %v", got, err)
	}
	names, _ := os.ReadDir(d.Path())
	if len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestRemove(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, fill := range map[string]func(*Dir) error{
		"empty":     func(*Dir) error { return nil },
		"half made": func(d *Dir) error { return os.WriteFile(d.Path()+"/.state.json.7.1", []byte("{"), 0o600) },
		"full": func(d *Dir) error {
			l, err := d.Listen()
			if err == nil {
				err = l.Close()
			}
			return errors.Join(err, d.Save(&Record{}), os.MkdirAll(d.Path()+"/sub/sub", 0o700), os.Symlink(outside, d.Path()+"/link"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := create(t, root, "c")
			if err := fill(d); err != nil {
				t.Fatal(err)
			}
			unlock, err := d.Lock(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time there is nothing left to do
				if err := d.Remove(); err != nil {
					t.Fatal(err)
				}
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(d.Path()); !errors.Is(err, fs.ErrNotExist) {
				t.Error("still there")
			}
			if _, err := os.Stat(precious); err != nil {
				t.Error("followed a symbolic link out")
			}
		})
	}
}

func TestRemoveSparesTheNextOfThatName(t *testing.T) {
	root := t.TempDir()
	old := create(t, root, "c")
	same, err := Open(root, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	if err := old.Remove(); err != nil {
		t.Fatal(err)
	}
	next := create(t, root, "c")
	if err := same.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(next.Path()); err != nil {
		t.Error("removing the old container took the new one")
	}
}

func TestLock(t *testing.T) {
	root := t.TempDir()
	d := create(t, root, "c")
	other, err := Open(root, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	unlock, err := d.Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if _, err := other.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second holder: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		again, err := other.Lock(context.Background())
		if err == nil {
			err = again()
		}
		got <- err
	}()
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("after the release: %v", err)
	}

	// Who waits for the lock of a container that is removed learns that it is gone.
	unlock, err = d.Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := other.Lock(context.Background())
		got <- err
	}()
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrNotExist) {
		t.Errorf("lock of a removed container: %v", err)
	}
}

func TestMutualExclusion(t *testing.T) {
	d := create(t, t.TempDir(), "c")
	var group sync.WaitGroup
	var inside atomic.Int32
	for range 8 {
		group.Go(func() {
			unlock, err := d.Lock(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two hold the lock")
			}
			inside.Add(-1)
			_ = unlock()
		})
	}
	group.Wait()
}

func TestSocketUnderLongRoot(t *testing.T) {
	root := t.TempDir()
	for len(root) < 300 {
		root = filepath.Join(root, strings.Repeat("r", 50))
	}
	d := create(t, root, "c")
	if _, err := d.Dial(context.Background()); !errors.Is(err, ErrNoMonitor) {
		t.Errorf("no socket yet: %v", err)
	}
	l, err := d.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Listen(); !errors.Is(err, unix.EADDRINUSE) || strings.Contains(err.Error(), "/proc/") {
		t.Errorf("a second monitor: %v", err)
	}
	other, err := Open(root, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	accepted := make(chan *net.UnixConn, 1)
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	conn, err := other.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server := <-accepted
	defer server.Close()
	cred, err := CheckPeer(server)
	if err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Getuid() {
		t.Errorf("peer %+v, %v", cred, err)
	}
	_ = l.Close()
	if _, err := other.Dial(context.Background()); !errors.Is(err, ErrNoMonitor) {
		t.Errorf("the monitor is gone: %v", err)
	}
}

func TestTrusted(t *testing.T) {
	for _, tt := range []struct {
		peer uint32
		own  int
		want bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 0, false}, {1001, 1000, false}} {
		if got := trusted(tt.peer, tt.own); got != tt.want {
			t.Errorf("peer %d of %d: %v", tt.peer, tt.own, got)
		}
	}
}
