package netfilter

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// bindAttempt is one try to bind a socket.
type bindAttempt struct {
	Family, Type, Protocol int
	To                     string // address and port
	Path                   string // of a Unix socket; an abstract one begins with @
	Groups                 uint32 // of a netlink socket
	Umask                  int
	UID, GID               int
}

type bindOutcome struct {
	Errno unix.Errno
	Port  int // that the socket has then
}

func init() {
	scenarios["binds"] = func(me *self) any {
		var list []bindAttempt
		me.arguments(&list)
		results := make([]bindOutcome, len(list))
		for i, a := range list {
			onThread(func() {
				unix.Umask(a.Umask)
				if a.UID != 0 {
					become(a.UID, a.GID)
				}
				results[i] = a.make()
			})
		}
		return results
	}
}

func (a bindAttempt) make() bindOutcome {
	fd, err := unix.Socket(a.Family, a.Type, a.Protocol)
	if err != nil {
		return bindOutcome{Errno: err.(unix.Errno)}
	}
	defer unix.Close(fd)
	var sa []byte
	switch a.Family {
	case unix.AF_UNIX:
		sa = sockaddrUnix(a.Path)
	case unix.AF_NETLINK:
		raw := unix.RawSockaddrNetlink{Family: unix.AF_NETLINK, Groups: a.Groups}
		sa = unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw))
	default:
		sa = sockaddr(netip.MustParseAddrPort(a.To))
	}
	r := raw("bind", unix.SYS_BIND, uintptr(fd), pointer(sa), uintptr(len(sa)), 0, 0, 0)
	runtime.KeepAlive(sa)
	out := bindOutcome{Errno: r.Errno}
	if name, err := unix.Getsockname(fd); err == nil {
		switch name := name.(type) {
		case *unix.SockaddrInet4:
			out.Port = name.Port
		case *unix.SockaddrInet6:
			out.Port = name.Port
		}
	}
	return out
}

// TestBindsAsked makes every bind twice: denied, and allowed.
func TestBindsAsked(t *testing.T) {
	n := newNetwork(t)
	const user, group = 4711, 4712
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	rows := []struct {
		name     string
		attempt  bindAttempt
		protocol string
		want     bindOutcome // once it is allowed
	}{
		{"TCP", bindAttempt{Family: unix.AF_INET, Type: unix.SOCK_STREAM, To: "10.1.0.1:7000"}, "tcp", bindOutcome{Port: 7000}},
		{"TCP, IPv6", bindAttempt{Family: unix.AF_INET6, Type: unix.SOCK_STREAM, To: "[fd00:1::1]:7001"}, "tcp", bindOutcome{Port: 7001}},
		{"UDP", bindAttempt{Family: unix.AF_INET, Type: unix.SOCK_DGRAM, To: "10.1.0.1:7002"}, "udp", bindOutcome{Port: 7002}},
		{"a port of root's", bindAttempt{Family: unix.AF_INET, Type: unix.SOCK_STREAM, To: "10.1.0.1:80"}, "tcp", bindOutcome{Port: 80}},
		{"a port of root's, by a user", bindAttempt{Family: unix.AF_INET, Type: unix.SOCK_STREAM, To: "10.1.0.1:81", UID: user, GID: group}, "tcp", bindOutcome{Errno: unix.EACCES}},
		{"somebody else's address", bindAttempt{Family: unix.AF_INET, Type: unix.SOCK_STREAM, To: "10.7.7.7:7000"}, "tcp", bindOutcome{Errno: unix.EADDRNOTAVAIL}},
		{"a Unix socket", bindAttempt{Family: unix.AF_UNIX, Type: unix.SOCK_STREAM, Path: filepath.Join(dir, "s"), Umask: 0o027, UID: user, GID: group}, "unix", bindOutcome{}},
		{"a Unix socket, out of reach", bindAttempt{Family: unix.AF_UNIX, Type: unix.SOCK_STREAM, Path: "/a-socket-of-a-test", UID: user, GID: group}, "unix", bindOutcome{Errno: unix.EACCES}},
		{"an abstract name", bindAttempt{Family: unix.AF_UNIX, Type: unix.SOCK_DGRAM, Path: "@a-name-of-a-test-that-is-long"}, "unix", bindOutcome{}},
	}
	for _, allow := range []bool{false, true} {
		j := newJudge(unix.ENOTSUP, func(seccompnotif.Event) bool { return allow })
		var list []bindAttempt
		for _, row := range rows {
			list = append(list, row.attempt)
		}
		results, _ := run[[]bindOutcome](t, n, Policy{}.Watched(), "binds", guestOptions{args: list, asked: j})
		for i, row := range rows {
			want := row.want
			if !allow {
				want = bindOutcome{Errno: unix.ENOTSUP}
			}
			if results[i] != want {
				t.Errorf("%s, allowed %v: %+v, want %+v", row.name, allow, results[i], want)
			}
		}
		events := j.events()
		if len(events) != len(rows) {
			t.Fatalf("%d events: %+v", len(events), events)
		}
		for i, row := range rows {
			e := events[i]
			if e.Syscall != "bind" || e.Protocol != row.protocol || !e.Held || row.attempt.To != "" && e.Addr.String() != row.attempt.To {
				t.Errorf("%s: event %+v", row.name, e)
			}
		}
		info, err := os.Stat(filepath.Join(dir, "s"))
		if (err == nil) != allow {
			t.Errorf("allowed %v: the socket: %v", allow, err)
		}
		if allow && err == nil {
			if stat := info.Sys().(*syscall.Stat_t); stat.Uid != user || stat.Gid != group || info.Mode().Perm() != 0o750 {
				t.Errorf("the socket is %d:%d %v", stat.Uid, stat.Gid, info.Mode())
			}
		}
	}
}

