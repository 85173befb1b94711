package netfilter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const lostAddr = "10.9.0.2:80" // see newNetwork

// TestBlockingConnect holds one connect up and makes another meanwhile.
func TestBlockingConnect(t *testing.T) {
	n := newNetwork(t)
	quick := n.listen(t, "tcp", "10.1.0.1:0")
	p := policy(t, "10.0.0.0/8", "")
	g := n.start(t, p, "slow connect", guestOptions{args: map[string]any{"Slow": lostAddr, "Quick": quick.addr.String(), "Timeout": 1500}})
	var tid int
	g.hear(&tid)
	g.waitInside(tid, "connect")
	start := time.Now()
	g.say("the other one")
	var r outcome
	if g.hear(&r); r.Errno != 0 {
		t.Errorf("the quick connect: %+v", r)
	}
	if waited := time.Since(start); waited > time.Second {
		t.Errorf("the quick connect waited %v for the slow one", waited)
	}
	if got := quick.next(); got != "quick" {
		t.Errorf("the server got %q", got)
	}
	if g.hear(&r); r.Errno != unix.EINPROGRESS { // what connect says when SO_SNDTIMEO is over
		t.Errorf("the slow connect: %+v", r)
	}
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("SO_SNDTIMEO of 1.5 s was over after %v", waited)
	}
}

// waitInside waits until a thread of the guest is in a call, and a call of the guest's is parked.
func (g *guest) waitInside(tid int, call string) {
	g.t.Helper()
	number := map[string]int{"connect": unix.SYS_CONNECT, "sendmsg": unix.SYS_SENDMSG}[call]
	g.await(fmt.Sprintf("thread %d gets into %s", tid, call), func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
		if err != nil {
			g.t.Fatal(err)
		}
		return strings.HasPrefix(string(text), fmt.Sprint(number)+" ") && g.egress.lot.size() > 0
	})
}

// await waits until something is so.
func (g *guest) await(what string, is func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("not so after a minute: %s", what)
		}
	}
}

// TestManyConnects has many threads of a guest wait for connections that nobody answers, and one connect meanwhile. What waits
// takes no thread of the supervisor's.
func TestManyConnects(t *testing.T) {
	n := newNetwork(t)
	quick := n.listen(t, "tcp", "10.1.0.1:0")
	before := threads(t)
	const count = 500
	args := map[string]any{"Slow": lostAddr, "Quick": quick.addr.String(), "Count": count}
	g := n.start(t, policy(t, "10.0.0.0/8", ""), "many connects", guestOptions{args: args})
	g.await("all calls are parked", func() bool { return g.egress.lot.size() == count })
	if more := threads(t) - before; more > count/10 {
		t.Errorf("%d calls wait on %d threads", count, more)
	}
	g.say("the quick one")
	var r outcome
	if g.hear(&r); r.Errno != 0 || quick.next() != "quick" {
		t.Errorf("the quick connect: %+v", r)
	}
	g.end()
	g.await("the calls of a killed guest are not parked any more", func() bool { return g.egress.lot.size() == 0 })
}

// TestLotIsFull parks one call more than there is room for. The others end with what TCP says when it gives up.
func TestLotIsFull(t *testing.T) {
	n := newNetwork(t)
	// That is after 1 + 2 + 4 seconds instead of 130.
	n.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_syn_retries", []byte("2"), 0) })
	const room = 4
	args := map[string]any{"Slow": lostAddr, "Count": room + 1}
	g := n.start(t, policy(t, "10.0.0.0/8", ""), "many connects", guestOptions{args: args, parked: room})
	g.await("all calls are parked", func() bool { return g.egress.lot.size() == room })
	g.say("no quick one")
	var tally map[string]int
	if g.hear(&tally); tally[unix.ETIMEDOUT.Error()] != room || tally[unix.EAGAIN.Error()] != 1 {
		t.Errorf("the slow connects: %v", tally)
	}
}

