package netfilter

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	scenarios["ways"] = waysRound
	scenarios["no destination"] = noDestinationGiven
}

// way is an attempt to get data to the second of two servers, of which only the first may be reached.
type way struct {
	name string
	kind string // of the servers
	try  func(allowed, denied []byte) unix.Errno
}

// step makes one system call on a socket; what fails ends the way.
type steps struct {
	fd    int
	errno unix.Errno
}

func newSteps(family, kind int) *steps {
	fd, err := unix.Socket(family, kind, 0)
	return &steps{fd, errnoOf(err, 0)}
}

func (s *steps) do(trap uintptr, args ...uintptr) *steps {
	if s.errno == 0 {
		args = append(args, 0, 0, 0, 0, 0)
		_, _, s.errno = unix.Syscall6(trap, uintptr(s.fd), args[0], args[1], args[2], args[3], args[4])
	}
	return s
}

func (s *steps) connect(sa []byte) *steps {
	return s.do(unix.SYS_CONNECT, pointer(sa), uintptr(len(sa)))
}

// disconnect connects to AF_UNSPEC.
func (s *steps) disconnect() *steps { return s.connect(make([]byte, unix.SizeofSockaddrInet4)) }

func (s *steps) sendto(sa []byte) *steps {
	return s.do(unix.SYS_SENDTO, pointer(contraband), uintptr(len(contraband)), 0, pointer(sa), uintptr(len(sa)))
}

func (s *steps) write() *steps {
	return s.do(unix.SYS_WRITE, pointer(contraband), uintptr(len(contraband)))
}

func (s *steps) option(level, name, value int) *steps {
	if s.errno == 0 {
		s.errno = errnoOf(unix.SetsockoptInt(s.fd, level, name, value), 0)
	}
	return s
}

// end closes the socket, which for TCP is how the server knows that it has got all.
func (s *steps) end(keep ...[]byte) unix.Errno {
	runtime.KeepAlive(keep)
	unix.Close(s.fd)
	return s.errno
}

var contraband = []byte("contraband")

// mappedSockaddr makes the address an IPv6 one of an address of IPv4.
func mappedSockaddr(sa []byte) []byte {
	to, _ := inet4(sa)
	return sockaddr(netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port()))
}

// withoutFamily makes the address one of AF_UNSPEC.
func withoutFamily(sa []byte) []byte {
	sa = append([]byte(nil), sa...)
	sa[0], sa[1] = unix.AF_UNSPEC, 0
	return sa
}

var ways = []way{
	{"connect after being connected", "tcp", func(allowed, denied []byte) unix.Errno {
		return newSteps(unix.AF_INET, unix.SOCK_STREAM).connect(allowed).disconnect().connect(denied).write().end(allowed, denied)
	}},
	{"connect a datagram socket anew", "udp", func(allowed, denied []byte) unix.Errno {
		return newSteps(unix.AF_INET, unix.SOCK_DGRAM).connect(allowed).connect(denied).write().end(allowed, denied)
	}},
	{"send elsewhere while connected", "udp", func(allowed, denied []byte) unix.Errno {
		return newSteps(unix.AF_INET, unix.SOCK_DGRAM).connect(allowed).sendto(denied).end(allowed, denied)
	}},
	{"send elsewhere when disconnected", "udp", func(allowed, denied []byte) unix.Errno {
		return newSteps(unix.AF_INET, unix.SOCK_DGRAM).connect(allowed).disconnect().sendto(denied).end(allowed, denied)
	}},
	{"connect by the first write", "tcp", func(_, denied []byte) unix.Errno {
		return newSteps(unix.AF_INET, unix.SOCK_STREAM).option(unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, 1).connect(denied).write().end(denied)
	}},
	{"by way of a device", "tcp", func(_, denied []byte) unix.Errno {
		s := newSteps(unix.AF_INET, unix.SOCK_STREAM)
		if s.errno == 0 {
			s.errno = errnoOf(unix.BindToDevice(s.fd, "lo"), 0)
		}
		return s.connect(denied).write().end(denied)
	}},
	{"IPv4 over both", "tcp", func(_, denied []byte) unix.Errno {
		return newSteps(unix.AF_INET6, unix.SOCK_STREAM).option(unix.SOL_IPV6, unix.IPV6_V6ONLY, 0).connect(mappedSockaddr(denied)).write().end(denied)
	}},
	{"an IPv6 socket made one of IPv4", "udp", func(allowed, denied []byte) unix.Errno {
		s := newSteps(unix.AF_INET6, unix.SOCK_DGRAM).connect(mappedSockaddr(allowed)).option(unix.SOL_IPV6, unix.IPV6_ADDRFORM, unix.AF_INET)
		return s.sendto(withoutFamily(denied)).end(allowed, denied)
	}},
	{"from a bound port", "tcp", func(_, denied []byte) unix.Errno {
		any := sockaddr(netip.MustParseAddrPort("0.0.0.0:0"))
		return newSteps(unix.AF_INET, unix.SOCK_STREAM).do(unix.SYS_BIND, pointer(any), uintptr(len(any))).connect(denied).write().end(any, denied)
	}},
}

