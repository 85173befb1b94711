package netfilter

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// TestListenAsked: listen(2) on a socket that is not bound binds it, and who is asked about binds is asked about that, before anybody can
// connect.
func TestListenAsked(t *testing.T) {
	for name, remap := range map[string]bool{"alone": false, "ports of its own": true} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			var allowed atomic.Bool
			j := newJudge(unix.ECONNABORTED, func(e seccompnotif.Event) bool { return allowed.Load() || e.Syscall != "bind" })
			o := guestOptions{asked: j}
			if remap {
				other := n.container(t, Policy{})
				other.serve("0.0.0.0:7000")
				var err error
				if o.ports, err = NewPortSpace(PortSpaceConfig{}); err != nil {
					t.Fatal(err)
				}
			}
			c := &container{n.start(t, Policy{}.Watched(), "sockets", o), o.ports}
			if remap {
				t.Cleanup(func() {
					c.end()
					o.ports.Close()
				})
			}
			binds := func() (list []seccompnotif.Event) {
				for _, e := range j.events() {
					if e.Syscall == "bind" {
						list = append(list, e)
					}
				}
				return list
			}
			told := func() seccompnotif.Event {
				t.Helper()
				select {
				case e := <-j.reported:
					return e
				case <-time.After(10 * time.Second):
					t.Fatal("listen was not reported")
					return seccompnotif.Event{}
				}
			}
			for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
				anywhere := map[int]netip.Addr{unix.AF_INET: netip.IPv4Unspecified(), unix.AF_INET6: netip.IPv6Unspecified()}[family]
				fd := c.socket(family)
				for range 2 { // a socket that was refused is as it was before
					before := len(binds())
					c.expect(unix.ECONNABORTED, command{Call: "listen", FD: fd})
					if list := binds(); len(list) != before+1 || !list[before].Held || list[before].Protocol != "tcp" || list[before].Addr.Addr() != anywhere || list[before].Addr.Port() == 0 {
						t.Fatalf("asked about %+v", list)
					}
				}
				allowed.Store(true)
				before := len(binds())
				c.must(command{Call: "listen", FD: fd})
				bound := netip.MustParseAddrPort(c.must(command{Call: "getsockname", FD: fd}).Addr)
				if list := binds(); len(list) != before+1 || list[before].Addr != bound {
					t.Errorf("bound to %v, asked about %+v", bound, list[before:])
				}
				if e := told(); e.Syscall != "listen" || e.Held || e.Denied || e.Category != seccompnotif.Network {
					t.Errorf("told of %+v", e)
				}
				// What is bound or listens already binds nothing.
				before = len(binds())
				c.must(command{Call: "listen", FD: fd})
				told()
				address := netip.AddrPortFrom(anywhere, 7000).String()
				explicit := c.socket(family, []int{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
				c.must(command{Call: "bind", FD: explicit, Addr: address})
				allowed.Store(false)
				c.must(command{Call: "listen", FD: explicit})
				if e := told(); e.Denied {
					t.Errorf("told of %+v", e)
				}
				if list := binds(); len(list) != before+1 {
					t.Errorf("asked about %+v", list[before:])
				}
				c.name(explicit, address)
				c.must(command{Call: "close", FD: explicit})
				// An address without a port.
				addressed := c.socket(family, []int{unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1})
				loopback := map[int]netip.Addr{unix.AF_INET: netip.MustParseAddr("10.1.0.1"), unix.AF_INET6: netip.IPv6Loopback()}[family]
				allowed.Store(true)
				c.must(command{Call: "bind", FD: addressed, Addr: netip.AddrPortFrom(loopback, 0).String()})
				allowed.Store(false)
				before = len(binds())
				c.expect(unix.ECONNABORTED, command{Call: "listen", FD: addressed})
				if list := binds(); len(list) != before+1 || list[before].Addr.Addr() != loopback {
					t.Errorf("asked about %+v", list[before:])
				}
			}
			// What is no TCP is not asked about.
			before := len(binds())
			udp := c.must(command{Call: "socket", Family: unix.AF_INET, Type: unix.SOCK_DGRAM}).N
			c.expect(unix.EOPNOTSUPP, command{Call: "listen", FD: udp})
			if list := binds(); len(list) != before {
				t.Errorf("asked about %+v", list[before:])
			}
		})
	}
}

// TestListenAskedAfterTheRules: what the rules refuse is told as denied, and nobody is asked.
func TestListenAskedAfterTheRules(t *testing.T) {
	n := newNetwork(t)
	other := n.listen(t, "tcp", "127.0.0.1:0")
	j := newJudge(0, func(seccompnotif.Event) bool { return true })
	list := []listening{{"unbound", unix.AF_INET, 0}, {"disconnected", unix.AF_INET, other.addr.Port()}}
	g := n.start(t, Policy{}.Watched(), "listen", guestOptions{args: list, asked: j, bind: NewBindPolicy(ports(t, "8080"), nil)})
	var got []outcome
	g.hear(&got)
	for i, r := range got {
		if r.Errno != unix.EACCES {
			t.Errorf("%+v: %+v", list[i], r)
		}
		if e := <-j.reported; e.Syscall != "listen" || !e.Denied || e.Held {
			t.Errorf("told of %+v", e)
		}
	}
	for _, e := range j.events() {
		if e.Syscall == "bind" {
			t.Errorf("asked about %+v", e)
		}
	}
}
