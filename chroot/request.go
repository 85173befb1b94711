package chroot

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// MapRequest is all that a [Map] is made of.
type MapRequest struct {
	Spec   *specs.Spec
	RootFS string // absolute host path of the root
	Bundle string // absolute host path that relative bind sources start from

	Denied []string      // filesystem.deny: container paths
	Extra  []specs.Mount // filesystem.mount: mounts after the spec's own
	Files  []File        // what comes last, in the place of whatever the mounts before have put there

	Cgroups Cgroups
	// UserNamespace tells that the container has a user namespace of its own.
	UserNamespace bool
	// JoinedNamespace tells that the container does not have its mount namespace to itself.
	JoinedNamespace bool
	// BindDevices has device nodes bound from the host although there is no user namespace, because the runtime itself may not mknod: it is in one, or not
	// privileged.
	BindDevices bool
	// KernelCore tells that the host has /proc/kcore.
	KernelCore bool
}

// File is a file that the runtime writes. It is read-only for the container.
type File struct {
	Origin  string // what asks for it, such as "network.allow"
	Path    string // absolute and clean container path
	Content string
}

// NewMap works out the map. Errors name the field of the spec.
func NewMap(r MapRequest) (Map, error) {
	m := Map{Joined: r.JoinedNamespace}
	if err := m.addRoot(r); err != nil {
		return Map{}, err
	}
	mounts, err := withoutRemounts(r.Spec.Mounts)
	if err != nil {
		return Map{}, err
	}
	for i, mount := range mounts {
		if mount == nil {
			continue
		}
		if err := m.addMount(r, fmt.Sprintf("mounts[%d]", i), *mount); err != nil {
			return Map{}, err
		}
	}
	for _, mount := range r.Extra {
		if err := m.addMount(r, "filesystem.mount", mount); err != nil {
			return Map{}, err
		}
	}
	for _, file := range r.Files {
		// What would be covered need not be mounted.
		m.Entries = slices.DeleteFunc(m.Entries, func(e Entry) bool { return e.Kind == Bind && e.Destination == file.Path })
		m.Entries = append(m.Entries, Entry{Origin: file.Origin, Destination: file.Path, Kind: Written, Content: file.Content, Set: coverAttributes})
	}
	if err := m.addDevices(r); err != nil {
		return Map{}, err
	}
	if err := m.addCovers(r); err != nil {
		return Map{}, err
	}
	return m, nil
}

func (m *Map) addRoot(r MapRequest) error {
	if !filepath.IsAbs(r.RootFS) {
		return fmt.Errorf("root.path %q: not absolute", r.RootFS)
	}
	m.Root = Root{Source: filepath.Clean(r.RootFS), Inherited: Propagation{unix.MS_SLAVE, true}}
	if r.Spec.Root != nil {
		m.Root.ReadOnly = r.Spec.Root.Readonly
	}
	if r.Spec.Linux == nil || r.Spec.Linux.RootfsPropagation == "" {
		return nil
	}
	p, ok := parsePropagation(r.Spec.Linux.RootfsPropagation)
	if !ok {
		return fmt.Errorf("linux.rootfsPropagation %q: unknown propagation", r.Spec.Linux.RootfsPropagation)
	}
	switch p.Type {
	case unix.MS_SLAVE:
	case unix.MS_PRIVATE:
		m.Root.Inherited.Type = unix.MS_PRIVATE
	default:
		// The root leaves its peer group and starts one of its own: nothing that is mounted in it may appear on the host.
		m.Root.Inherited.Type = unix.MS_PRIVATE
		m.Root.Propagation = p
	}
	return nil
}

func (m *Map) addMount(r MapRequest, origin string, mount specs.Mount) error {
	e, err := newEntry(r, origin, mount)
	if err != nil {
		return fmt.Errorf("%s %s: %w", origin, mount.Destination, err)
	}
	if e.Kind == Bind {
		m.relate(r, &e)
	}
	if e.Type == "cgroup" {
		return m.addCgroups(r.Cgroups, e)
	}
	m.Entries = append(m.Entries, e)
	return nil
}

// relate gives a bind the relation to its source that the root's propagation stands for, before the bind's own.
func (m *Map) relate(r MapRequest, e *Entry) {
	// What a user namespace's root mounts must not appear on the host, whatever the spec says: the kernel has it so, too.
	e.KeepPeers = m.Root.Propagation.peers() && !r.UserNamespace
	if m.Root.Inherited.Type == unix.MS_PRIVATE && m.Root.Propagation.Type == 0 {
		e.Propagation = append([]Propagation{m.Root.Inherited}, e.Propagation...)
	}
}

