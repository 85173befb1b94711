package netfilter

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// maxViewPath is longer than any path that [viewedFile] knows, the end included.
const maxViewPath = 64

// maxTable bounds a table that is rewritten, in bytes. The kernel's own is as long as there are sockets.
const maxTable = 64 << 20

// ViewHandlers returns the handlers of [ViewNotifications]: who opens /proc/net/tcp gets what [PortSpace.View] makes of it.
func (p *PortSpace) ViewHandlers() map[int]seccompnotif.Handler {
	handlers := map[int]seccompnotif.Handler{
		unix.SYS_OPENAT: seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action {
			return p.open(c, int(int32(c.Arg(0))), c.Arg(1))
		}),
		unix.SYS_OPENAT2: seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action {
			var flags [8]byte // the first member of struct open_how, see openat2(2)
			if err := c.ReadMemory(c.Arg(2), flags[:]); err != nil || binary.NativeEndian.Uint64(flags[:])&^(unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY) != unix.O_RDONLY {
				return seccompnotif.Continue() // safe, as in open
			}
			return p.open(c, int(int32(c.Arg(0))), c.Arg(1))
		}),
	}
	if nr, present, _ := seccompnotif.SyscallNumber("open"); present {
		handlers[nr] = seccompnotif.HandlerFunc(func(c *seccompnotif.Call) seccompnotif.Action { return p.open(c, unix.AT_FDCWD, c.Arg(0)) })
	}
	return handlers
}

// open answers an open whose path lies at addr and begins at dir, if it is relative. It looks at the path in the guest's memory and lets others continue, which is safe
// because it protects nothing: a guest that changes the path meanwhile gets to see the ports as they are outside.
func (p *PortSpace) open(c *seccompnotif.Call, dir int, addr uint64) seccompnotif.Action {
	if !p.remaps() {
		return seccompnotif.Continue() // safe, as above
	}
	name, err := c.ReadString(addr, maxViewPath)
	if err != nil {
		return seccompnotif.Continue() // safe, as above
	}
	file, ok := viewedFile(p.absolute(c, dir, name))
	if !ok {
		return seccompnotif.Continue() // safe, as above
	}
	return seccompnotif.Defer(func() seccompnotif.Action {
		text, ok := p.table(c, file)
		if !ok {
			return seccompnotif.Continue() // safe, as above
		}
		return seccompnotif.InjectBytes(p.View(c, text))
	})
}

// absolute returns the whole of a path that begins at dir, if it may lead to a table: others are not asked after.
func (p *PortSpace) absolute(c *seccompnotif.Call, dir int, name string) string {
	if last := path.Base(name); path.IsAbs(name) || last != "tcp" && last != "tcp6" {
		return name
	}
	link := "cwd"
	if dir != unix.AT_FDCWD {
		link = "fd/" + strconv.Itoa(dir)
	}
	base, err := p.host.ReadProcLink(c.PID(), link)
	if err != nil || !c.Valid() {
		return name
	}
	return path.Join(base, name)
}

// viewedFile tells whether a path means one of the tables of TCP sockets, as /proc/net and /proc/PID/net have them, and returns its
// name in the directory of a process.
func viewedFile(name string) (file string, ok bool) {
	rest, ok := strings.CutPrefix(path.Clean(name), "/proc/")
	if !ok {
		return "", false
	}
	dir, file := path.Split(rest)
	parts := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	switch {
	case file != "tcp" && file != "tcp6" || parts[len(parts)-1] != "net":
		return "", false
	case len(parts) == 1: // /proc/net
	case len(parts) == 2 && (parts[0] == "self" || parts[0] == "thread-self" || isPID(parts[0])):
	case len(parts) == 4 && (parts[0] == "self" || isPID(parts[0])) && parts[1] == "task" && isPID(parts[2]):
	default:
		return "", false
	}
	return "net/" + file, true
}

func isPID(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

// table reads a file of the caller's own directory in the procfs that it sees, with its own permissions. False means that there is none
// such for it to read.
func (p *PortSpace) table(c *seccompnotif.Call, file string) (text []byte, ok bool) {
	id, err := p.host.Identity(c)
	if err != nil {
		return nil, false
	}
	fd := -1
	// In the guest's root the supervisor is not who self is.
	name := fmt.Sprintf("/proc/%d/%s", id.NSTGID, file)
	errno, err := p.host.AsGuest(c, true, func() unix.Errno {
		opened, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		fd = opened
		return errnoOf(err, 0)
	})
	if err != nil || errno != 0 {
		return nil, false
	}
	opened := os.NewFile(uintptr(fd), name)
	defer opened.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return nil, false
	}
	text, err = io.ReadAll(io.LimitReader(opened, maxTable))
	return text, err == nil
}
