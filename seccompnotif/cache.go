package seccompnotif

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ProfileCache compiles profiles and keeps the programs on disk, one file each, named by a hash of everything that the program
// depends on. The zero value compiles every time. Several processes may use one directory at once.
type ProfileCache struct {
	// Dir is made if it does not exist (mode 0700). It is used only if it belongs to this process's user and nobody else has
	// any permission on it: what it holds becomes a filter.
	Dir string
	// Log, if not nil, is told in one line, like log.Printf, why the cache could not be used or a file of it was passed over.
	Log func(format string, args ...any)
}

const (
	// cacheFormat is the first line of each file. It changes when the file's form or what is compiled changes.
	cacheFormat = "seccomp profile as bpf, form 1\n"
	cacheSuffix = ".bpf"
	// cacheEntries is how many files are kept; the oldest go first.
	cacheEntries = 256

	instructionSize = int(unsafe.Sizeof(unix.SockFilter{}))
	cacheHeader     = len(cacheFormat) + sha256.Size
	cacheFileLimit  = cacheHeader + unix.BPF_MAXINSNS*instructionSize
)

// profileKey hashes everything that the program of a profile depends on.
func profileKey(profile *specs.LinuxSeccomp) (string, error) {
	// Flags and listener are not part of the program.
	canonical, err := json.Marshal(&specs.LinuxSeccomp{
		DefaultAction:   profile.DefaultAction,
		DefaultErrnoRet: profile.DefaultErrnoRet,
		Architectures:   profile.Architectures,
		Syscalls:        profile.Syscalls,
	})
	if err != nil {
		return "", fieldError("", "%w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%slibseccomp %s\n%s\n", cacheFormat, libraryVersion(), runtime.GOARCH)
	h.Write(canonical)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checksum covers the key too, so that a file under another's name is found out.
func checksum(key string, program []byte) []byte {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write(program)
	return h.Sum(nil)
}

// load returns the program kept under key, nil if there is none that can be trusted.
func (c ProfileCache) load(key string) []unix.SockFilter {
	if c.Dir == "" {
		return nil
	}
	dir, err := openPrivate(c.Dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.logf("seccomp profile cache is not used: %v", err)
		}
		return nil
	}
	defer func() { _ = dir.Close() }() // opened to find files by
	b, err := readCacheFile(dir, key+cacheSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var program []unix.SockFilter
		if program, err = decodeCacheFile(key, b); err == nil {
			return program
		}
	}
	c.logf("seccomp profile cache: %s%s is passed over: %v", key, cacheSuffix, err)
	return nil
}

func readCacheFile(dir *os.Root, name string) ([]byte, error) {
	file, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !private(info) {
		return nil, errors.New("it is no regular file of this user alone")
	}
	if info.Size() > int64(cacheFileLimit) {
		return nil, fmt.Errorf("its %d bytes are too many", info.Size())
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(file, b); err != nil {
		return nil, err
	}
	return b, nil
}

// decodeCacheFile checks what was read.
func decodeCacheFile(key string, b []byte) ([]unix.SockFilter, error) {
	rest, ok := bytes.CutPrefix(b, []byte(cacheFormat))
	if !ok || len(rest) < sha256.Size || len(b) > cacheFileLimit {
		return nil, errors.New("it has another form")
	}
	sum, encoded := rest[:sha256.Size], rest[sha256.Size:]
	if !bytes.Equal(sum, checksum(key, encoded)) {
		return nil, errors.New("its checksum is wrong")
	}
	program, ok := decodeProgram(encoded)
	if !ok {
		return nil, fmt.Errorf("a program has no %d bytes", len(encoded))
	}
	return program, nil
}

// decodeProgram reads instructions in the machine's byte order, as the kernel and libseccomp have them.
func decodeProgram(b []byte) ([]unix.SockFilter, bool) {
	if len(b) == 0 || len(b)%instructionSize != 0 {
		return nil, false
	}
	program := make([]unix.SockFilter, len(b)/instructionSize)
	copy(programBytes(program), b)
	return program, true
}

// programBytes returns the memory of program.
func programBytes(program []unix.SockFilter) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(program))), len(program)*instructionSize)
}

// store keeps program under key. A failure costs the next process its time, nothing else.
func (c ProfileCache) store(key string, program []unix.SockFilter) {
	if c.Dir == "" {
		return
	}
	if err := c.write(key, program); err != nil {
		c.logf("seccomp profile cache: not kept: %v", err)
	}
}

func (c ProfileCache) write(key string, program []unix.SockFilter) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	dir, err := openPrivate(c.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // opened to find files by
	makeRoom(dir)
	encoded := programBytes(program)
	b := slices.Concat([]byte(cacheFormat), checksum(key, encoded), encoded)
	// The name is the same for all that write this entry, so that whoever is killed meanwhile leaves at most one file behind.
	// They all write the same bytes, and who reads one that is incomplete finds out by its checksum.
	temporary := key + ".tmp"
	if err := writeFile(dir, temporary, b); err != nil {
		_ = dir.Remove(temporary) // the next to write this entry uses the name again
		return err
	}
	return dir.Rename(temporary, key+cacheSuffix)
}

func writeFile(dir *os.Root, name string, b []byte) error {
	file, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(b); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// makeRoom removes the oldest files if there are too many. It needs no success: the number only has to stay bounded.
func makeRoom(dir *os.Root) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil || len(entries) < cacheEntries {
		return
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && isCacheName(info.Name()) {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return cmp.Compare(a.ModTime().UnixNano(), b.ModTime().UnixNano()) })
	for _, f := range files[:max(0, len(files)-cacheEntries/2)] {
		_ = dir.Remove(f.Name()) // see above
	}
}

func isCacheName(name string) bool {
	return strings.HasSuffix(name, cacheSuffix) || strings.HasSuffix(name, ".tmp")
}

// openPrivate opens a directory that nobody but this process's user can write to or read.
func openPrivate(path string) (*os.Root, error) {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat(".")
	if err == nil && !private(info) {
		err = fmt.Errorf("%s does not belong to this user alone", path)
	}
	if err != nil {
		_ = dir.Close() // opened to find files by
		return nil, err
	}
	return dir, nil
}

// private tells whether a file belongs to this process's user and grants nothing to others.
func private(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode().Perm()&0o077 == 0
}

func (c ProfileCache) logf(format string, args ...any) {
	if c.Log != nil {
		c.Log(format, args...)
	}
}
