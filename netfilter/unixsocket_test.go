package netfilter

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unixServer receives over a Unix socket.
type unixServer struct {
	t      testing.TB
	stream *net.UnixListener
	packet *net.UnixConn
}

// listenUnix starts a server; a name that begins with @ is abstract, in the namespace of n, or of the test if n is nil.
func listenUnix(t testing.TB, n *network, kind, path string) *unixServer {
	t.Helper()
	s := &unixServer{t: t}
	listen := func() (err error) {
		addr := &net.UnixAddr{Net: kind, Name: path}
		if kind == "unix" {
			s.stream, err = net.ListenUnix(kind, addr)
		} else {
			s.packet, err = net.ListenUnixgram(kind, addr)
		}
		return err
	}
	if n != nil {
		n.do(t, listen)
	} else if err := listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.stream != nil {
			s.stream.Close()
		} else {
			s.packet.Close()
		}
	})
	return s
}

// next waits for the next connection or datagram and returns what was sent, and for a connection who did.
func (s *unixServer) next() (string, *unix.Ucred) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second) // so that a failing test ends
	b := make([]byte, 100)
	if s.packet != nil {
		_ = s.packet.SetReadDeadline(deadline)
		n, err := s.packet.Read(b)
		if err != nil {
			s.t.Fatal(err)
		}
		return string(b[:n]), nil
	}
	_ = s.stream.SetDeadline(deadline)
	conn, err := s.stream.AcceptUnix()
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	n, err := conn.Read(b)
	if err != nil {
		s.t.Fatal(err)
	}
	var who *unix.Ucred
	rc, err := conn.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { who, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b[:n]), who
}

// untouched checks that nothing has arrived since the last next: what the test itself sends now arrives first.
func (s *unixServer) untouched() {
	s.t.Helper()
	const sentinel = "sent by the test itself"
	var addr net.Addr
	if s.stream != nil {
		addr = s.stream.Addr()
	} else {
		addr = s.packet.LocalAddr()
	}
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(sentinel)); err != nil {
		s.t.Fatal(err)
	}
	if got, _ := s.next(); got != sentinel {
		s.t.Errorf("%s got %q of the guest", addr, got)
	}
}

