package seccompnotif

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChainOrder(t *testing.T) {
	v := startVictim(t, notified)
	var order []string
	note := func(name string, a Action) Handler {
		return HandlerFunc(func(*Call) Action { order = append(order, name); return a })
	}
	table, err := NewTable().
		HandleUser(callA, note("user", Return(7))).
		Handle(callA, note("first", Continue())).
		Handle(callA, note("second", Continue())).
		Handle(callB, note("denies", Errno(unix.EPERM))).
		HandleUser(callB, note("never", Continue())).
		Under(notified).Build()
	if err != nil {
		t.Fatal(err)
	}
	if nrs := table.Syscalls(); !slices.Equal(nrs, slices.Sorted(slices.Values([]int{callA, callB}))) {
		t.Errorf("the table is for the calls %v", nrs)
	}
	s, err := New(Config{Table: table, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	attach(t, s, v)
	expect(t, v.syscall(callA), 7, 0)
	expect(t, v.syscall(callB), 0, unix.EPERM)
	v.End()
	s.Wait() // the loop is done, so order may be read
	if got := strings.Join(order, " "); got != "first second user denies" {
		t.Errorf("handlers ran in the order %q", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestTableErrors(t *testing.T) {
	h := HandlerFunc(func(*Call) Action { return Continue() })
	o := Overlay{
		Notify:     []string{"connect"},
		NotifyWhen: []Notification{{Syscall: "socket", When: []Match{{Arg: 0, Op: Equal, Value: unix.AF_INET}}}},
		Deny: []Denial{
			{Syscall: "bpf", Errno: unix.EPERM},
			{Syscall: "socket", Errno: unix.EPERM, When: []Match{{Arg: 0, Op: Equal, Value: unix.AF_PACKET}}},
		},
	}
	if _, err := NewTable().Handle(unix.SYS_CONNECT, h).HandleUser(unix.SYS_SOCKET, h).Under(o).Build(); err != nil {
		t.Errorf("good table: %v", err)
	}
	for want, b := range map[string]*TableBuilder{
		"handler for bpf would never run: the overlay denies the call outright (EPERM)": NewTable().HandleUser(unix.SYS_BPF, h),
		"handler for sendto would never run: the overlay does not notify the call":      NewTable().Handle(unix.SYS_SENDTO, h),
		"handler for connect is nil":                 NewTable().Handle(unix.SYS_CONNECT, nil),
		"handler for system call -1: no such number": NewTable().Handle(-1, h),
	} {
		if _, err := b.Under(o).Build(); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}