// threads counts the threads of the test process.
func threads(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestConnectEnds checks that a parked call does not outlive its guest.
func TestConnectEnds(t *testing.T) {
	n := newNetwork(t)
	g := n.start(t, policy(t, "10.0.0.0/8", ""), "slow connect", guestOptions{args: map[string]any{"Slow": lostAddr}})
	var tid int
	g.hear(&tid)
	g.waitInside(tid, "connect")
	g.end()
	g.await("the call of a killed guest is not parked any more", func() bool { return g.egress.lot.size() == 0 })
}

// TestConnectSignal interrupts blocking connects. The handler runs at once, although nobody answers the guest, and the connect
// goes on, since Go's handlers have SA_RESTART.
func TestConnectSignal(t *testing.T) {
	n := newNetwork(t)
	busy := n.listenBusy(t, "10.1.0.1")
	g := n.start(t, policy(t, "10.0.0.0/8", ""), "slow connect", guestOptions{args: map[string]any{"Slow": busy.addr.String(), "Signal": true}})
	tid := g.interrupt()
	g.waitInside(tid, "connect")
	// Now there is room. The next of TCP's retries, a second or two later, finds it.
	go func() {
		for {
			conn, err := busy.tcp.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	var r outcome
	if g.hear(&r); r.Errno != 0 {
		t.Errorf("the connect after the signal: %+v", r)
	}
}

// TestConnectSignalTimeout: with a time-out on the socket a connect is not begun again after a signal.
func TestConnectSignalTimeout(t *testing.T) {
	n := newNetwork(t)
	g := n.start(t, policy(t, "10.0.0.0/8", ""), "slow connect", guestOptions{args: map[string]any{"Slow": lostAddr, "Signal": true, "Timeout": 25000}})
	g.interrupt()
	var r outcome
	if g.hear(&r); r.Errno != unix.EINTR {
		t.Errorf("%+v", r)
	}
}

// interrupt sends the guest's thread that is in connect a signal and returns once the guest has handled it.
func (g *guest) interrupt() (tid int) {
	g.t.Helper()
	g.hear(&tid)
	g.waitInside(tid, "connect")
	if err := unix.Tgkill(g.cmd.Process.Pid, tid, unix.SIGUSR1); err != nil {
		g.t.Fatal(err)
	}
	var said string
	if g.hear(&said); said != "signalled" {
		g.t.Errorf("the guest says %q", said)
	}
	return tid
}

// listenBusy starts a TCP server that has no room for a connection until its first is accepted.
func (n *network) listenBusy(t testing.TB, addr string) *server {
	t.Helper()
	s := n.listen(t, "tcp", addr+":0")
	n.do(t, func() error {
		raw, err := s.tcp.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }); err != nil {
			return err
		}
		conn, err := net.Dial("tcp", s.addr.String())
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	})
	return s
}

// TestUnixQueue sends more datagrams than a receiver takes before it reads.
func TestUnixQueue(t *testing.T) {
	n := newNetwork(t)
	ours, theirs := socketpair(t)
	const rounds = 400
	g := n.start(t, policy(t, "10.1.0.1", ""), "queue", guestOptions{args: loop{Rounds: rounds}, extra: []*os.File{theirs}})
	g.waitInside(g.cmd.Process.Pid, "sendmsg")
	b := make([]byte, 100)
	for i := range rounds {
		count, err := unix.Read(ours, b)
		if want := fmt.Sprintf("%08d", i); err != nil || string(b[:count]) != want {
			t.Fatalf("datagram %d is %q, %v", i, b[:count], err)
		}
	}
	var r outcome
	if g.hear(&r); r.Errno != 0 {
		t.Errorf("%+v", r)
	}
}

// TestZeroCopy checks that the guest is told of the end of a MSG_ZEROCOPY send, and that the right bytes arrive.
func TestZeroCopy(t *testing.T) {
	n := newNetwork(t)
	server := n.listen(t, "tcp", "10.1.0.1:0")
	g := n.start(t, policy(t, "10.1.0.1", ""), "zero copy", guestOptions{args: loop{To: server.addr.String(), Rounds: 20}})
	got := server.next()
	var r outcome
	if g.hear(&r); r.Errno != 0 || r.N != 20 {
		t.Errorf("%d of 20 notifications, %+v", r.N, r)
	}
	var want strings.Builder
	for i := range 20 {
		want.WriteString(strings.Repeat(string(rune('a'+i)), 30000))
	}
	if got != want.String() {
		t.Errorf("%d bytes arrived, or others", len(got))
	}
}

// TestBigSend sends more with one sendmsg than fits into all buffers on the way.
func TestBigSend(t *testing.T) {
	n := newNetwork(t)
	p := policy(t, "10.1.0.1", "")
	for name, flags := range map[string]int{"blocking": 0, "nonblocking": unix.SOCK_NONBLOCK} {
		t.Run(name, func(t *testing.T) {
			server := n.listen(t, "tcp", "10.1.0.1:0")
			const size = 24 << 20
			g := n.start(t, p, "big send", guestOptions{args: map[string]any{"To": server.addr.String(), "Size": size, "Type": flags}})
			conn, err := server.tcp.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var r outcome
			digest := sha256.New()
			var received int64
			if flags == 0 {
				// Nothing is read until the guest is stuck.
				g.waitInside(g.cmd.Process.Pid, "sendmsg")
			} else {
				g.hear(&r)
			}
			if received, err = io.Copy(digest, conn); err != nil {
				t.Fatal(err)
			}
			if flags == 0 {
				g.hear(&r)
			}
			if r.Errno != 0 || int64(r.N) != received || r.At != hex.EncodeToString(digest.Sum(nil)) {
				t.Errorf("sent %+v, received %d bytes with digest %x", r, received, digest.Sum(nil))
			}
			if flags == 0 && r.N != size {
				t.Errorf("%d of %d bytes were sent", r.N, size)
			}
			if flags != 0 && (r.N == 0 || r.N >= size) {
				t.Errorf("a nonblocking send of %d bytes sent %d", size, r.N)
			}
		})
	}
}

func TestSendOrder(t *testing.T) {
	n := newNetwork(t)
	server := n.listen(t, "tcp", "10.1.0.1:0")
	const rounds = 500
	g := n.start(t, policy(t, "10.1.0.1", ""), "send order", guestOptions{args: loop{server.addr.String(), rounds}})
	got := server.next()
	var r outcome
	if g.hear(&r); r.Errno != 0 {
		t.Fatalf("%+v", r)
	}
	var want strings.Builder
	for i := range rounds {
		fmt.Fprintf(&want, "%08d\n", i)
	}
	if got != want.String() {
		t.Errorf("%d bytes arrived, or in another order", len(got))
	}
}

func TestBrokenPipe(t *testing.T) {
	n := newNetwork(t)
	for flags, signals := range map[int]int{0: 1, unix.MSG_NOSIGNAL: 0} {
		server := n.listen(t, "tcp", "10.1.0.1:0")
		got, _ := run[[]outcome](t, n, policy(t, "10.1.0.1", ""), "broken pipe", guestOptions{args: map[string]any{"To": server.addr.String(), "Flags": flags}})
		if got[0].Errno != unix.EPIPE || got[1].N != signals {
			t.Errorf("flags %#x: %+v, %d signals", flags, got[0], got[1].N)
		}
	}
}

func BenchmarkDeniedConnect(b *testing.B) {
	n := newNetwork(b)
	p := policy(b, "10.1.0.1", "")
	g := n.start(b, p, "denied loop", guestOptions{args: loop{"10.1.0.2:80", b.N}, quiet: true})
	var ready string
	g.hear(&ready)
	b.ReportAllocs()
	b.ResetTimer()
	g.say("go")
	var got []int64
	g.hear(&got)
	b.StopTimer()
	if got[1] != 0 {
		b.Errorf("%d connects were not denied", got[1])
	}
	b.ReportMetric(float64(got[0])/float64(b.N), "ns/connect")
}

// TestDeniedConnectDoesNotAllocate counts what the whole test process allocates while a guest is denied 2000 times.
func TestDeniedConnectDoesNotAllocate(t *testing.T) {
	n := newNetwork(t)
	const rounds = 2000
	g := n.start(t, policy(t, "10.1.0.1", ""), "denied loop", guestOptions{args: loop{"10.1.0.2:80", rounds}, quiet: true})
	var ready string
	g.hear(&ready)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	g.say("go")
	var got []int64
	g.hear(&got)
	runtime.ReadMemStats(&after)
	// Under the race detector a sync.Pool forgets a quarter of what it is given.
	if per := float64(after.Mallocs-before.Mallocs) / rounds; per > 0.5 {
		t.Errorf("%.2f allocations for each denied connect", per)
	}
	if got[1] != 0 {
		t.Errorf("%d connects were not denied", got[1])
	}
}

// BenchmarkConnect has a guest make connections to itself, blocking, under different policies.
func BenchmarkConnect(b *testing.B) {
	for name, p := range map[string]Policy{"untrapped": policy(b, "*", ""), "judged": policy(b, "10.1.0.1", "")} {
		b.Run(name, func(b *testing.B) {
			n := newNetwork(b)
			got, _ := run[[]int64](b, n, p, "connect loop", guestOptions{args: loop{"10.1.0.1:8080", b.N}, quiet: true})
			if got[1] != 0 {
				b.Errorf("%d connects failed", got[1])
			}
			b.ReportMetric(float64(got[0])/float64(b.N), "ns/connect")
		})
	}
}
