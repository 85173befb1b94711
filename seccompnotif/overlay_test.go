package seccompnotif

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

const highBits = uint64(0xdeadbeef) << 32

func TestOverlayAnswers(t *testing.T) {
	o := Overlay{
		Notify:     []string{"connect", "sendto", "ptrace", "open"},
		NotifyWhen: []Notification{{Syscall: "fcntl", When: []Match{{Arg: 1, Op: Equal, Value: unix.F_SETOWN}}}},
		Deny: append(DefaultDenials(),
			Denial{Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []Match{{Arg: 2, Op: Equal, Value: unix.IPPROTO_MPTCP}}},
			Denial{Syscall: "socket", Errno: unix.EACCES, When: []Match{
				{Arg: 0, Op: NotEqual, Value: unix.AF_UNIX}, {Arg: 1, Op: MaskedEqual, Mask: 0xf, Value: unix.SOCK_RAW}}},
			Denial{Syscall: "lseek", Errno: unix.EDOM, When: []Match{{Arg: 1, Op: Equal, Value: 1 << 40, Wide: true}}},
			Denial{Syscall: "pread64", Errno: unix.EDOM, When: []Match{{Arg: 3, Op: NotEqual, Value: 5, Wide: true}}},
			Denial{Syscall: "pwrite64", Errno: unix.EDOM, When: []Match{{Arg: 3, Op: AnyBit, Mask: 1<<50 | 1, Wide: true}}},
			Denial{Syscall: "preadv", Errno: unix.EDOM, When: []Match{{Arg: 3, Op: MaskedEqual, Mask: 0xff << 40, Value: 3 << 40, Wide: true}}},
		),
	}
	program, err := o.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	vm := newVM(t, program)
	for _, test := range []struct {
		call string
		args [6]uint64
		want string
	}{
		{"read", [6]uint64{}, "allow"},
		{"connect", [6]uint64{}, "notify"},
		{"ptrace", [6]uint64{}, "EPERM"}, // a denial beats a notification
		{"mount", [6]uint64{}, "EPERM"},
		{"io_uring_setup", [6]uint64{}, "ENOSYS"},
		{"clone3", [6]uint64{}, "ENOSYS"},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_FILES}, "allow"},
		{"clone", [6]uint64{unix.CLONE_NEWUSER}, "EPERM"},
		{"clone", [6]uint64{highBits | unix.CLONE_NEWNET | uint64(unix.SIGCHLD)}, "EPERM"},
		{"clone", [6]uint64{unix.CLONE_NEWTIME}, "allow"}, // part of the signal number there
		{"unshare", [6]uint64{unix.CLONE_NEWTIME}, "EPERM"},
		{"unshare", [6]uint64{unix.CLONE_FILES}, "allow"},
		{"setns", [6]uint64{}, "EPERM"},
		{"fcntl", [6]uint64{0, unix.F_SETOWN}, "notify"},
		{"fcntl", [6]uint64{0, highBits | unix.F_SETOWN}, "notify"},
		{"fcntl", [6]uint64{0, unix.F_GETFD}, "allow"},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, "EPROTONOSUPPORT"},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, highBits | unix.IPPROTO_MPTCP}, "EPROTONOSUPPORT"},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP}, "EACCES"},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_RAW}, "allow"},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, "allow"},
		{"lseek", [6]uint64{0, 1 << 40}, "EDOM"},
		{"lseek", [6]uint64{0, 1<<40 | 1}, "allow"},
		{"lseek", [6]uint64{0, 0}, "allow"},
		{"pread64", [6]uint64{0, 0, 0, 5}, "allow"},
		{"pread64", [6]uint64{0, 0, 0, 5 | highBits}, "EDOM"},
		{"pread64", [6]uint64{0, 0, 0, 4}, "EDOM"},
		{"pwrite64", [6]uint64{0, 0, 0, 1 << 50}, "EDOM"},
		{"pwrite64", [6]uint64{0, 0, 0, 1}, "EDOM"},
		{"pwrite64", [6]uint64{0, 0, 0, 2}, "allow"},
		{"preadv", [6]uint64{0, 0, 0, 3<<40 | 77}, "EDOM"},
		{"preadv", [6]uint64{0, 0, 0, 7 << 40}, "allow"},
	} {
		d := seccompData{nr: number(t, test.call), arch: nativeAuditArch, args: test.args}
		if got := answer(vm.run(t, d)); got != test.want {
			t.Errorf("%s%x: %s, want %s", test.call, test.args, got, test.want)
		}
	}
	foreign := map[string]seccompData{
		"i386": {nr: number(t, "read"), arch: unix.AUDIT_ARCH_I386},
		"arm":  {nr: number(t, "read"), arch: unix.AUDIT_ARCH_ARM},
	}
	if foreignBit != 0 {
		foreign["x32"] = seccompData{nr: number(t, "read") | foreignBit, arch: nativeAuditArch}
		foreign["x32 of its own"] = seccompData{nr: 512 | foreignBit, arch: nativeAuditArch}
	}
	for name, d := range foreign {
		if got := answer(vm.run(t, d)); got != "ENOSYS" {
			t.Errorf("a call of %s: %s", name, got)
		}
	}
	for _, nr := range []int32{0, 1 << 20, foreignBit - 1} {
		if nr < 0 {
			continue
		}
		if got := answer(vm.run(t, seccompData{nr: nr, arch: nativeAuditArch})); nr > 1000 && got != "allow" {
			t.Errorf("number %d, which nobody has: %s", nr, got)
		}
	}
}

