package chroot

import (
	"fmt"
	"path"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

func fmtMode(mode uint64) string { return fmt.Sprintf("%#o", mode) }

// fillDev makes the nodes and links. Each directory is opened once.
func (s *Sources) fillDev(p *launch.Program, root launch.FD) {
	directories := make(map[string]launch.FD)
	parent := func(about, name string) launch.FD {
		dir := path.Dir(name)
		if dir == "/" {
			return root
		}
		fd, ok := directories[dir]
		if !ok {
			fd = s.mountPoint(p, root, about, dir, true)
			directories[dir] = fd
		}
		return fd
	}
	for i, d := range s.m.Devices {
		about := "device " + d.Path
		p.About("%s", about)
		if d.Bind {
			target := s.mountPoint(p, root, about, d.Path, false)
			p.MoveMount(launch.Inherited(s.devices[i], "device"), target)
			p.Close(target)
		} else {
			makeDevice(p, parent(about, d.Path), d)
		}
	}
	for _, l := range s.m.Links {
		about := "link " + l.Path
		p.About("%s", about)
		makeLink(p, parent(about, l.Path), l)
	}
}

// fileType is the S_IF* of a device's type.
func fileType(kind string) uint64 {
	switch kind {
	case "b":
		return unix.S_IFBLK
	case "p":
		return unix.S_IFIFO
	}
	return unix.S_IFCHR
}

// makeDevice leaves a node alone that the image has brought. Where the spec asks for the device, anything else of that name is an error. The umask is 0.
func makeDevice(p *launch.Program, dir launch.FD, d Device) {
	name := path.Base(d.Path)
	there, done := p.Label("there"), p.Label("done")
	last := p.Mknodat(dir, name, fileType(d.Type)|uint64(d.Mode), unix.Mkdev(d.Major, d.Minor)).OnError(there, unix.EEXIST)
	if d.UID != 0 || d.GID != 0 {
		last = p.Fchownat(dir, name, d.UID, d.GID)
	}
	if d.Asked {
		last.OnSuccess(done)
		p.Mark(there)
		expectNode(p, dir, name, d, "device "+d.Path+": something else is there")
		p.About("device %s", d.Path)
	} else {
		p.Mark(there)
	}
	p.Mark(done)
}

func makeLink(p *launch.Program, dir launch.FD, l Link) {
	name := path.Base(l.Path)
	if !l.Replace {
		p.Symlinkat(l.Target, dir, name).Ignore(unix.EEXIST)
		return
	}
	done, there := p.Label("done"), p.Label("there")
	p.Symlinkat(l.Target, dir, name).OnSuccess(done).OnError(there, unix.EEXIST)
	p.Mark(there)
	p.Call("unlinkat", unix.SYS_UNLINKAT, dir.Arg, launch.Text(name), launch.Value(0))
	p.Symlinkat(l.Target, dir, name)
	p.Mark(done)
}

// Terminal opens a new pseudoterminal of the container's devpts, owned by the user uid of the container, and returns both ends. It comes
// after [Sources.Steps].
func Terminal(p *launch.Program, root launch.FD, uid uint32, size *specs.Box) (master, slave launch.FD) {
	p.About("terminal")
	// The image may have put anything at /dev/pts/ptmx if the spec mounts nothing there; opening a device can have effects of its own.
	pts := p.Openat2(root, "dev/pts", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, launch.InRoot).Result("pts")
	p.About("terminal: /dev/pts is not a devpts")
	p.ExpectByte(statfs(p, pts), devptsMagic, unix.ENODEV)
	p.About("terminal")
	master = p.Openat2(pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV).Result("master")
	unlocked := launch.Bytes(make([]byte, sizeofInt), "0")
	p.Ioctl(master, "TIOCSPTLCK", unix.TIOCSPTLCK, unlocked)
	const how = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	slave = p.Ioctl(master, "TIOCGPTPEER", unix.TIOCGPTPEER, launch.Flags(how, "O_RDWR|O_NOCTTY|O_CLOEXEC")).Result("slave")
	if size != nil {
		window := unix.Winsize{Row: uint16(min(size.Height, maxWindow)), Col: uint16(min(size.Width, maxWindow))}
		p.Ioctl(master, "TIOCSWINSZ", unix.TIOCSWINSZ, launch.Bytes(bytesOf(&window), fmt.Sprintf("{%d rows, %d columns}", window.Row, window.Col)))
	}
	if uid != 0 {
		const keep = ^uint32(0)
		p.Fchownat(slave, "", uid, keep)
	}
	p.About("")
	return master, slave
}

// Console mounts the terminal slave over /dev/console. It comes after [Sources.Steps] and [Terminal].
func (s *Sources) Console(p *launch.Program, root, slave launch.FD) {
	p.About("console")
	mount := p.OpenTree(slave, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).Result("console")
	p.MoveMount(mount, s.mountPoint(p, root, "console", "/dev/console", false))
	p.About("")
}

// expectNull fails unless file is the null device.
func expectNull(p *launch.Program, file launch.FD) {
	p.About("/dev/null")
	expectNode(p, file, "", defaultDevices[0], "/dev/null is not the null device")
	p.About("/dev/null")
}

// expectNode fails, saying why, unless name in dir, or dir itself if name is empty, is the node of d.
func expectNode(p *launch.Program, dir launch.FD, name string, d Device, why string) {
	status := launch.Bytes(make([]byte, sizeofStatx), "status")
	flags := launch.Flags(unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW")
	if name == "" {
		flags = launch.Flags(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH")
	}
	p.Call("statx", unix.SYS_STATX, dir.Arg, launch.Text(name), flags, launch.Flags(unix.STATX_TYPE, "STATX_TYPE"), status)
	p.About("%s", why)
	var like unix.Statx_t
	like.Mode, like.Rdev_major, like.Rdev_minor = uint16(fileType(d.Type)), d.Major, d.Minor
	want := bytesOf(&like)
	for _, field := range []struct{ offset, size uintptr }{{unsafe.Offsetof(like.Rdev_major), unsafe.Sizeof(like.Rdev_major)}, {unsafe.Offsetof(like.Rdev_minor), unsafe.Sizeof(like.Rdev_minor)}} {
		for at := field.offset; at < field.offset+field.size; at++ {
			p.ExpectAt(status, int(at), want[at], 0xff, unix.ENODEV)
		}
	}
	// The type is in the upper byte of the mode; amd64 and arm64 are little-endian.
	upper := unsafe.Offsetof(like.Mode) + 1
	const typeBits = unix.S_IFMT >> 8
	p.ExpectAt(status, int(upper), want[upper], typeBits, unix.ENODEV)
}

// ReopenNull replaces those standard descriptors of the child that are the host's /dev/null by the container's. What the container has at that place must be the
// null device: the child is privileged, and no device rules hold for it yet, so that it could open for the workload what the workload itself could not. It comes after
// [Sources.Steps].
func ReopenNull(p *launch.Program, root launch.FD, descriptors ...int) {
	if len(descriptors) == 0 {
		return
	}
	p.About("/dev/null")
	// Opening another device could have effects of its own. It is looked at again when it is open, because the name may lead elsewhere by then.
	found := p.Openat2(root, "dev/null", unix.O_PATH|unix.O_CLOEXEC, 0, launch.InRoot).Result("found")
	expectNull(p, found)
	p.Close(found)
	null := p.Openat2(root, "dev/null", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0, launch.InRoot).Result("null")
	expectNull(p, null)
	for _, n := range descriptors {
		p.Dup3(null, n)
	}
	p.About("")
}
