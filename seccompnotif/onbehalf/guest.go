package onbehalf

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// guest is who makes a call, and where it is.
type guest struct {
	call   *seccompnotif.Call
	id     seccompnotif.Identity
	root   int
	shares bool  // the supervisor's user namespace
	open   []int // to be closed in the end
}

// guest finds out who makes the call.
func (e *Engine) guest(c *seccompnotif.Call) (*guest, unix.Errno) {
	id, err := e.host.Identity(c)
	if err != nil {
		return nil, errnoOf(err)
	}
	same, err := e.host.SharesUser(c)
	if err != nil {
		return nil, errnoOf(err)
	}
	if !same {
		id.Effective = 0 // they mean less than they would here
	}
	root, err := e.host.Root(c)
	if err != nil {
		return nil, errnoOf(err)
	}
	return &guest{call: c, id: id, root: root, shares: same, open: []int{root}}, 0
}

// place returns the directory that a path begins in, owned by g.
func (e *Engine) place(g *guest, dirfd int, path string, resolve uint64) (int, unix.Errno) {
	var fd int
	var err error
	switch {
	case strings.HasPrefix(path, "/") && resolve&unix.RESOLVE_IN_ROOT == 0:
		return g.root, 0
	case dirfd == unix.AT_FDCWD:
		fd, err = e.host.WorkingDirectory(g.call)
	default:
		fd, err = g.call.File(dirfd)
	}
	if err != nil {
		return -1, errnoOf(err)
	}
	g.open = append(g.open, fd)
	return fd, 0
}

func (g *guest) close() {
	for _, fd := range g.open {
		unix.Close(fd)
	}
}

// outside translates a user and a group that the guest names, of which none is "no change".
func (e *Engine) outside(g *guest, uid, gid uint32) (uint32, uint32, unix.Errno) {
	const none = ^uint32(0)
	if g.shares || uid == none && gid == none {
		return uid, gid, 0
	}
	u, h := uid, gid
	if u == none {
		u = 0
	}
	if h == none {
		h = 0
	}
	u, h, err := e.host.OutsideIDs(g.call, u, h)
	if uid == none {
		u = none
	}
	if gid == none {
		h = none
	}
	return u, h, errnoOf(err)
}
