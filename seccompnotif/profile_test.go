//go:build cgo

package seccompnotif

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func ptr[T any](v T) *T { return &v }

// likeDocker has the features that Docker's default profile uses: refusal by default, several architectures, rules with
// conditions, several rules for one call, errnos.
func likeDocker() *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{nativeArchitecture},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write", "futex", "getppid", "mmap", "exit", "exit_group", "not_yet_invented"}, Action: specs.ActAllow},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 8, Op: specs.OpEqualTo}}},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0x20000, Op: specs.OpEqualTo}}},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: newNamespaces, Op: specs.OpMaskedEqual}}},
			{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.ENOSYS))},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: unix.AF_VSOCK, Op: specs.OpNotEqual}}},
			{Names: []string{"lseek"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 1, Value: 5, Op: specs.OpEqualTo}, {Index: 2, Value: 6, Op: specs.OpEqualTo}}},
			{Names: []string{"fcntl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 1, Value: 1, Op: specs.OpEqualTo}, {Index: 1, Value: 2, Op: specs.OpEqualTo}}},
			{Names: []string{"ptrace"}, Action: specs.ActErrno}, // says what the default says
		},
	}
	for _, s := range syscallNames { // enough for libseccomp's binary search
		if strings.HasPrefix(s.name, "get") || strings.HasPrefix(s.name, "sched") {
			p.Syscalls[0].Names = append(p.Syscalls[0].Names, s.name)
		}
	}
	if nativeArchitecture == specs.ArchX86_64 {
		p.Architectures = append(p.Architectures, specs.ArchX86, specs.ArchX32)
	}
	return p
}

func compiled(t testing.TB, c ProfileCache, p *specs.LinuxSeccomp) *Filter {
	t.Helper()
	f, err := c.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestProfileAnswers(t *testing.T) {
	vm := newVM(t, compiled(t, ProfileCache{}, likeDocker()).Program)
	check := func(name string, d seccompData, want string) {
		t.Helper()
		if got := answer(vm.run(t, d)); got != want {
			t.Errorf("%s %x: %s, want %s", name, d.args, got, want)
		}
	}
	for _, test := range []struct {
		call string
		args [6]uint64
		want string
	}{
		{"read", [6]uint64{}, "allow"},
		{"mount", [6]uint64{}, "EPERM"},
		{"ptrace", [6]uint64{}, "EPERM"},
		{"personality", [6]uint64{8}, "allow"},
		{"personality", [6]uint64{0x20000}, "allow"},
		{"personality", [6]uint64{9}, "EPERM"},
		{"clone", [6]uint64{unix.CLONE_VM}, "allow"}, // the value is the mask, and valueTwo, here zero, what is to be left
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_NEWUSER}, "EPERM"},
		{"clone3", [6]uint64{}, "ENOSYS"},
		{"socket", [6]uint64{unix.AF_INET}, "allow"},
		{"socket", [6]uint64{unix.AF_VSOCK}, "EPERM"},
		{"lseek", [6]uint64{0, 5, 6}, "allow"},
		{"lseek", [6]uint64{0, 5, 7}, "EPERM"},
		{"fcntl", [6]uint64{0, 1}, "allow"},
		{"fcntl", [6]uint64{0, 2}, "allow"},
		{"fcntl", [6]uint64{0, 3}, "EPERM"},
	} {
		check(test.call, seccompData{nr: number(t, test.call), arch: nativeAuditArch, args: test.args}, test.want)
	}
	// The newest that the profile names is clone3; what came later did not exist for its author.
	check("clone3 and one", seccompData{nr: number(t, "clone3") + 1, arch: nativeAuditArch}, "ENOSYS")
	check("the newest", seccompData{nr: number(t, "open_tree_attr"), arch: nativeAuditArch}, "ENOSYS")
	if nativeArchitecture == specs.ArchX86_64 {
		const i386Read, i386Late = 3, 460 // of <asm/unistd_32.h>, which unix does not have on amd64
		check("i386 read", seccompData{nr: i386Read, arch: unix.AUDIT_ARCH_I386}, "allow")
		check("i386 late", seccompData{nr: i386Late, arch: unix.AUDIT_ARCH_I386}, "ENOSYS")
		check("x32 read", seccompData{nr: foreignBit | number(t, "read"), arch: nativeAuditArch}, "allow")
		check("x32 late", seccompData{nr: foreignBit | 600, arch: nativeAuditArch}, "ENOSYS")
	}
	if got := vm.run(t, seccompData{nr: 1, arch: unix.AUDIT_ARCH_S390X}); got != unix.SECCOMP_RET_KILL_THREAD && got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("an architecture that the profile does not name: %#x", got)
	}
}

