package chroot

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

// DeniedPaths are paths of a running container that are out of reach. Paths can be added at any time and never come back.
//
// Each is denied twice. It is covered in the container's mount namespace by an empty object of mode 000, as [Map.Denied] is from the start: that
// is the kernel's own doing, for every call that takes a path, with or without a supervisor, and for programs that are executed.
// And what is beneath the cover is known by its inode, which the supervisor looks for whenever something is opened, executed,
// linked, renamed, removed or changed by a path. That is for what reaches the object without passing the cover: another name of the same file (a
// hard link), and paths that begin beneath it, in a directory that was open, or the working directory of a process, when the path
// was denied.
//
// Calls are made on the container's behalf, so that what was judged is what is used; see package onbehalf. While nothing is denied they are
// let through, but for links: a link made in the last moment would be a name that nobody knows of.
//
// What stays possible: files that were open stay open, and so do mappings and running programs; a directory that was open can be
// listed, and what is in it be looked at (stat(2), readlink(2), access(2)), since those calls are not trapped. A call that was made before a path
// was denied may still succeed, as late as the kernel gets to read its path: who can make his memory slow to read (userfaultfd(2), FUSE, both
// of which take something from the default denials) decides when.
type DeniedPaths struct {
	config DeniedConfig
	engine *onbehalf.Engine
	proc   int // the supervisor's /proc, which no path leads to from inside

	set atomic.Pointer[deniedSet]
	// mu is held for reading from the last look at the set to the answer of a call, so that who has locked it knows that no call is on its way
	// that an older set has let through.
	mu sync.RWMutex

	adding sync.Mutex               // one path at a time
	pins   map[onbehalf.Inode]int   // descriptors of what is denied, so that no other object gets its inode
	covers map[onbehalf.Inode]error // the empty objects, which a path that was denied leads to, and what came of that
}

// DeniedConfig is what [NewDeniedPaths] needs to know.
type DeniedConfig struct {
	// Root and MountNamespace are descriptors of the container's root and mount namespace. They stay the caller's, open until Close.
	Root, MountNamespace int
	// Confine puts the threads that make calls for the container under what confines it, see [onbehalf.Config].
	Confine func() error
	// Denied, if not nil, is told of every call that is refused: the path as it was denied. It must be quick.
	Denied func(c *seccompnotif.Call, path string)
	// Presenter, if not nil, shows the container something else than some files hold, unless they are denied. Viewer looks for them while
	// nothing is denied: it may be less confined.
	Presenter onbehalf.Presenter
	Viewer    *onbehalf.Engine
	// Log, if not nil, is told of what nobody else would learn.
	Log func(format string, args ...any)
}

// deniedSet is what is denied at a time. It does not change.
type deniedSet struct {
	objects     map[onbehalf.Inode]string // the path that was denied
	directories bool                      // some of them are
}

// NewDeniedPaths returns an empty set.
func NewDeniedPaths(config DeniedConfig) (*DeniedPaths, error) {
	engine, err := onbehalf.New(onbehalf.Config{Confine: config.Confine, Log: config.Log})
	if err != nil {
		return nil, err
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = engine.Close() // nothing has been done with it
		return nil, fmt.Errorf("/proc: %w", err)
	}
	d := &DeniedPaths{config: config, engine: engine, proc: proc, pins: map[onbehalf.Inode]int{}, covers: map[onbehalf.Inode]error{}}
	d.set.Store(&deniedSet{})
	return d, nil
}

// Close lets go of what d holds. No call may be in progress.
func (d *DeniedPaths) Close() error {
	err := d.engine.Close()
	unix.Close(d.proc)
	for _, fd := range d.pins {
		unix.Close(fd)
	}
	d.pins = nil
	return err
}

// Engine makes calls for the container. It is for other handlers that need one.
func (d *DeniedPaths) Engine() *onbehalf.Engine { return d.engine }

// Register adds the handlers to a table under construction. An open is made at the end of its chain, when everybody else has agreed.
func (d *DeniedPaths) Register(table *seccompnotif.TableBuilder) {
	open := seccompnotif.HandlerFunc(func(*seccompnotif.Call) seccompnotif.Action { return seccompnotif.Hold(d.open) })
	for _, nr := range onbehalf.Opens() {
		table.HandleLast(nr, open)
	}
	change := seccompnotif.HandlerFunc(func(*seccompnotif.Call) seccompnotif.Action { return seccompnotif.Hold(d.change) })
	for _, nr := range onbehalf.Changes() {
		table.HandleLast(nr, change)
	}
}

