package seccompnotif

import (
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Host is what a supervisor knows of its own place, so that it can find out about a guest's and act there. Its methods are safe
// for concurrent use.
//
// /proc is held open because some of our threads take the guest's root, where the path would lead into the guest's own.
type Host struct {
	proc    int
	network NamespaceID
	user    NamespaceID
}

// NamespaceID identifies a namespace, see ioctl_ns(2) and namespaces(7).
type NamespaceID struct{ Dev, Ino uint64 }

// NamespaceOf returns which namespace fd, a descriptor of a file in /proc/PID/ns or one that ioctl_ns(2) returned, refers to.
func NamespaceOf(fd int) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return NamespaceID{}, err
	}
	return NamespaceID{st.Dev, st.Ino}, nil
}

// OpenHost looks at the calling thread's place. Threads of a supervisor share it.
func OpenHost() (*Host, error) {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	h := &Host{proc: fd}
	if h.network, err = h.namespace("thread-self/ns/net"); err == nil {
		h.user, err = h.namespace("thread-self/ns/user")
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return h, nil
}

// Close releases what h holds.
func (h *Host) Close() error { return unix.Close(h.proc) }

// Proc returns the descriptor of the supervisor's /proc (O_PATH), which stays h's.
func (h *Host) Proc() int { return h.proc }

// Network returns the supervisor's network namespace.
func (h *Host) Network() NamespaceID { return h.network }

func (h *Host) namespace(path string) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(h.proc, path, &st, 0); err != nil {
		return NamespaceID{}, fmt.Errorf("/proc/%s: %w", path, err)
	}
	return NamespaceID{st.Dev, st.Ino}, nil
}

// ReadProc returns the contents of /proc/tid/name. They are the guest's only if [Call.Valid] holds afterwards.
func (h *Host) ReadProc(tid int, name string) ([]byte, error) {
	path := strconv.Itoa(tid) + "/" + name
	fd, err := unix.Openat(h.proc, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/proc/%s: %w", path, err)
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("/proc/%s: %w", path, err)
		}
		if text = text[:len(text)+n]; n == 0 {
			return text, nil
		}
		if len(text) == cap(text) {
			text = slices.Grow(text, cap(text))
		}
	}
}

// NamespaceOfCaller returns the caller's namespace of a kind: the name of a file in /proc/PID/ns.
func (h *Host) NamespaceOfCaller(c *Call, kind string) (NamespaceID, error) {
	ns, err := h.namespace(strconv.Itoa(c.PID()) + "/ns/" + kind)
	if err == nil && !c.Valid() {
		err = ErrGone
	}
	return ns, err
}

// SharesUser tells whether the caller is in the supervisor's user namespace.
func (h *Host) SharesUser(c *Call) (bool, error) {
	ns, err := h.NamespaceOfCaller(c, "user")
	return ns == h.user, err
}