// TestProfileComparisons has a rule with each comparison, on both sides of its edge.
func TestProfileComparisons(t *testing.T) {
	const edge = 1<<33 + 5                                          // both halves of the register count
	for op, allows := range map[specs.LinuxSeccompOperator][3]bool{ // below, at and above the edge
		specs.OpLessThan: {true, false, false}, specs.OpLessEqual: {true, true, false}, specs.OpEqualTo: {false, true, false},
		specs.OpGreaterEqual: {false, true, true}, specs.OpGreaterThan: {false, false, true}, specs.OpNotEqual: {true, false, true},
	} {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"lseek"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 1, Value: edge, Op: op}}},
		}}
		vm := newVM(t, compiled(t, ProfileCache{}, p).Program)
		for i, want := range allows {
			args := [6]uint64{0, edge - 1 + uint64(i)}
			if got := answer(vm.run(t, seccompData{nr: number(t, "lseek"), arch: nativeAuditArch, args: args})); (got == "allow") != want {
				t.Errorf("%s %d of %d: %s", op, args[1], edge, got)
			}
		}
	}
}

func TestENOSYSOnlyWhereTheDefaultRefuses(t *testing.T) {
	late := seccompData{nr: 4000, arch: nativeAuditArch}
	rule := []specs.LinuxSyscall{{Names: []string{"getppid"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EACCES))}}
	for _, test := range []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   uint32
	}{
		{specs.ActAllow, nil, unix.SECCOMP_RET_ALLOW},
		{specs.ActLog, nil, unix.SECCOMP_RET_LOG},
		{specs.ActTrace, ptr(uint(7)), unix.SECCOMP_RET_TRACE | 7},
		{specs.ActErrno, nil, retErrno(unix.ENOSYS)},
		{specs.ActErrno, ptr(uint(unix.ENOSYS)), retErrno(unix.ENOSYS)},
		{specs.ActKill, nil, retErrno(unix.ENOSYS)},
		{specs.ActKillProcess, nil, retErrno(unix.ENOSYS)},
		{specs.ActTrap, nil, retErrno(unix.ENOSYS)},
	} {
		p := &specs.LinuxSeccomp{DefaultAction: test.action, DefaultErrnoRet: test.errno, Syscalls: rule}
		vm := newVM(t, compiled(t, ProfileCache{}, p).Program)
		if got := vm.run(t, late); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.action, got, test.want)
		}
		if got := answer(vm.run(t, seccompData{nr: number(t, "getppid"), arch: nativeAuditArch})); got != "EACCES" {
			t.Errorf("%s: the rule says %s", test.action, got)
		}
	}
}

// TestProfileInTheKernel installs a profile that notifies, beside nothing else, in a victim.
func TestProfileInTheKernel(t *testing.T) {
	f := compiled(t, ProfileCache{}, &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Flags:         []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"getppid"}, Action: specs.ActNotify},
			{Names: []string{"getpriority"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EXDEV))},
		},
	})
	if f.Flags != unix.SECCOMP_FILTER_FLAG_LOG|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER {
		t.Errorf("flags %#x", f.Flags)
	}
	v := startVictimUnder(t, f.Program, uintptr(f.Flags))
	supervise(t, v, handle(callA, func(*Call) Action { return Return(12) }))
	expect(t, v.syscall(callA), 12, 0)
	expect(t, v.syscall(callB), 0, unix.EXDEV)
	expect(t, v.syscall(callC, 0, 0, 0), 0, 0)
}

func TestNoProfile(t *testing.T) {
	for _, p := range []*specs.LinuxSeccomp{nil, {}, {Architectures: []specs.Arch{specs.ArchX86}}} {
		if f, err := (ProfileCache{}).Compile(p); f != nil || err != nil {
			t.Errorf("%+v: %v, %v", p, f, err)
		}
	}
}