// TestBindsUnasked: netlink sockets are nobody's business, but take the guest's own capabilities.
func TestBindsUnasked(t *testing.T) {
	n := newNetwork(t)
	j := newJudge(0, func(seccompnotif.Event) bool { return false })
	const oneGroup = 1
	results, _ := run[[]bindOutcome](t, n, Policy{}.Watched(), "binds", guestOptions{asked: j, args: []bindAttempt{
		{Family: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_ROUTE},
		{Family: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_NETFILTER, Groups: oneGroup, UID: 4711, GID: 4711},
	}})
	if results[0].Errno != 0 || results[1].Errno != unix.EPERM || len(j.events()) != 0 {
		t.Errorf("%+v, %v", results, j.events())
	}
}

// TestBindsUnderRules: what rules for ports and Landlock would refuse the guest is refused on its behalf.
func TestBindsUnderRules(t *testing.T) {
	n := newNetwork(t)
	dir := t.TempDir()
	j := newJudge(0, func(seccompnotif.Event) bool { return true })
	var confined atomic.Int32
	results, g := run[[]bindOutcome](t, n, Policy{}.Watched(), "binds", guestOptions{
		asked: j, bind: NewBindPolicy(ports(t, "7000"), nil), confine: func() error { confined.Add(1); return errors.New("on purpose") },
		args: []bindAttempt{
			{Family: unix.AF_INET, Type: unix.SOCK_STREAM, To: "10.1.0.1:7001"},
			{Family: unix.AF_INET, Type: unix.SOCK_STREAM, To: "10.1.0.1:7000"},
			{Family: unix.AF_INET, Type: unix.SOCK_DGRAM, To: "10.1.0.1:7001"},
			{Family: unix.AF_UNIX, Type: unix.SOCK_STREAM, Path: filepath.Join(dir, "s")},
		},
	})
	want := []bindOutcome{{Errno: deniedErrno}, {Port: 7000}, {Port: 7001}, {Errno: unix.EACCES}}
	for i := range want {
		if results[i] != want[i] {
			t.Errorf("attempt %d: %+v, want %+v", i, results[i], want[i])
		}
	}
	if confined.Load() != 1 || len(g.denied()) != 1 || g.denied()[0].Syscall != "bind" || len(j.events()) != 3 {
		t.Errorf("confined %d times, denied %v, events %v", confined.Load(), g.denied(), j.events())
	}
	if e := <-j.reported; !e.Denied || e.Syscall != "bind" {
		t.Errorf("reported %+v", e)
	}
}