// TestOverlayAgainstModel compares filters of random overlays, long jumps included, with what the overlay says.
func TestOverlayAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		var o Overlay
		for _, s := range syscallNames {
			switch random.IntN(4) {
			case 0:
				o.Notify = append(o.Notify, s.name)
			case 1:
				o.Deny = append(o.Deny, Denial{Syscall: s.name, Errno: unix.Errno(1 + random.IntN(100))})
			case 2:
				for range random.IntN(3) {
					when := []Match{}
					for range 1 + random.IntN(4) {
						when = append(when, randomMatch(random))
					}
					if random.IntN(2) == 0 {
						o.NotifyWhen = append(o.NotifyWhen, Notification{Syscall: s.name, When: when})
					} else {
						o.Deny = append(o.Deny, Denial{Syscall: s.name, Errno: unix.EPERM, When: when})
					}
				}
			}
		}
		program, err := o.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		of, err := o.verdicts()
		if err != nil {
			t.Fatal(err)
		}
		vm := newVM(t, program)
		for range 3000 {
			d := seccompData{nr: int32(random.IntN(600)), arch: nativeAuditArch}
			for i := range d.args {
				d.args[i] = uint64(random.IntN(8)) | uint64(random.IntN(3))<<32
			}
			want := uint32(retAllow)
			if v := of[int(d.nr)]; v != nil {
				want = v.final
				for _, r := range v.rules {
					if holds(r.when, d) {
						want = r.ret
						break
					}
				}
			}
			if got := vm.run(t, d); got != want {
				t.Fatalf("%s %x: %s, want %s\n%v", syscallLabel(int(d.nr)), d.args, answer(got), answer(want), of[int(d.nr)])
			}
		}
	}
}

func randomMatch(r *rand.Rand) Match {
	m := Match{Arg: r.IntN(6), Wide: r.IntN(2) == 0, Op: []Op{Equal, NotEqual, MaskedEqual, AnyBit}[r.IntN(4)]}
	m.Value, m.Mask = uint64(r.IntN(8)), uint64(1+r.IntN(7))
	if m.Wide {
		m.Value |= uint64(r.IntN(3)) << 32
		m.Mask |= uint64(r.IntN(3)) << 32
	}
	if m.Op == MaskedEqual {
		m.Value &= m.Mask
	}
	return m
}

// holds is the meaning of conditions, written without regard to BPF.
func holds(when []Match, d seccompData) bool {
	for _, m := range when {
		arg := d.args[m.Arg]
		if !m.Wide {
			arg = uint64(uint32(arg))
		}
		ok := false
		switch m.Op {
		case Equal:
			ok = arg == m.Value
		case NotEqual:
			ok = arg != m.Value
		case MaskedEqual:
			ok = arg&m.Mask == m.Value
		case AnyBit:
			ok = arg&m.Mask != 0
		}
		if !ok {
			return false
		}
	}
	return true
}

// TestOverlayInTheKernel has the kernel enforce what the interpreter was asked.
func TestOverlayInTheKernel(t *testing.T) {
	o := Overlay{Notify: []string{"getppid"}, Deny: append(DefaultDenials(),
		Denial{Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []Match{{Arg: 2, Op: Equal, Value: unix.IPPROTO_MPTCP}}})}
	v := startVictim(t, o)
	supervise(t, v, handle(callA, func(*Call) Action { return Return(1) }))
	expect(t, v.syscall(callA), 1, 0)
	// Each of these would do something else without the filter, as root or not.
	expect(t, v.syscall(unix.SYS_IO_URING_SETUP, 1, 0), 0, unix.ENOSYS)
	expect(t, v.syscall(unix.SYS_CLONE3, 0, 0), 0, unix.ENOSYS)
	expect(t, v.syscall(unix.SYS_UMOUNT2, 0, 0), 0, unix.EPERM)
	expect(t, v.Do(order{NR: unix.SYS_UNSHARE, Args: [6]uint64{unix.CLONE_NEWUTS}, Thread: true}), 0, unix.EPERM)
	expect(t, v.Do(order{NR: unix.SYS_UNSHARE, Args: [6]uint64{unix.CLONE_FILES}, Thread: true}), 0, 0)
	expect(t, v.syscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), 0, unix.EPROTONOSUPPORT)
	if r := v.syscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP); r.Errno != 0 {
		t.Errorf("a TCP socket: %v", r.Errno)
	}
	if foreignBit != 0 {
		expect(t, v.syscall(uintptr(foreignBit|unix.SYS_GETPID)), 0, unix.ENOSYS)
	}
	expect(t, v.syscall(unix.SYS_GETPID), int64(v.Cmd.Process.Pid), 0)
}