// TestUnixPaths has a guest in a root of its own reach for Unix sockets there and outside.
func TestUnixPaths(t *testing.T) {
	n := newNetwork(t)
	base := t.TempDir()
	root := filepath.Join(base, "root")
	for _, dir := range []string{base, filepath.Dir(base), root, filepath.Join(root, "run"), filepath.Join(root, "run", "deep")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inside := listenUnix(t, nil, "unix", filepath.Join(root, "run/a-service"))
	private := listenUnix(t, nil, "unix", filepath.Join(root, "run/a-private-one"))
	log := listenUnix(t, nil, "unixgram", filepath.Join(root, "run/a-log"))
	outside := listenUnix(t, nil, "unix", filepath.Join(base, "a-service"))
	outsideLog := listenUnix(t, nil, "unixgram", filepath.Join(base, "a-log"))
	for path, mode := range map[string]os.FileMode{"run/a-service": 0o777, "run/a-private-one": 0o700, "run/a-log": 0o777} {
		if err := os.Chmod(filepath.Join(root, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"run/absolute-link": "/run/a-service",
		"run/way-out-link":  "../../../../../../a-service",
		"way-out-as-host":   filepath.Join(base, "a-service"),
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	const user, group = 4242, 4343
	type row struct {
		name string
		unixAttempt
		want unix.Errno
		at   *unixServer
	}
	rows := []row{
		{"absolute", unixAttempt{Path: "/run/a-service", Root: root, Cwd: "/"}, 0, inside},
		{"relative", unixAttempt{Path: "../a-service", Root: root, Cwd: "/run/deep"}, 0, inside},
		{"relative from the root", unixAttempt{Path: "run/a-service", Root: root, Cwd: "/"}, 0, inside},
		{"dots stop at the root", unixAttempt{Path: "/../../../run/a-service", Root: root, Cwd: "/"}, 0, inside},
		{"absolute link", unixAttempt{Path: "/run/absolute-link", Root: root, Cwd: "/"}, 0, inside},
		{"as a user", unixAttempt{Path: "/run/a-service", Root: root, Cwd: "/", UID: user, GID: group}, 0, inside},
		{"without a root of its own", unixAttempt{Path: filepath.Join(base, "a-service")}, 0, outside},
		{"root may", unixAttempt{Path: "/run/a-private-one", Root: root, Cwd: "/"}, 0, private},
		{"datagram", unixAttempt{Path: "/run/a-log", Type: unix.SOCK_DGRAM, Send: true, Root: root, Cwd: "/"}, 0, log},
		{"message", unixAttempt{Path: "/run/a-log", Type: unix.SOCK_DGRAM, Message: true, Root: root, Cwd: "/", UID: user, GID: group}, 0, log},
		{"datagram connection", unixAttempt{Path: "a-log", Type: unix.SOCK_DGRAM, Root: root, Cwd: "/run"}, 0, log},

		{"a user may not", unixAttempt{Path: "/run/a-private-one", Root: root, Cwd: "/", UID: user, GID: group}, unix.EACCES, nil},
		{"out by dots", unixAttempt{Path: "/../a-service", Root: root, Cwd: "/"}, unix.ENOENT, nil},
		{"out by dots, relative", unixAttempt{Path: "../../../a-service", Root: root, Cwd: "/run/deep"}, unix.ENOENT, nil},
		{"out by a link", unixAttempt{Path: "/run/way-out-link", Root: root, Cwd: "/"}, unix.ENOENT, nil},
		{"out by a link with the host's path", unixAttempt{Path: "/way-out-as-host", Root: root, Cwd: "/"}, unix.ENOENT, nil},
		{"the host's path", unixAttempt{Path: filepath.Join(base, "a-service"), Root: root, Cwd: "/"}, unix.ENOENT, nil},
		{"the host's path, datagram", unixAttempt{Path: filepath.Join(base, "a-log"), Type: unix.SOCK_DGRAM, Send: true, Root: root, Cwd: "/"}, unix.ENOENT, nil},
		{"nobody there", unixAttempt{Path: "/run/nobody-is-there", Root: root, Cwd: "/"}, unix.ENOENT, nil},
		{"a directory", unixAttempt{Path: "/run/deep", Root: root, Cwd: "/"}, unix.ECONNREFUSED, nil},
	}
	list := make([]unixAttempt, len(rows))
	for i, r := range rows {
		list[i] = r.unixAttempt
		if r.Type == 0 {
			list[i].Type = unix.SOCK_STREAM
		}
	}
	p := policy(t, "10.1.0.1", "")
	g := n.start(t, p, "unix", guestOptions{args: list})
	for _, r := range rows {
		if r.at == nil {
			continue
		}
		got, who := r.at.next()
		if got != "unix" {
			t.Errorf("%s: the server got %q", r.name, got)
		}
		want := unix.Ucred{Uid: uint32(r.UID), Gid: uint32(r.GID)}
		if who != nil && (who.Uid != want.Uid || who.Gid != want.Gid) {
			t.Errorf("%s: the server sees user %d and group %d", r.name, who.Uid, who.Gid)
		}
	}
	var results []outcome
	g.hear(&results)
	for i, r := range rows {
		if results[i].Errno != r.want {
			t.Errorf("%s: %+v, want %v", r.name, results[i], r.want)
		}
	}
	for _, s := range []*unixServer{inside, private, log, outside, outsideLog} {
		s.untouched()
	}
}

// TestUnixPathsOfUserNamespace has the root of a user namespace reach for Unix sockets: it is nobody's root outside.
func TestUnixPathsOfUserNamespace(t *testing.T) {
	n := newNetwork(t)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const base = 100000
	own, foreign := listenUnix(t, nil, "unix", filepath.Join(dir, "a-service")), listenUnix(t, nil, "unix", filepath.Join(dir, "a-foreign-one"))
	for path, owner := range map[string]int{"a-service": base, "a-foreign-one": 0} {
		path = filepath.Join(dir, path)
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: base, Size: 1000}}
	attr := unix.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: mapping, GidMappings: mapping, Credential: &syscall.Credential{NoSetGroups: true}}
	g := n.start(t, policy(t, "10.1.0.1", ""), "unix", guestOptions{attr: attr, args: []unixAttempt{
		{Path: filepath.Join(dir, "a-foreign-one"), Type: unix.SOCK_STREAM},
		{Path: filepath.Join(dir, "a-service"), Type: unix.SOCK_STREAM},
	}})
	if got, who := own.next(); got != "unix" || who.Uid != base || who.Gid != base {
		t.Errorf("%q of %+v", got, who)
	}
	var results []outcome
	if g.hear(&results); results[0].Errno != unix.EACCES || results[1].Errno != 0 {
		t.Errorf("%+v", results)
	}
	foreign.untouched()
}

// TestAbstract has a guest reach for abstract sockets in its own network namespace and in the supervisor's.
func TestAbstract(t *testing.T) {
	const name = "@an abstract name of the tests of netfilter"
	n := newNetwork(t)
	attempts := []unixAttempt{
		{Path: name, Type: unix.SOCK_STREAM},
		{Path: name + " (log)", Type: unix.SOCK_DGRAM, Send: true},
		{Path: name + " (log)", Type: unix.SOCK_DGRAM, Message: true},
		{Path: name + " (log)", Type: unix.SOCK_DGRAM},
	}
	p := policy(t, "10.1.0.1", "")
	host, hostLog := listenUnix(t, nil, "unix", name), listenUnix(t, nil, "unixgram", name+" (log)")

	got, _ := run[[]outcome](t, n, p, "unix", guestOptions{args: attempts})
	for i, r := range got {
		if r.Errno != unix.ECONNREFUSED {
			t.Errorf("attempt %d with nobody in the guest's namespace: %+v", i, r)
		}
	}
	inside, insideLog := listenUnix(t, n, "unix", name), listenUnix(t, n, "unixgram", name+" (log)")
	got, _ = run[[]outcome](t, n, p, "unix", guestOptions{args: attempts})
	for i, r := range got {
		if r.Errno != 0 {
			t.Errorf("attempt %d with a server in the guest's namespace: %+v", i, r)
		}
	}
	if got, _ := inside.next(); got != "unix" {
		t.Errorf("%q", got)
	}
	for range 3 {
		if got, _ := insideLog.next(); got != "unix" {
			t.Errorf("%q", got)
		}
	}
	host.untouched()
	hostLog.untouched()

	// A guest in the supervisor's own namespace does not get there on its behalf.
	got, g := run[[]outcome](t, hostNetwork(t), p, "unix", guestOptions{args: attempts})
	for i, r := range got {
		if r.Errno != deniedErrno {
			t.Errorf("attempt %d in the supervisor's namespace: %+v", i, r)
		}
	}
	if len(g.denied()) != len(attempts) {
		t.Errorf("denials: %v", g.denied())
	}
	host.untouched()
	hostLog.untouched()
}

// hostNetwork is the namespace of the test itself.
func hostNetwork(t *testing.T) *network {
	n := &network{jobs: make(chan func())}
	go func() {
		for job := range n.jobs {
			job()
		}
	}()
	t.Cleanup(func() { close(n.jobs) })
	return n
}

// socketpair makes two connected Unix sockets, with SO_PASSCRED on the first.
func socketpair(t *testing.T) (ours int, theirs *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "theirs")
	t.Cleanup(func() {
		unix.Close(pair[0])
		theirs.Close()
	})
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	return pair[0], theirs
}

func TestPassDescriptor(t *testing.T) {
	n := newNetwork(t)
	ours, theirs := socketpair(t)
	got, g := run[outcome](t, n, policy(t, "10.1.0.1", ""), "pass", guestOptions{extra: []*os.File{theirs}})
	if got.Errno != 0 || got.N != 2 {
		t.Fatalf("%+v", got)
	}
	fd := -1
	who := receive(t, ours, func(m syscall.SocketControlMessage) {
		if m.Header.Type == unix.SCM_RIGHTS {
			fd = int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	})
	if who.Pid != int32(g.cmd.Process.Pid) {
		t.Errorf("the message is from process %d, not %d", who.Pid, g.cmd.Process.Pid)
	}
	b := make([]byte, 100)
	count, err := unix.Read(fd, b)
	unix.Close(fd)
	if err != nil || string(b[:count]) != "through the pipe" {
		t.Errorf("%q, %v", b[:count], err)
	}
}

// receive takes the next message and returns who the kernel says sent it.
func receive(t *testing.T, fd int, each func(syscall.SocketControlMessage)) unix.Ucred {
	t.Helper()
	b, oob := make([]byte, 100), make([]byte, 200)
	_, n, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	var who unix.Ucred
	for _, m := range messages {
		if m.Header.Type == unix.SCM_CREDENTIALS {
			who = unix.Ucred{Pid: int32(binary.NativeEndian.Uint32(m.Data)), Uid: binary.NativeEndian.Uint32(m.Data[4:]), Gid: binary.NativeEndian.Uint32(m.Data[8:])}
		}
		if each != nil {
			each(m)
		}
	}
	return who
}

func TestCredentials(t *testing.T) {
	n := newNetwork(t)
	ours, theirs := socketpair(t)
	got, g := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "credentials", guestOptions{extra: []*os.File{theirs}})
	for i, want := range []unix.Errno{0, 0, unix.EPERM, unix.EPERM} {
		if got[i].Errno != want {
			t.Errorf("message %d: %+v, want %v", i, got[i], want)
		}
	}
	for i := range 2 {
		if who := receive(t, ours, nil); who != (unix.Ucred{Pid: int32(g.cmd.Process.Pid), Uid: 4242, Gid: 4343}) {
			t.Errorf("message %d is from %+v", i, who)
		}
	}
}