func waysRound(me *self) any {
	var args struct{ Allowed, Denied map[string]string }
	me.arguments(&args)
	results := make([]unix.Errno, len(ways))
	for i, w := range ways {
		results[i] = w.try(sockaddr(netip.MustParseAddrPort(args.Allowed[w.kind])), sockaddr(netip.MustParseAddrPort(args.Denied[w.kind])))
	}
	return results
}

// TestWaysRound tries what has led past other judges of calls. Each way reaches the server when nobody judges, so that it is
// worth something that it does not otherwise.
func TestWaysRound(t *testing.T) {
	n := newNetwork(t)
	args := struct{ Allowed, Denied map[string]string }{map[string]string{}, map[string]string{}}
	denied := map[string]*server{}
	for _, kind := range []string{"tcp", "udp"} {
		denied[kind] = n.listen(t, kind, "10.1.0.2:0")
		args.Allowed[kind], args.Denied[kind] = n.listen(t, kind, "10.1.0.1:0").addr.String(), denied[kind].addr.String()
	}
	got, _ := run[[]unix.Errno](t, n, policy(t, "*", ""), "ways", guestOptions{args: args})
	for i, errno := range got {
		if errno != 0 {
			t.Errorf("%s, unjudged: %v", ways[i].name, errno)
		} else if got := denied[ways[i].kind].next(); got != string(contraband) {
			t.Errorf("%s, unjudged: %q arrives", ways[i].name, got)
		}
	}
	for _, p := range []Policy{policy(t, "10.1.0.1", ""), policy(t, "*", "10.1.0.2")} {
		got, _ = run[[]unix.Errno](t, n, p, "ways", guestOptions{args: args})
		for i, errno := range got {
			if errno != deniedErrno {
				t.Errorf("%s: %v", ways[i].name, errno)
			}
		}
		denied["tcp"].untouched()
		denied["udp"].untouched()
	}
}

// noDestinationGiven uses calls that have no address on sockets without a peer.
func noDestinationGiven(*self) any {
	var results []unix.Errno
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		panic(err)
	}
	file, err := unix.MemfdCreate("", 0)
	if err == nil {
		_, err = unix.Write(file, contraband)
	}
	if err != nil {
		panic(err)
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		for _, call := range []func(fd int) error{
			func(fd int) error {
				if _, err := unix.Write(p[1], contraband); err != nil {
					panic(err)
				}
				_, err := unix.Splice(p[0], nil, fd, nil, len(contraband), 0)
				return err
			},
			func(fd int) error {
				offset := int64(0)
				_, err := unix.Sendfile(fd, file, &offset, len(contraband))
				return err
			},
			func(fd int) error { _, err := unix.Write(fd, contraband); return err },
			func(fd int) error { return unix.Sendto(fd, contraband, unix.MSG_NOSIGNAL, nil) },
		} {
			fd, err := unix.Socket(unix.AF_INET, kind, 0)
			if err != nil {
				panic(err)
			}
			results = append(results, errnoOf(call(fd), 0))
			unix.Close(fd)
		}
	}
	return results
}

// TestNoDestination: what gives no address goes nowhere from a socket without a peer, so it need not be judged.
func TestNoDestination(t *testing.T) {
	n := newNetwork(t)
	got, _ := run[[]unix.Errno](t, n, policy(t, "10.1.0.1", ""), "no destination", guestOptions{})
	for i, errno := range got {
		if errno != unix.EPIPE && errno != unix.ENOTCONN && errno != unix.EDESTADDRREQ {
			t.Errorf("call %d: %v", i, errno)
		}
	}
}
