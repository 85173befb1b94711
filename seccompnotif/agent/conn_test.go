package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/testguest"
)

var errAudit = errors.New("audit")

func TestHello(t *testing.T) {
	all := 0
	for range seccompnotif.EventCalls() {
		all++
	}
	for hello, want := range map[string]string{
		`{"type":"hello","version":1}`: "",
		`{"type":"hello","version":1,"categories":["network"],"syscalls":["execve"],"argv":false}`: "",
		`{"type":"hello","version":2,"later":true}`:                                                "the agent speaks version 2 of the protocol, this is version 1",
		`{"type":"hello"}`:                                      "version 0",
		`{"type":"verdict","version":1}`:                        `begins with "verdict"`,
		`{"type":"hello","version":1,"categories":["netwrok"]}`: `no category "netwrok"`,
		`{"type":"hello","version":1,"syscalls":["getppid"]}`:   `"getppid" makes no events`,
		`{"type":"hello","version":1,"category":"network"}`:     `unknown field "category"`,
		`{"type":"hello","version":1} {}`:                       "invalid character",
		`garbage`:                                               "invalid character",
		"":                                                      "unexpected end",
		`{"type":"hello","version":1,"syscalls":["` + strings.Repeat("x", MaxLine) + `"]}`:       "a line of more than",
		`{"type":"hello","version":1,"categories":[],"syscalls":[]}`:                             "",
		`{"type":"hello","version":1,"categories":["file","network","process","memory","file"]}`: "",
	} {
		c, _, err := dial(t, hello+"\n")
		switch {
		case want == "" && err != nil:
			t.Errorf("%.80s: %v", hello, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%.80s: %v", hello, err)
		case err == nil && strings.Contains(hello, "execve") && (len(c.Syscalls()) == all || !slices.Contains(c.Syscalls(), "execveat") || c.Argv()):
			t.Errorf("%.80s wants %q, argv %v", hello, c.Syscalls(), c.Argv())
		case err == nil && strings.Contains(hello, "[]") && len(c.Syscalls()) != 0:
			t.Errorf("%.80s wants %q", hello, c.Syscalls())
		case err == nil && (strings.Contains(hello, "memory") || len(hello) < len(goodHello)) && len(c.Syscalls()) != all:
			t.Errorf("%.80s wants %q", hello, c.Syscalls())
		}
	}
}

func TestDialErrors(t *testing.T) {
	l, path := listen(t)
	if _, err := Dial(Config{Path: path, Trust: func(*net.UnixConn) error { return errors.New("nobody") }}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("an agent that is not trusted: %v", err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(Config{Path: path}); err == nil || err.Error() != path+": connect: connection refused" {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := Dial(Config{Path: path + "x"}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no socket: %v", err)
	}
	file := path + ".file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(Config{Path: file}); err == nil {
		t.Error("a file is no agent")
	}
	deep := filepath.Dir(path) + "/" + strings.Repeat("d", 150)
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, deep+"/s"); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(Config{Path: deep + "/s"}); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a long path: %v", err)
	}
}

func TestVerdicts(t *testing.T) {
	c, a, ended := talk(t, nil)
	for id, row := range []struct {
		answer string
		want   error
	}{
		{`"allow"`, nil},
		{`"deny"`, unix.EPERM},
		{`"deny","errno":"ENOENT"`, unix.ENOENT},
		{`"audit"`, errAudit},
	} {
		result := judged(c, t.Context(), seccompnotif.Event{ID: uint64(id), Syscall: "connect"})
		if m := a.hear(); m["type"] != "event" || m["id"] != float64(id) || m["syscall"] != "connect" {
			t.Errorf("event %v", m)
		}
		a.say(`{"type":"verdict","id":%d,"verdict":%s}`, id, row.answer)
		if err := <-result; !errors.Is(err, row.want) || row.want == nil && err != nil {
			t.Errorf("%s: %v", row.answer, err)
		}
	}
	select {
	case err := <-ended:
		t.Error(err)
	default:
	}
}

func TestVerdictsInAnyOrder(t *testing.T) {
	c, a, _ := talk(t, nil)
	first, second := judged(c, t.Context(), seccompnotif.Event{ID: 1}), judged(c, t.Context(), seccompnotif.Event{ID: 2})
	a.hear()
	a.hear()
	a.say(`{"type":"verdict","id":2,"verdict":"deny"}`)
	if err := <-second; !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
	a.say(`{"type":"verdict","id":1,"verdict":"allow"}`)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestFailsClosed: after what is not understood, and after the end, everything is denied that waits or that comes later.
func TestFailsClosed(t *testing.T) {
	for name, line := range map[string]string{
		"garbage":               "no json",
		"an unknown id":         `{"type":"verdict","id":99,"verdict":"allow"}`,
		"an unknown verdict":    `{"type":"verdict","id":1,"verdict":"perhaps"}`,
		"an unknown errno":      `{"type":"verdict","id":1,"verdict":"deny","errno":"ENOSUCH"}`,
		"allow with an errno":   `{"type":"verdict","id":1,"verdict":"allow","errno":"EPERM"}`,
		"an unknown member":     `{"type":"verdict","id":1,"verdict":"allow","reason":"x"}`,
		"an unknown type":       `{"type":"hello","version":1}`,
		"no type":               `{}`,
		"a wrong change":        `{"type":"change","id":1,"op":"restrict"}`,
		"two values":            `{"type":"verdict","id":1,"verdict":"allow"}{"type":"verdict","id":1,"verdict":"allow"}`,
		"a line without end":    strings.Repeat("x", MaxLine+1),
		"the same change wrong": `{"type":"change","id":1,"op":"lift","memory":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, a, ended := talk(t, nil)
			held := judged(c, t.Context(), seccompnotif.Event{ID: 1})
			a.hear()
			a.say("%s", line)
			if err := <-held; !errors.Is(err, ErrGone) {
				t.Errorf("held: %v", err)
			}
			if err := <-ended; err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("ended: %v", err)
			}
			if _, err := c.Judge(t.Context(), seccompnotif.Event{ID: 2}); !errors.Is(err, ErrGone) {
				t.Errorf("later: %v", err)
			}
			c.Report(seccompnotif.Event{ID: 3}) // does not block
			a.ended()
		})
	}
	t.Run("disconnect", func(t *testing.T) {
		c, a, ended := talk(t, nil)
		held := judged(c, t.Context(), seccompnotif.Event{ID: 1})
		a.hear()
		a.conn.Close()
		if err := <-held; !errors.Is(err, ErrGone) {
			t.Errorf("held: %v", err)
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("ended: %v", err)
		}
	})
	t.Run("a second verdict", func(t *testing.T) {
		c, a, ended := talk(t, nil)
		held := judged(c, t.Context(), seccompnotif.Event{ID: 1})
		a.hear()
		a.say(`{"type":"verdict","id":1,"verdict":"allow"}`)
		if err := <-held; err != nil {
			t.Error(err)
		}
		a.say(`{"type":"verdict","id":1,"verdict":"allow"}`)
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "verdict for 1") {
			t.Errorf("ended: %v", err)
		}
		if _, err := c.Judge(t.Context(), seccompnotif.Event{ID: 2}); !errors.Is(err, ErrGone) {
			t.Errorf("later: %v", err)
		}
	})
	t.Run("our own end", func(t *testing.T) {
		c, a, ended := talk(t, nil)
		c.Close()
		a.ended()
		if _, err := c.Judge(t.Context(), seccompnotif.Event{ID: 2}); !errors.Is(err, ErrGone) {
			t.Errorf("later: %v", err)
		}
		select {
		case err := <-ended:
			t.Error(err)
		default:
		}
	})
}

// TestLateVerdict: a verdict that comes when nobody waits any more is no offence.
func TestLateVerdict(t *testing.T) {
	c, a, ended := talk(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	held := judged(c, ctx, seccompnotif.Event{ID: 1})
	a.hear()
	cancel()
	if err := <-held; err == nil {
		t.Error("allowed without a verdict")
	}
	a.say(`{"type":"verdict","id":1,"verdict":"allow"}`)
	next := judged(c, t.Context(), seccompnotif.Event{ID: 2})
	a.hear()
	a.say(`{"type":"verdict","id":2,"verdict":"allow"}`)
	if err := <-next; err != nil {
		t.Error(err)
	}
	a.say(`{"type":"verdict","id":1,"verdict":"allow"}`) // once was enough
	if err := <-ended; err == nil {
		t.Error("a second late verdict")
	}
}

func TestExpiredIDsAreBounded(t *testing.T) {
	c := &Conn{pending: map[uint64]chan seccompnotif.Verdict{}, expired: map[uint64]struct{}{}}
	for id := range uint64(3 * maxExpired) {
		c.pending[id] = nil
		c.forget(id, true)
	}
	if len(c.expired) != maxExpired || len(c.order) != maxExpired || cap(c.order) > 2*maxExpired || len(c.pending) != 0 {
		t.Errorf("%d expired, %d in order (%d), %d pending", len(c.expired), len(c.order), cap(c.order), len(c.pending))
	}
}

func TestAgentThatDoesNotRead(t *testing.T) {
	c, _, _ := talk(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	big := seccompnotif.Event{Details: seccompnotif.Details{Argv: &seccompnotif.Argv{Args: []string{strings.Repeat("x", 1<<20)}}}}
	first := judged(c, ctx, big) // more than a socket takes
	testguest.Await(t, "the first event in the socket", func() bool { return c.unread() > 0 })
	second := judged(c, ctx, seccompnotif.Event{ID: 2})
	cancel()
	for _, result := range []chan error{first, second} {
		if err := <-result; err == nil {
			t.Error("allowed without a verdict")
		}
	}
}

// unread is how many bytes the agent has not read yet.
func (c *Conn) unread() (n int) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}

func TestEncodeEvent(t *testing.T) {
	e := seccompnotif.Event{
		ID: 9, Time: time.Unix(1700000000, 5).In(time.FixedZone("", 3600)), Syscall: "execve", Category: seccompnotif.Proc, Held: true,
		PID: 100, Thread: 101, ParentPID: 99, StartTime: 777, GuestPID: 2, GuestParentPID: 1, Dropped: 4,
		Details: seccompnotif.Details{
			Denied: true, Protocol: "tcp", Addr: netip.MustParseAddrPort("[::1]:0"), Size: 8, Flags: 1,
			Argv: &seccompnotif.Argv{Args: []string{"sh", "\xff\n"}, Total: 3, Cut: true},
		},
	}
	line, err := encodeEvent(e)
	want := `{"type":"event","id":9,"time":"2023-11-14T22:13:20.000000005Z","syscall":"execve","category":"process","held":true,"denied":true,` +
		`"pid":100,"thread":101,"ppid":99,"start_time":777,"guest_pid":2,"guest_ppid":1,"protocol":"tcp","addr":"::1","port":0,"size":8,"flags":1,` +
		`"argv":["sh","` + `\ufffd\n"],"argv_raw":["c2g=","/wo="],"argv_total":3,"argv_cut":true,"dropped":4}` + "\n"
	if err != nil || string(line) != want {
		t.Errorf("got %s, %v\nwant %s", line, err, want)
	}
}

func FuzzLine(f *testing.F) {
	for _, line := range []string{
		goodHello, `{"type":"verdict","id":1,"verdict":"deny","errno":"EACCES"}`, `{"type":"hello","version":1,"categories":["file"],"syscalls":["bind"]}`,
		`{"type":"change","id":7,"op":"restrict","network":{"allow":[],"deny":["10.0.0.1"]},"pid":12,"start_time":3}`, `{"type":`, "null", "[]",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		kind, err := typeOf(line)
		if err != nil {
			return
		}
		if hello, err := parseHello(line); err == nil {
			names, _ := hello.wanted()
			for _, name := range names {
				if _, ok := seccompnotif.FindEventCall(name); !ok || kind != typeHello {
					t.Errorf("%q is wanted by %s", name, line)
				}
			}
		}
		var v verdict
		if decode(line, &v) == nil {
			if parsed, err := v.parse(); err == nil && parsed.Decision == seccompnotif.Deny && unix.ErrnoName(parsed.Errno) == "" {
				t.Errorf("errno %d of %s", parsed.Errno, line)
			}
		}
		var c Change
		if decode(line, &c) == nil && c.check() == nil {
			again, err := encode(c)
			var back Change
			if err != nil || decode(again, &back) != nil || back.check() != nil && c.Network == nil {
				t.Errorf("%s becomes %s, %v", line, again, err)
			}
		}
	})
}

// BenchmarkJudge asks an agent that allows everything at once.
func BenchmarkJudge(b *testing.B) {
	c, a, _ := talk(b, nil)
	go func() {
		for a.in.Scan() {
			var e event
			if err := json.Unmarshal(a.in.Bytes(), &e); err != nil {
				b.Error(err)
			}
			a.say(`{"type":"verdict","id":%d,"verdict":"allow"}`, e.ID)
		}
	}()
	var id uint64
	for b.Loop() {
		id++
		if _, err := c.Judge(b.Context(), seccompnotif.Event{ID: id, Syscall: "connect", Details: seccompnotif.Details{Addr: netip.MustParseAddrPort("10.0.0.1:443")}}); err != nil {
			b.Fatal(err)
		}
	}
}