// DeniedNotifications are the names of the calls that [DeniedPaths.Register] handles.
func DeniedNotifications() []string {
	var names []string
	for _, nr := range append(onbehalf.Opens(), onbehalf.Changes()...) {
		if name, known := seccompnotif.SyscallName(nr); known {
			names = append(names, name)
		}
	}
	return names
}

// DeniedDenials is what else a container must be denied for [DeniedPaths] to hold, beyond [seccompnotif.DefaultDenials].
func DeniedDenials() []seccompnotif.Denial {
	return append(onbehalf.Denials(), onbehalf.ChangeDenials()...)
}

func (s *deniedSet) empty() bool { return len(s.objects) == 0 }

// open answers an open.
func (d *DeniedPaths) open(h *seccompnotif.Held) {
	if p := d.config.Presenter; p != nil && p.Active() && d.engine.MayPresent(h.Call(), p) {
		d.present(h)
		return
	}
	d.openJudged(h)
}

// openJudged makes an open if it has to be judged.
func (d *DeniedPaths) openJudged(h *seccompnotif.Held) {
	if d.letThrough(h) {
		return
	}
	set, judge := d.set.Load(), d.judge(h.Call())
	d.engine.OpenHeld(h, judge, func(o *onbehalf.Opened) { d.answer(h, o, set, judge) })
}

// answer answers with what an open has come to, unless it has been denied since the set was loaded.
func (d *DeniedPaths) answer(h *seccompnotif.Held, o *onbehalf.Opened, set *deniedSet, judge onbehalf.Judge) {
	_, err := h.AnswerUnder(d.mu.RLocker(), func() (seccompnotif.Action, bool) {
		if d.set.Load() != set {
			o.Again(judge)
		}
		return o.Action, true
	})
	d.check(err)
}

// present makes an open that may be of one of the presenter's files. Any other is let through while nothing is denied, as ever.
func (d *DeniedPaths) present(h *seccompnotif.Held) {
	set, judge := d.set.Load(), d.judge(h.Call())
	engine := d.engine
	if set.empty() {
		engine = d.config.Viewer
	}
	engine.OpenAside(h, func(o *onbehalf.Object) (seccompnotif.Action, bool) {
		if set.empty() && !d.config.Presenter.Recognises(o) {
			return seccompnotif.Action{}, true
		}
		return judge(o)
	}, func(o *onbehalf.Opened) {
		if set.empty() && !o.IsOpen() {
			d.openJudged(h)
			return
		}
		o.Present(d.config.Presenter)
		d.answer(h, o, set, judge)
	})
}

// letThrough lets a call through if nothing is denied.
func (d *DeniedPaths) letThrough(h *seccompnotif.Held) bool {
	if !d.set.Load().empty() {
		return false
	}
	answered, err := h.AnswerUnder(d.mu.RLocker(), func() (seccompnotif.Action, bool) {
		// Safe: nothing that the guest can change was looked at.
		return seccompnotif.Continue(), d.set.Load().empty()
	})
	d.check(err)
	return answered
}

// change answers any other call.
func (d *DeniedPaths) change(h *seccompnotif.Held) {
	if !onbehalf.Links(h.Call().Syscall()) && d.letThrough(h) {
		return
	}
	d.engine.ChangeHeld(h, d.judge(h.Call()), func() func() {
		d.mu.RLock()
		return d.mu.RUnlock
	})
}

// check reports an answer that was refused, which none should be.
func (d *DeniedPaths) check(err error) {
	if err != nil && d.config.Log != nil {
		d.config.Log("denied paths: %v", err)
	}
}

// judge refuses what is denied, whichever set is in force when it is asked.
func (d *DeniedPaths) judge(c *seccompnotif.Call) onbehalf.Judge {
	return func(o *onbehalf.Object) (seccompnotif.Action, bool) {
		path, denied := d.set.Load().find(o)
		if !denied {
			return seccompnotif.Action{}, false
		}
		if d.config.Denied != nil {
			d.config.Denied(c, path)
		}
		return seccompnotif.Errno(unix.EACCES), true
	}
}

// find tells whether an object is denied, and by which path. What cannot be told is denied.
func (s *deniedSet) find(o *onbehalf.Object) (path string, denied bool) {
	if s.empty() {
		return "", false
	}
	if o.Exists() {
		if path, denied = s.objects[o.Identity()]; denied {
			return path, true
		}
	}
	if !s.directories {
		return "", false
	}
	errno := o.Ancestors(func(_ int, id onbehalf.Inode) bool {
		path, denied = s.objects[id]
		return !denied
	})
	return path, denied || errno != 0
}