func newEntry(r MapRequest, origin string, mount specs.Mount) (Entry, error) {
	e := Entry{Origin: origin, Destination: rooted(mount.Destination), Type: mount.Type, Source: mount.Source}
	switch {
	case mount.Destination == "":
		return e, errors.New("no destination")
	case e.Destination == "/":
		return e, errors.New("a mount cannot take the place of the root")
	case strings.IndexByte(mount.Destination+mount.Source+mount.Type, 0) >= 0:
		return e, errors.New("null byte in destination, source or type")
	}
	o, err := parseOptions(mount.Options)
	if err != nil {
		return e, err
	}
	e.Set, e.Clear, e.RecursiveSet, e.RecursiveClear = o.set, o.clear, o.rSet, o.rClear
	e.Propagation, e.CopyUp = o.propagation, o.copyUp
	if o.bind || mount.Type == "bind" {
		err = e.bind(r, mount, o)
	} else {
		err = e.filesystem(r, o)
	}
	if err == nil {
		e.IDMap, err = newIDMap(r, mount, o)
	}
	if err != nil {
		return e, err
	}
	return e, checkProc(e)
}

func (e *Entry) bind(r MapRequest, mount specs.Mount, o options) error {
	e.Kind, e.Type, e.Recursive = Bind, "", o.recursive
	e.Exact = o.set|o.clear != 0
	switch {
	case mount.Source == "":
		return errors.New("no source")
	case len(o.data) > 0:
		// The kernel would ignore them, and the mount would not be what was asked for.
		return fmt.Errorf("a bind mount cannot have the filesystem's option %q", o.data[0])
	case o.copyUp:
		return errors.New("tmpcopyup is for tmpfs")
	}
	if !filepath.IsAbs(e.Source) {
		e.Source = filepath.Join(r.Bundle, e.Source)
	}
	e.Late = e.late()
	return nil
}

func (e *Entry) filesystem(r MapRequest, o options) error {
	e.Kind = Filesystem
	if e.Type == "tmpfs" {
		e.Kind = Temporary
	}
	switch {
	case e.Type == "":
		return errors.New("no type")
	case o.remount:
		return errors.New("remount is for bind mounts")
	case o.copyUp && e.Kind != Temporary:
		return errors.New("tmpcopyup is for tmpfs")
	}
	e.Data = append(o.super, o.data...)
	if e.CopyUp && r.UserNamespace {
		if err := e.ownerOnHost(r.Spec); err != nil {
			return err
		}
	}
	e.Late = e.late()
	return nil
}

// late tells whether other parts of the map may have to be made inside the entry before it becomes read-only.
func (e *Entry) late() bool {
	return (e.Set|e.RecursiveSet)&unix.MOUNT_ATTR_RDONLY != 0 && (e.Kind == Temporary || e.Destination == "/dev" && e.Kind != Bind)
}

// ownerOnHost puts the host's ids in place of the container's: a tmpfs with a copy is made outside the user namespace.
func (e *Entry) ownerOnHost(spec *specs.Spec) error {
	for i, d := range e.Data {
		key, id, _ := strings.Cut(d, "=")
		if key != "uid" && key != "gid" {
			continue
		}
		var mappings []specs.LinuxIDMapping
		if spec.Linux != nil {
			mappings = spec.Linux.UIDMappings
			if key == "gid" {
				mappings = spec.Linux.GIDMappings
			}
		}
		host, err := hostID(mappings, id)
		if err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
		e.Data[i] = fmt.Sprintf("%s=%d", key, host)
	}
	return nil
}

func (m *Map) addCovers(r MapRequest) error {
	if l := r.Spec.Linux; l != nil {
		for i, p := range l.MaskedPaths {
			p = rooted(p)
			if p == "/" {
				return fmt.Errorf("linux.maskedPaths[%d]: the root cannot be masked", i)
			}
			if !slices.Contains(m.Masked, p) {
				m.Masked = append(m.Masked, p)
			}
		}
		for _, p := range l.ReadonlyPaths {
			p = rooted(p)
			if p == "/" {
				m.Root.ReadOnly = true
			} else if !slices.Contains(m.ReadOnly, p) {
				m.ReadOnly = append(m.ReadOnly, p)
			}
		}
	}
	for _, p := range r.Denied {
		if !path.IsAbs(p) {
			return fmt.Errorf("filesystem.deny %q: not an absolute path", p)
		}
		if path.Clean(p) == "/" {
			return errors.New("filesystem.deny \"/\": a container without any file cannot run")
		}
		m.Denied = append(m.Denied, path.Clean(p))
	}
	// What lies beneath a denied path goes with it. Sorting brings it right behind, but for names such as "a!" between "a" and "a/b".
	slices.Sort(m.Denied)
	m.Denied = slices.Compact(m.Denied)
	all := slices.Clone(m.Denied)
	m.Denied = slices.DeleteFunc(m.Denied, func(p string) bool {
		return slices.ContainsFunc(all, func(above string) bool { return strings.HasPrefix(p, above+"/") })
	})
	return nil
}

// rooted is a container path without "..", ".", and double slashes; one that is not absolute starts at the root.
func rooted(p string) string { return path.Clean("/" + p) }
