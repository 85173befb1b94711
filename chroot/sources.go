package chroot

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// Sources are the detached mounts of a map, held by the parent. Open, Steps, Pivot and Finish are called in this order.
// Its methods are to be called from one goroutine at a time.
type Sources struct {
	m       Map
	opened  []int // everything that Close closes
	root    int
	entries []source // one for each entry
	devices []int    // one for each device, -1 for those that are made
	null    int      // a detached /dev/null for masked files, -1 if there are none
	empty   int      // a detached read-only directory for masked directories
	denied  deniedObjects

	userNamespaces map[string]int // by their mappings, for mounts with other owners

	places map[string]place // by destination, or directory of devices and links

	attached int         // entries that Steps has come to
	late     []lateMount // filled in by Steps for Finish
}

// source is what the parent has prepared for one entry.
type source struct {
	mount       int    // the detached mount, -1 for what the child makes
	isDirectory bool   // what kind of mount point the mount needs
	inside      string // the file that is meant of the mount, where the parent cannot take it out; see [Sources.takeOut]
	mode        string // mode of the directory that a tmpfs covers, in octal; "" if unknown
}

type lateMount struct {
	about string
	mount launch.FD
}

// Open clones the root and every bind source of m. The cgroups that m names must exist by now. Errors name the entry and the source.
func Open(m Map) (*Sources, error) {
	s := &Sources{m: m, places: make(map[string]place), root: -1, null: -1, empty: -1, denied: deniedObjects{-1, -1, -1}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sources) open() error {
	if err := s.openRoot(); err != nil {
		return fmt.Errorf("root %s: %w", s.m.Root.Source, err)
	}
	for _, e := range s.m.Entries {
		err := s.locate(e.Destination)
		if err == nil {
			err = s.openEntry(e)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
	}
	for _, d := range s.m.Devices {
		err := s.openDevice(d)
		if err == nil {
			err = s.locate(path.Dir(d.Path))
		}
		if err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	for _, l := range s.m.Links {
		if err := s.locate(path.Dir(l.Path)); err != nil {
			return fmt.Errorf("link %s: %w", l.Path, err)
		}
	}
	return s.openCovers()
}

// hold has Close close fd.
func (s *Sources) hold(fd int, err error) (int, error) {
	if err == nil {
		s.opened = append(s.opened, fd)
	}
	return fd, err
}

// Close lets go of the mounts. The launched child has its own descriptors, so it may be called once the child has been started.
func (s *Sources) Close() {
	for _, fd := range s.opened {
		unix.Close(fd)
	}
	s.opened = nil
}

func (s *Sources) openRoot() error {
	var err error
	if s.root, err = s.hold(cloneTree(unix.AT_FDCWD, s.m.Root.Source, true, false)); err != nil {
		return err
	}
	isDirectory, err := isDirectory(s.root)
	if err != nil {
		return err
	}
	if !isDirectory {
		return unix.ENOTDIR
	}
	if s.m.Root.Inherited.Type != unix.MS_SLAVE {
		return setPropagation(s.root, s.m.Root.Inherited)
	}
	return nil
}

func (s *Sources) openEntry(e Entry) error {
	o := source{mount: -1, isDirectory: true}
	var err error
	switch {
	case e.Kind == Bind:
		o, err = s.openBind(e, e.Source)
	case e.Fallback != "":
		o, err = s.openBind(e, e.Fallback)
	case e.Kind == Temporary:
		o, err = s.openTemporary(e)
	case e.Kind == Written:
		o, err = s.openWritten(e)
	}
	s.entries = append(s.entries, o)
	return err
}

// openBind makes the clone with its final attributes. The parent is privileged over the mounts it clones, so that flags which are locked
// for a user namespace are kept or changed here without its having a say.
func (s *Sources) openBind(e Entry, path string) (source, error) {
	o := source{mount: -1}
	fd, err := s.hold(cloneTree(unix.AT_FDCWD, path, e.Recursive, e.KeepPeers))
	if err == nil {
		o.mount = fd
		o.isDirectory, err = isDirectory(fd)
	}
	if err == nil && e.Destination == "/proc" {
		err = mustBeProc(fd)
	}
	if err == nil {
		err = setAttributes(fd, unix.MountAttr{Attr_set: uint64(e.Set), Attr_clr: uint64(e.Clear)}, false)
	}
	if err == nil && e.Exact {
		err = clearOthers(fd, e.Set|e.Clear)
	}
	if err == nil {
		err = setAttributes(fd, unix.MountAttr{Attr_set: uint64(e.RecursiveSet), Attr_clr: uint64(e.RecursiveClear)}, true)
	}
	if err == nil && e.IDMap != nil {
		err = s.mapIDs(fd, *e.IDMap)
	}
	for _, p := range effective(e.Propagation, e.KeepPeers) {
		if err == nil {
			err = setPropagation(fd, p)
		}
	}
	if err != nil {
		return o, fmt.Errorf("source %s: %w", path, err)
	}
	return o, nil
}

// clearOthers takes from a mount the attributes that it has of its source and that are not among those named. MS_REMOUNT|MS_BIND of mount(2) does the same and leaves
// the kind of access time alone as well; but it fails where one attribute is locked (mount_namespaces(7)), which then stays here.
func clearOthers(mount int, named Attributes) error {
	const all = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW
	err := setAttributes(mount, unix.MountAttr{Attr_clr: uint64(all &^ named)}, false)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	for one := Attributes(1); one <= all; one <<= 1 {
		if one&all&^named == 0 {
			continue
		}
		if err := setAttributes(mount, unix.MountAttr{Attr_clr: uint64(one)}, false); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

// effective leaves out what changes nothing: a mount that has been made a slave already, and what comes before "private" for all.
func effective(list []Propagation, keepPeers bool) []Propagation {
	for i, p := range slices.Backward(list) {
		if p.Recursive && p.Type == unix.MS_PRIVATE {
			return list[i:]
		}
	}
	if !keepPeers {
		for len(list) > 0 && list[0].Type == unix.MS_SLAVE {
			list = list[1:]
		}
	}
	return list
}

func mustBeProc(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("fstatfs: %w", err)
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("only a proc filesystem can be mounted there")
	}
	return nil
}

// openTemporary looks at the directory that a tmpfs covers: it has that directory's mode unless the options give one, and with tmpcopyup
// its content.
func (s *Sources) openTemporary(e Entry) (source, error) {
	o := source{mount: -1, isDirectory: true}
	_, hasMode := value(e.Data, "mode")
	if hasMode && !e.CopyUp {
		return o, nil
	}
	below, err := s.below(e.Destination)
	if err != nil {
		return o, err
	}
	if below < 0 {
		return o, nil
	}
	defer unix.Close(below)
	var st unix.Stat_t
	if err := unix.Fstat(below, &st); err != nil {
		return o, fmt.Errorf("fstat: %w", err)
	}
	if !hasMode {
		const permissions = 0o7777
		o.mode = fmt.Sprintf("%04o", st.Mode&permissions)
	}
	if !e.CopyUp {
		return o, nil
	}
	data := e.Data
	if o.mode != "" {
		data = append([]string{"mode=" + o.mode}, data...)
	}
	// Read-only comes late in any case, see Entry.Late.
	if o.mount, err = s.hold(newFilesystem(e.Type, e.Source, data, e.attributes())); err != nil {
		return o, err
	}
	if err := copyTree(below, o.mount, e.Data); err != nil {
		return o, fmt.Errorf("tmpcopyup: %w", err)
	}
	for _, p := range e.Propagation {
		if err := setPropagation(o.mount, p); err != nil {
			return o, err
		}
	}
	return o, nil
}

// nearest is the tree that a container path is in once all entries so far are mounted, and the path there; -1 if that is a filesystem
// which does not exist yet. The trees are not put together: the entries' names decide.
func (s *Sources) nearest(destination string) (dir int, rest string) {
	dir, rest = s.root, destination
	for i, e := range s.m.Entries[:len(s.entries)] {
		if destination == e.Destination || strings.HasPrefix(destination, e.Destination+"/") {
			dir, rest = s.entries[i].mount, "."+strings.TrimPrefix(destination, e.Destination)
		}
	}
	return dir, rest
}

// below opens the directory that is at destination before its entry is mounted; -1 if there is none.
func (s *Sources) below(destination string) (int, error) {
	dir, rest := s.nearest(destination)
	if dir < 0 {
		return -1, nil
	}
	fd, err := launch.OpenInRoot(dir, rest, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("the directory beneath: %w", err)
	}
	return fd, nil
}

// locate finds out whether a mount point is there and, if it is not, where it is to be made: links of the image count even if they lead to
// nothing, as in /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf. The child trusts none of this further than to try it first.
func (s *Sources) locate(destination string) error {
	if _, ok := s.places[destination]; ok || destination == "/" {
		return nil
	}
	dir, rest := s.nearest(destination)
	if dir < 0 {
		return nil
	}
	fd, err := launch.OpenInRoot(dir, rest, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if err == nil {
		unix.Close(fd)
		s.places[destination] = place{exists: true}
		return nil
	}
	if dir != s.root {
		return nil
	}
	resolved, err := securejoin.SecureJoin(s.m.Root.Source, destination)
	if err != nil {
		return fmt.Errorf("following the image's links: %w", err)
	}
	made := rooted(strings.TrimPrefix(resolved, s.m.Root.Source))
	if made == "/" {
		return errors.New("a link leads to the root")
	}
	if made != destination && (made == "/proc" || strings.HasPrefix(made, "/proc/")) {
		return errors.New("a link leads into /proc")
	}
	s.places[destination] = place{path: made}
	return nil
}

// attributes are those that a fresh mount begins with.
func (e Entry) attributes() Attributes {
	a := e.Set | e.RecursiveSet
	if e.Late {
		a &^= unix.MOUNT_ATTR_RDONLY
	}
	return a
}