// RegisterExec adds the handlers of execve(2) and execveat(2). What is covered cannot be executed by its name anyway; this is for other names of
// the file, and for paths that begin beneath the cover. The table has to have [seccompnotif.TableBuilder.TrackCreation].
func (d *DeniedPaths) RegisterExec(table *seccompnotif.TableBuilder) {
	for _, nr := range []int{unix.SYS_EXECVE, unix.SYS_EXECVEAT} {
		table.HandleLast(nr, seccompnotif.HandlerFunc(d.exec))
	}
}

// exec answers an execve. It is judged while nobody in the container can change its memory or its files.
func (d *DeniedPaths) exec(c *seccompnotif.Call) seccompnotif.Action {
	if d.set.Load().empty() {
		return seccompnotif.Continue() // safe: nothing that the guest can change was looked at
	}
	if !c.Frozen() {
		return seccompnotif.JudgeExec(func(seccompnotif.Argv) seccompnotif.Action { return d.exec(c) })
	}
	errno := d.engine.LookExec(c, d.judge(c), func(file io.ReaderAt) string {
		name, err := landlock.Interpreter(file)
		if err != nil {
			return "" // the kernel will not execute it
		}
		return name
	})
	if errno != 0 {
		return seccompnotif.Errno(errno)
	}
	return seccompnotif.Continue() // safe: see above
}

// add publishes objects.
func (d *DeniedPaths) add(path string, directory bool, ids ...onbehalf.Inode) {
	old := d.set.Load()
	set := &deniedSet{objects: maps.Clone(old.objects), directories: old.directories || directory}
	if set.objects == nil {
		set.objects = map[onbehalf.Inode]string{}
	}
	for _, id := range ids {
		if _, known := set.objects[id]; !known {
			set.objects[id] = path
		}
	}
	d.mu.Lock() // waits for whoever has decided by the old set
	d.set.Store(set)
	d.mu.Unlock()
}

// pin keeps a descriptor of what is denied, unless there is one already: whoever denies the same again and again must not use up descriptors.
func (d *DeniedPaths) pin(id onbehalf.Inode, fd int) {
	if _, pinned := d.pins[id]; pinned {
		unix.Close(fd)
		return
	}
	d.pins[id] = fd
}

func (d *DeniedPaths) pinAll(of pinned) {
	for i, fd := range of.pins {
		d.pin(of.ids[i], fd)
	}
}

// DenyPath puts what a container path leads to now out of reach, for good: a file, or a directory with all beneath it. When it returns no call
// that is made from then on reaches it. On an error that comes after the path was found it may be denied, or not in every way.
func (d *DeniedPaths) DenyPath(path string) error {
	d.adding.Lock()
	defer d.adding.Unlock()
	if err := d.deny(path); err != nil {
		return fmt.Errorf("deny path %s: %w", path, err)
	}
	return nil
}

func (d *DeniedPaths) deny(path string) error {
	if len(path) == 0 || path[0] != '/' {
		return errors.New("it is not absolute")
	}
	target, err := launch.OpenInRoot(d.config.Root, path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		unix.Close(target)
		return err
	}
	id := onbehalf.Inode{Dev: st.Dev, Ino: st.Ino}
	if err, covered := d.covers[id]; covered { // it was denied before
		unix.Close(target)
		return err
	}
	if top, err := isSame(d.config.Root, id); err != nil || top {
		unix.Close(target)
		return errors.Join(err, errors.New("it is the container's root"))
	}
	defer d.pin(id, target)
	directory := st.Mode&unix.S_IFMT == unix.S_IFDIR
	// First by inode, so that nothing gets out while the rest is done.
	d.add(path, directory, id)
	if directory {
		names, err := otherNames(target)
		if err != nil {
			return err
		}
		d.pinAll(names)
		d.add(path, true, names.ids...)
	}
	found, err := d.cover(target, directory)
	d.pinAll(found)
	for _, id := range found.covers {
		d.covers[id] = err
	}
	if len(found.ids) > 0 {
		d.add(path, directory, found.ids...)
	}
	return err
}

func isSame(fd int, id onbehalf.Inode) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return onbehalf.Inode{Dev: st.Dev, Ino: st.Ino} == id, err
}
