package netfilter

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// noDestination is the destination of a denial that has no IP address.
var noDestination netip.AddrPort

// connectUnix connects a Unix socket, which it takes over. It runs on a worker. Egress rules say nothing of Unix sockets, so this
// is only about doing it as the guest would: a path is resolved in the guest's root with the guest's permissions, and the peer
// sees its user and group (SO_PEERCRED; the process id is the supervisor's). An abstract name is looked up in the network
// namespace of the socket, whoever calls.
func (e *Egress) connectUnix(c *seccompnotif.Call, s socket, sa []byte) seccompnotif.Action {
	if errno := e.checkAbstract(c, &s, sa); errno != 0 {
		s.close()
		return seccompnotif.Errno(errno)
	}
	// The backlog of a listener that is full is said with EAGAIN. Nothing tells when it has room again.
	p := &parked{socket: s, timedOut: unix.EAGAIN}
	p.stopped = func(errno unix.Errno) seccompnotif.Action { return seccompnotif.Errno(errno) }
	p.again = func() (seccompnotif.Action, progress) {
		errno, err := e.host.AsGuest(c, isPath(sa), func() unix.Errno { return p.socket.tryConnect(sa) })
		if err != nil {
			return seccompnotif.Errno(errnoOf(err, unix.EACCES)), done
		}
		if errno == unix.EAGAIN && !p.socket.nonblocking() {
			return seccompnotif.Action{}, stuck
		}
		return answer(0, errno), done
	}
	action, progress := p.again()
	if progress == stuck {
		return e.lot.park(p)
	}
	p.socket.close()
	return action
}

// checkAbstract refuses abstract names in the supervisor's own network namespace, see [EgressConfig.SharedAbstract].
func (e *Egress) checkAbstract(c *seccompnotif.Call, s *socket, sa []byte) unix.Errno {
	if !isAbstract(sa) || e.abstract {
		return 0
	}
	if fam, _ := family(sa); fam != unix.AF_UNIX || !sharedNetwork(e.host, s) {
		return 0
	}
	return e.refuse(c, s, noDestination, Verdict{}, "abstract sockets of the host's network namespace are out of reach")
}

// sharedNetwork tells whether a socket is in the supervisor's network namespace. If that cannot be told it is taken to be.
func sharedNetwork(h *seccompnotif.Host, s *socket) bool {
	ns, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCGSKNS, 0)
	if errno != 0 {
		return true
	}
	defer unix.Close(int(ns))
	id, err := seccompnotif.NamespaceOf(int(ns))
	return err != nil || id == h.Network()
}

// unixSend is what is needed besides the data to send a message over a Unix socket on the guest's behalf.
type unixSend struct {
	control []byte
	stated  bool  // the guest asked for credentials to be attached
	fds     []int // our duplicates of the descriptors that are passed on
}

func (u *unixSend) close() {
	for _, fd := range u.fds {
		unix.Close(fd)
	}
}

// prepareUnix translates ancillary data: descriptors are duplicated, and the guest's credentials are attached to every
// message, whether it asked for that or not, because a receiver with SO_PASSCRED would otherwise be told ours. The process
// stated must be the guest's own and the ids one of its three; that a privileged guest may state others is not covered.
func (e *Egress) prepareUnix(c *seccompnotif.Call, control []byte) (u unixSend, errno unix.Errno) {
	guestFDs, stated, errno := splitUnixControl(control, nil)
	if errno != 0 {
		return u, errno
	}
	id, err := e.host.Identity(c)
	if err != nil {
		return u, errnoOf(err, unix.EACCES)
	}
	uid, gid := id.UID[0], id.GID[0] // what the kernel attaches by itself is the real ids
	if u.stated = stated != nil; u.stated {
		if int(stated.Pid) != id.NSTGID {
			return u, unix.EPERM
		}
		if uid, gid, err = e.host.OutsideIDs(c, stated.Uid, stated.Gid); err != nil {
			return u, errnoOf(err, unix.EACCES)
		}
		if !oneOf(uid, id.UID) || !oneOf(gid, id.GID) {
			return u, unix.EPERM
		}
	}
	credentials := binary.NativeEndian.AppendUint32(nil, uint32(id.TGID))
	credentials = binary.NativeEndian.AppendUint32(credentials, uid)
	credentials = binary.NativeEndian.AppendUint32(credentials, gid)
	var rights []byte
	for _, fd := range guestFDs {
		duplicate, err := c.File(int(fd))
		if err != nil {
			u.close()
			return u, errnoOf(err, unix.EACCES)
		}
		u.fds = append(u.fds, duplicate)
		rights = binary.NativeEndian.AppendUint32(rights, uint32(duplicate))
	}
	if len(rights) > 0 {
		u.control = appendControl(u.control, unix.SOL_SOCKET, unix.SCM_RIGHTS, rights)
	}
	u.control = appendControl(u.control, unix.SOL_SOCKET, unix.SCM_CREDENTIALS, credentials)
	return u, 0
}

// credentials returns the credentials alone.
func (u *unixSend) credentials() []byte {
	return u.control[len(u.control)-alignedControl(ucredSize):]
}

// withoutCredentials returns the ancillary data without the credentials that prepareUnix attached.
func (u *unixSend) withoutCredentials() []byte {
	return u.control[:len(u.control)-alignedControl(ucredSize)]
}

func alignedControl(size int) int { return (cmsghdrSize + size + 7) &^ 7 }

// oneOf tells whether id is among the real, effective and saved ids.
func oneOf(id uint32, of [4]uint32) bool { return slices.Contains(of[:3], id) }