func TestProfileFlags(t *testing.T) {
	base := []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}}
	notify := []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActNotify}}
	for name, test := range map[string]struct {
		flags    []specs.LinuxSeccompFlag
		syscalls []specs.LinuxSyscall
		want     uint
	}{
		"none given": {nil, base, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		"none":       {[]specs.LinuxSeccompFlag{}, base, 0},
		"tsync":      {[]specs.LinuxSeccompFlag{flagTSync}, base, 0},
		"two":        {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}, base, unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		"killable":   {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}, notify, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
	} {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Flags: test.flags, Syscalls: test.syscalls}
		if got := compiled(t, ProfileCache{}, p).Flags; got != test.want {
			t.Errorf("%s: flags %#x, want %#x", name, got, test.want)
		}
	}
}

func TestKnownActions(t *testing.T) {
	if list := KnownActions(); !slices.IsSorted(list) || len(list) != len(profileActions) {
		t.Errorf("%v", list)
	}
}

func TestProfileErrors(t *testing.T) {
	rule := func(change func(*specs.LinuxSyscall)) *specs.LinuxSeccomp {
		s := specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow}
		change(&s)
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"close"}, Action: specs.ActAllow}, s}}
	}
	for want, p := range map[string]*specs.LinuxSeccomp{
		`linux.seccomp.defaultAction: unknown action ""`:                                                              {Syscalls: []specs.LinuxSyscall{{}}},
		`linux.seccomp.defaultAction: unknown action "SCMP_ACT_NO"`:                                                   {DefaultAction: "SCMP_ACT_NO"},
		`linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action`:                                   {DefaultAction: specs.ActNotify},
		`linux.seccomp.defaultErrnoRet: 65536 is not in 0 to 65535`:                                                   {DefaultAction: specs.ActErrno, DefaultErrnoRet: ptr(uint(65536))},
		`linux.seccomp.architectures[1]: unknown architecture "SCMP_ARCH_VAX"`:                                        {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{nativeArchitecture, "SCMP_ARCH_VAX"}},
		`linux.seccomp.flags[0]: unknown flag "SECCOMP_FILTER_FLAG_X"`:                                                {DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}},
		`linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with the action SCMP_ACT_NOTIFY`: {DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}},
		`linux.seccomp.syscalls[1].action: unknown action "allow"`:                                                    rule(func(s *specs.LinuxSyscall) { s.Action = "allow" }),
		`linux.seccomp.syscalls[1].names[1]: empty name`:                                                              rule(func(s *specs.LinuxSyscall) { s.Names = []string{"read", ""} }),
		`linux.seccomp.syscalls[1].names[0]: SCMP_ACT_NOTIFY cannot be used for write`:                                rule(func(s *specs.LinuxSyscall) { s.Names, s.Action = []string{"write"}, specs.ActNotify }),
		`linux.seccomp.syscalls[1].errnoRet: 70000 is not in 0 to 65535`:                                              rule(func(s *specs.LinuxSyscall) { s.ErrnoRet = ptr(uint(70000)) }),
		`linux.seccomp.syscalls[1].args[0].index: 6 is not in 0 to 5`:                                                 rule(func(s *specs.LinuxSyscall) { s.Args = []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}} }),
		`linux.seccomp.syscalls[1].args[0].op: unknown comparison "=="`:                                               rule(func(s *specs.LinuxSyscall) { s.Args = []specs.LinuxSeccompArg{{Op: "=="}} }),
	} {
		_, err := ProfileCache{Dir: t.TempDir()}.Compile(p)
		var profile *ProfileError
		if err == nil || err.Error() != want || !errors.As(err, &profile) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func FuzzProfile(f *testing.F) {
	seed, err := json.Marshal(likeDocker())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY","args":[{"index":1,"value":1,"op":"SCMP_CMP_LT"}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(b, &p) != nil {
			return
		}
		filter, err := ProfileCache{}.Compile(&p)
		if err == nil && filter != nil {
			newVM(t, filter.Program)
		}
	})
}

func BenchmarkProfile(b *testing.B) {
	p := likeDocker()
	if path := os.Getenv("SECCOMP_PROFILE"); path != "" { // such as Docker's own
		content, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		p = &specs.LinuxSeccomp{}
		if err := json.Unmarshal(content, p); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("compiled", func(b *testing.B) {
		for b.Loop() {
			compiled(b, ProfileCache{}, p)
		}
	})
	b.Run("cached", func(b *testing.B) {
		c := ProfileCache{Dir: filepath.Join(b.TempDir(), "cache")}
		compiled(b, c, p)
		for b.Loop() {
			compiled(b, c, p)
		}
	})
}
