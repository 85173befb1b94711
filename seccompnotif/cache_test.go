//go:build cgo

package seccompnotif

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	var logged []string
	c := ProfileCache{Dir: dir, Log: func(format string, args ...any) { logged = append(logged, format) }}
	first := compiled(t, c, likeDocker())
	if first.Cached {
		t.Fatal("the first program came out of an empty cache")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the cache holds %v, %v", entries, err)
	}
	file := filepath.Join(dir, entries[0].Name())
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if parent, err := os.Stat(dir); err != nil || parent.Mode().Perm() != 0o700 || info.Mode().Perm() != 0o600 {
		t.Errorf("modes %v and %v, %v", parent.Mode(), info.Mode(), err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hit := func() bool {
		t.Helper()
		f := compiled(t, c, likeDocker())
		if !slices.Equal(f.Program, first.Program) || f.Flags != first.Flags {
			t.Error("the program is another one")
		}
		return f.Cached
	}
	if !hit() {
		t.Error("not found again")
	}
	if len(logged) > 0 {
		t.Errorf("logged %q", logged)
	}

	other := likeDocker()
	other.DefaultErrnoRet = ptr(uint(unix.EACCES))
	if compiled(t, c, other).Cached {
		t.Error("another profile was found")
	}
	other = likeDocker()
	other.Flags = []specs.LinuxSeccompFlag{}
	if f := compiled(t, c, other); !f.Cached || f.Flags != 0 {
		t.Errorf("the same rules with other flags: cached %t, flags %#x", f.Cached, f.Flags)
	}

	damage := func(change func(b []byte) []byte) func() error {
		return func() error { return os.WriteFile(file, change(slices.Clone(good)), 0o600) }
	}
	for name, do := range map[string]func() error{
		"a flipped bit":     damage(func(b []byte) []byte { b[len(b)-5] ^= 1; return b }),
		"cut off":           damage(func(b []byte) []byte { return b[:len(b)-8] }),
		"cut in the header": damage(func(b []byte) []byte { return b[:20] }),
		"empty":             damage(func([]byte) []byte { return nil }),
		"other form":        damage(func(b []byte) []byte { b[0] ^= 1; return b }),
		"too long":          damage(func(b []byte) []byte { return append(b, make([]byte, cacheFileLimit)...) }),
		"no program": damage(func(b []byte) []byte {
			return append(b[:len(cacheFormat)], checksum(strings.TrimSuffix(filepath.Base(file), cacheSuffix), nil)...)
		}),
		"readable by all": func() error { return os.Chmod(file, 0o644) },
		"another's entry": damage(func(b []byte) []byte {
			program := b[cacheHeader:]
			return slices.Concat([]byte(cacheFormat), checksum("another key", program), program)
		}),
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if hit() {
			t.Errorf("%s: trusted", name)
		}
		if !hit() {
			t.Errorf("%s: not mended", name)
		}
	}
	if len(logged) == 0 {
		t.Error("nobody was told of the damage")
	}
}

func TestCacheThatCannotBeUsed(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(base, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(base, "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(foreign, 12345, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		foreign = "/"
	}
	for name, dir := range map[string]string{
		"none": "", "a file": file, "beneath a file": filepath.Join(file, "x"), "open to all": open, "another user's": foreign, "not writable": "/proc/1/nothing",
	} {
		logged := false
		c := ProfileCache{Dir: dir, Log: func(string, ...any) { logged = true }}
		for range 2 {
			if f := compiled(t, c, likeDocker()); f.Cached || len(f.Program) == 0 {
				t.Errorf("%s: cached %t, %d instructions", name, f.Cached, len(f.Program))
			}
		}
		if logged != (dir != "") {
			t.Errorf("%s: logged %t", name, logged)
		}
	}
	for _, dir := range []string{open, foreign} {
		if entries, err := os.ReadDir(dir); dir != "/" && (err != nil || len(entries) > 0) {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := ProfileCache{Dir: t.TempDir()}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	program := []unix.SockFilter{ret(retAllow)}
	for i := range cacheEntries + 50 {
		c.store(fmt.Sprintf("%064d", i), program)
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil || len(entries) > cacheEntries {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if c.load(fmt.Sprintf("%064d", cacheEntries+49)) == nil {
		t.Error("the newest entry is gone")
	}
}

func FuzzDecodeCacheFile(f *testing.F) {
	good := programBytes([]unix.SockFilter{ret(retAllow)})
	f.Add("key", slices.Concat([]byte(cacheFormat), checksum("key", good), good))
	f.Add("key", []byte(cacheFormat))
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		program, err := decodeCacheFile(key, b)
		if err == nil && (len(program) == 0 || len(program) > unix.BPF_MAXINSNS) {
			t.Errorf("a program of %d instructions", len(program))
		}
	})
}
