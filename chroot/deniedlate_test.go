package chroot

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of ioctl_userfaultfd(2), from <linux/userfaultfd.h>.
const (
	uffdAPI        = 0xaa
	uffdioAPI      = 0xc018aa3f
	uffdioRegister = 0xc020aa00
	uffdioCopy     = 0xc028aa03
	uffdMissing    = 1 // UFFDIO_REGISTER_MODE_MISSING
)

// latePath is a path in memory that is not there yet: who reads it waits.
type latePath struct {
	uffd   int
	page   uint64
	result chan unix.Errno
}

var late latePath

func newLatePath() (latePath, error) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return latePath{}, errno
	}
	memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return latePath{}, err
	}
	p := latePath{uffd: int(fd), page: uint64(uintptr(unsafe.Pointer(&memory[0]))), result: make(chan unix.Errno, 1)}
	if err := p.request(uffdioAPI, uffdAPI, 0, 0); err != nil {
		return latePath{}, err
	}
	return p, p.request(uffdioRegister, p.page, 4096, uffdMissing, 0)
}

func (p *latePath) request(nr uintptr, words ...uint64) error {
	b := make([]byte, 0, 8*len(words))
	for _, w := range words {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.uffd), nr, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return errno
	}
	return nil
}

// wanted waits until somebody reads the path.
func (p *latePath) wanted() error {
	b := make([]byte, 32) // struct uffd_msg
	n, err := unix.Read(p.uffd, b)
	if err == nil && n != len(b) {
		err = errors.New("half a message of userfaultfd")
	}
	return err
}

// become has the path be there.
func (p *latePath) become(path string) error {
	text := make([]byte, 4096)
	copy(text, path)
	err := p.request(uffdioCopy, p.page, uint64(uintptr(unsafe.Pointer(&text[0]))), 4096, 0, 0)
	runtime.KeepAlive(text)
	return err
}

func init() {
	// A link of a path that is not there yet, in a directory that is open.
	deniedActions["latelink"] = func(o deniedOrder) deniedOutcome {
		var err error
		if late, err = newLatePath(); err != nil {
			return deniedOutcome{Text: err.Error()}
		}
		to, err := unix.BytePtrFromString(o.Other)
		if err != nil {
			return deniedOutcome{Text: err.Error()}
		}
		go func() {
			runtime.LockOSThread()
			_, _, errno := unix.Syscall6(unix.SYS_LINKAT, uintptr(o.Args[0]), uintptr(late.page), ^uintptr(99), uintptr(unsafe.Pointer(to)), 0, 0)
			late.result <- errno
		}()
		if err := late.wanted(); err != nil {
			return deniedOutcome{Text: err.Error()}
		}
		return deniedOutcome{}
	}
	deniedActions["lateend"] = func(o deniedOrder) deniedOutcome {
		if err := late.become(o.Other); err != nil {
			return deniedOutcome{Text: err.Error()}
		}
		return deniedOutcome{Errno: <-late.result}
	}
}

// TestDeniedLink has a link on its way while its directory is denied, whose path the guest keeps back until then. If such a call were let through when
// nothing is denied, it would make a name of the file that nobody knows of.
func TestDeniedLink(t *testing.T) {
	g := startDenied(t, deniedOptions{})
	dir := g.keep("/data/dir", unix.O_RDONLY|unix.O_DIRECTORY)
	if r := g.Do(deniedOrder{Action: "latelink", Args: [6]uint64{dir}, Other: "/open/late"}); r.Text != "" {
		t.Fatal(r.Text)
	}
	g.deny("/data/dir")
	if r := g.Do(deniedOrder{Action: "lateend", Other: "secret"}); r.Errno != unix.EACCES {
		t.Errorf("%+v", r)
	}
	if r := g.read(currentDir, "/open/late", 0); r.Errno != unix.ENOENT {
		t.Errorf("%+v", r)
	}
}