func TestOverlayGolden(t *testing.T) {
	o := Overlay{
		Notify:     []string{"connect", "sendto", "sendmsg", "sendmmsg"},
		NotifyWhen: []Notification{{Syscall: "fcntl", When: []Match{{Arg: 1, Op: Equal, Value: unix.F_SETOWN}}}},
		Deny: append(DefaultDenials(),
			Denial{Syscall: "socket", Errno: unix.EPROTONOSUPPORT, When: []Match{{Arg: 2, Op: Equal, Value: unix.IPPROTO_MPTCP}}},
			Denial{Syscall: "socket", Errno: unix.EACCES, When: []Match{
				{Arg: 0, Op: NotEqual, Value: unix.AF_UNIX}, {Arg: 1, Op: MaskedEqual, Mask: 0xf, Value: unix.SOCK_RAW}}},
		),
	}
	golden(t, "overlay.txt", o.String())
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "overlay.json", string(b)+"\n")
	var again Overlay
	if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(again, o) {
		t.Errorf("read back: %v\n%s", err, again)
	}
	if err := json.Unmarshal([]byte(`{"deny":[{"syscall":"mount","errno":"ENO"}]}`), &again); err == nil || err.Error() != `denial of mount: unknown errno "ENO"` {
		t.Errorf("an errno that does not exist: %v", err)
	}
}

func TestOverlayErrors(t *testing.T) {
	for want, o := range map[string]Overlay{
		`overlay: notify: unknown system call "conect": did you mean "connect"?`:                              {Notify: []string{"conect"}},
		`overlay: deny: unknown system call "@mounts": did you mean "@mount"?`:                                {Deny: []Denial{{Syscall: "@mounts", Errno: unix.EPERM}}},
		`overlay: deny: mount: errno 0 is not in 1 to 4095`:                                                   {Deny: []Denial{{Syscall: "mount"}}},
		`overlay: deny: mount: errno 4096 is not in 1 to 4095`:                                                {Deny: []Denial{{Syscall: "mount", Errno: 4096}}},
		`overlay: notify: read: argument 6 is not in 0 to 5`:                                                  {NotifyWhen: []Notification{{"read", []Match{{Arg: 6, Op: Equal}}}}},
		`overlay: notify: read: unknown comparison "="`:                                                       {NotifyWhen: []Notification{{"read", []Match{{Op: "="}}}}},
		`overlay: notify: read: the condition on argument 0 can never hold: its mask is empty`:                {NotifyWhen: []Notification{{"read", []Match{{Op: AnyBit}}}}},
		`overlay: notify: read: the condition on argument 0 can never hold: 0x3 has bits outside of mask 0x1`: {NotifyWhen: []Notification{{"read", []Match{{Op: MaskedEqual, Value: 3, Mask: 1}}}}},
		`overlay: notify: read: a condition on argument 0 has more than 32 bits and is not wide`:              {NotifyWhen: []Notification{{"read", []Match{{Op: Equal, Value: 1 << 32}}}}},
		`overlay: notify: read: 13 conditions in one rule are too many`:                                       {NotifyWhen: []Notification{{"read", make([]Match, 13)}}},
	} {
		if _, err := o.Assemble(); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func TestNeedsListener(t *testing.T) {
	if (Overlay{Deny: DefaultDenials()}).NeedsListener() {
		t.Error("an overlay that notifies nothing needs a listener")
	}
	if !(Overlay{NotifyWhen: []Notification{{Syscall: "socket", When: []Match{{Op: Equal}}}}}).NeedsListener() {
		t.Error("an overlay that notifies needs no listener")
	}
}

func BenchmarkOverlay(b *testing.B) {
	o := Overlay{Notify: []string{"connect", "sendto", "sendmsg", "sendmmsg"}, Deny: DefaultDenials()}
	for b.Loop() {
		if _, err := o.Assemble(); err != nil || !o.NeedsListener() {
			b.Fatal(err)
		}
	}
}
