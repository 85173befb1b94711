package chroot

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// IDMap is an idmapped mount's change of owners, see mount_setattr(2): "container" ids are those that the file system has, "host" ids those
// that the mount shows for them. They are given by mappings, or by a user namespace that has some.
type IDMap struct {
	UIDMappings []specs.LinuxIDMapping `json:"uidMappings,omitempty"`
	GIDMappings []specs.LinuxIDMapping `json:"gidMappings,omitempty"`
	// Namespace is the path of the user namespace, "" where there are mappings.
	Namespace string `json:"userNamespace,omitempty"`
	// Recursive has the mounts beneath changed as well.
	Recursive bool `json:"recursive,omitempty"`
}

// newIDMap is what a mount asks for, nil if it does not. A mount without mappings of its own has those of the container's user namespace.
func newIDMap(r MapRequest, mount specs.Mount, o options) (*IDMap, error) {
	given := len(mount.UIDMappings) > 0 || len(mount.GIDMappings) > 0
	if !o.idMapped && !given {
		return nil, nil
	}
	if !o.bind && mount.Type != "bind" {
		return nil, errors.New("only a bind mount can be id-mapped")
	}
	m := &IDMap{UIDMappings: mount.UIDMappings, GIDMappings: mount.GIDMappings, Recursive: o.idMapBeneath}
	if !given {
		m.ofContainer(r)
	}
	if m.Namespace != "" {
		return m, nil
	}
	switch {
	case len(m.UIDMappings) == 0 && len(m.GIDMappings) == 0:
		return nil, errors.New("id-mapped without mappings: it has no uidMappings and gidMappings, and the container has no user namespace")
	case len(m.UIDMappings) == 0:
		return nil, errors.New("gidMappings without uidMappings: an id-mapped mount needs both")
	case len(m.GIDMappings) == 0:
		return nil, errors.New("uidMappings without gidMappings: an id-mapped mount needs both")
	}
	return m, nil
}

// ofContainer takes the mappings of the container's user namespace, if it has one.
func (m *IDMap) ofContainer(r MapRequest) {
	l := r.Spec.Linux
	if !r.UserNamespace || l == nil {
		return
	}
	for _, ns := range l.Namespaces {
		if ns.Type == specs.UserNamespace && ns.Path != "" {
			m.Namespace = ns.Path
			return
		}
	}
	m.UIDMappings, m.GIDMappings = l.UIDMappings, l.GIDMappings
}

// mapIDs changes the owners that a detached mount shows.
func (s *Sources) mapIDs(mount int, m IDMap) error {
	namespace, err := s.userNamespace(m)
	if err != nil {
		return fmt.Errorf("user namespace of the id mapping: %w", err)
	}
	err = setAttributes(mount, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(namespace)}, m.Recursive)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("id mapping: %w (its file system may not support that)", err)
	}
	if err != nil {
		return fmt.Errorf("id mapping: %w", err)
	}
	return nil
}

// userNamespace is a descriptor of a user namespace with the mappings of m. Mounts with the same mappings share one.
func (s *Sources) userNamespace(m IDMap) (int, error) {
	if m.Namespace != "" {
		return s.hold(unix.Open(m.Namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0))
	}
	key := mapText(m.UIDMappings) + "/" + mapText(m.GIDMappings)
	if fd, ok := s.userNamespaces[key]; ok {
		return fd, nil
	}
	fd, err := s.hold(newUserNamespace(m.UIDMappings, m.GIDMappings))
	if err != nil {
		return -1, err
	}
	if s.userNamespaces == nil {
		s.userNamespaces = make(map[string]int)
	}
	s.userNamespaces[key] = fd
	return fd, nil
}

// newUserNamespace makes a user namespace that nobody is in. It takes a process to make one, which lives no longer than it takes to write
// the mappings.
func newUserNamespace(uids, gids []specs.LinuxIDMapping) (int, error) {
	namespace := -1
	err := launch.Briefly(launch.New(), unix.CLONE_NEWUSER, "a user namespace", func(pid int) (err error) {
		proc := "/proc/" + strconv.Itoa(pid)
		if err := os.WriteFile(proc+"/uid_map", []byte(mapText(uids)), 0); err != nil {
			return fmt.Errorf("uidMappings: %w", err)
		}
		if err := os.WriteFile(proc+"/gid_map", []byte(mapText(gids)), 0); err != nil {
			return fmt.Errorf("gidMappings: %w", err)
		}
		namespace, err = unix.Open(proc+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	return namespace, err
}

// mapText is the text of /proc/PID/uid_map, user_namespaces(7).
func mapText(mappings []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range mappings {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return b.String()
}
