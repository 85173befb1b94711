package seccompnotif

import (
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is a compiled OCI seccomp profile, ready for seccomp(SECCOMP_SET_MODE_FILTER).
type Filter struct {
	Program []unix.SockFilter
	Flags   uint // SECCOMP_FILTER_FLAG_*; with NEW_LISTENER if the profile notifies, so that the call returns a descriptor
	Cached  bool // the program came from the cache
}

// ProfileError is a profile that cannot be used.
type ProfileError struct {
	Field string // path in config.json, such as linux.seccomp.syscalls[3].action
	Err   error
}

// Error says it in one line.
func (e *ProfileError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *ProfileError) Unwrap() error { return e.Err }

// fieldError makes a ProfileError; path is what follows linux.seccomp.
func fieldError(path, format string, args ...any) error {
	return &ProfileError{Field: "linux.seccomp" + path, Err: fmt.Errorf(format, args...)}
}

// Compile turns profile into a filter as runc does:
//
//   - nil, or neither a default action nor system calls, means no filter: the result is nil;
//   - the default errno is EPERM; names that this libseccomp does not know are ignored, and so are rules that repeat the
//     default action;
//   - conditions on different arguments must all hold; if two are on one argument, each condition counts by itself;
//   - where the default action refuses, a system call newer than all that the profile names gets ENOSYS, so that libc finds
//     out that it has to do without instead of taking it for forbidden;
//   - without the member flags, SECCOMP_FILTER_FLAG_SPEC_ALLOW is set if the kernel has it; SECCOMP_FILTER_FLAG_TSYNC is
//     accepted and has no effect, since the filter is for a process of one thread.
//
// Errors in the profile are of type [ProfileError]. A cache that cannot be read or written costs time, nothing else.
func (c ProfileCache) Compile(profile *specs.LinuxSeccomp) (*Filter, error) {
	if profile == nil || profile.DefaultAction == "" && len(profile.Syscalls) == 0 {
		return nil, nil
	}
	if err := checkProfile(profile); err != nil {
		return nil, err
	}
	flags, err := filterFlags(profile)
	if err != nil {
		return nil, err
	}
	key, err := profileKey(profile)
	if err != nil {
		return nil, err
	}
	if program := c.load(key); program != nil {
		return &Filter{Program: program, Flags: flags, Cached: true}, nil
	}
	program, err := compileProfile(profile)
	if err != nil {
		return nil, err
	}
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fieldError("", "%d BPF instructions are more than the kernel's %d", len(program), unix.BPF_MAXINSNS)
	}
	c.store(key, program)
	return &Filter{Program: program, Flags: flags}, nil
}

// profileArchitecture is an architecture that a profile may name.
type profileArchitecture struct {
	name  specs.Arch
	scmp  string // libseccomp-golang's name
	audit uint32 // what seccomp_data.arch holds
}

// profileArchitectures are those that runc takes.
var profileArchitectures = [...]profileArchitecture{
	{specs.ArchX86, "x86", unix.AUDIT_ARCH_I386},
	{specs.ArchX86_64, "amd64", unix.AUDIT_ARCH_X86_64},
	{specs.ArchX32, "x32", unix.AUDIT_ARCH_X86_64},
	{specs.ArchARM, "arm", unix.AUDIT_ARCH_ARM},
	{specs.ArchAARCH64, "arm64", unix.AUDIT_ARCH_AARCH64},
	{specs.ArchMIPS, "mips", unix.AUDIT_ARCH_MIPS},
	{specs.ArchMIPS64, "mips64", unix.AUDIT_ARCH_MIPS64},
	{specs.ArchMIPS64N32, "mips64n32", unix.AUDIT_ARCH_MIPS64N32},
	{specs.ArchMIPSEL, "mipsel", unix.AUDIT_ARCH_MIPSEL},
	{specs.ArchMIPSEL64, "mipsel64", unix.AUDIT_ARCH_MIPSEL64},
	{specs.ArchMIPSEL64N32, "mipsel64n32", unix.AUDIT_ARCH_MIPSEL64N32},
	{specs.ArchPPC, "ppc", unix.AUDIT_ARCH_PPC},
	{specs.ArchPPC64, "ppc64", unix.AUDIT_ARCH_PPC64},
	{specs.ArchPPC64LE, "ppc64le", unix.AUDIT_ARCH_PPC64LE},
	{specs.ArchRISCV64, "riscv64", unix.AUDIT_ARCH_RISCV64},
	{specs.ArchS390, "s390", unix.AUDIT_ARCH_S390},
	{specs.ArchS390X, "s390x", unix.AUDIT_ARCH_S390X},
	{specs.ArchLOONGARCH64, "loong64", unix.AUDIT_ARCH_LOONGARCH64},
}

func findArchitecture(name specs.Arch) (profileArchitecture, bool) {
	i := slices.IndexFunc(profileArchitectures[:], func(a profileArchitecture) bool { return a.name == name })
	if i < 0 {
		return profileArchitecture{}, false
	}
	return profileArchitectures[i], true
}

var profileActions = []specs.LinuxSeccompAction{
	specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread,
	specs.ActLog, specs.ActNotify, specs.ActTrace, specs.ActTrap,
}

var profileOperators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan,
	specs.OpMaskedEqual, specs.OpNotEqual,
}

// flagTSync is accepted as runc accepts it; the runtime specification has no name for it.
const flagTSync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

// profileFlag is a flag that a profile may ask for.
type profileFlag struct {
	name specs.LinuxSeccompFlag
	bit  uint // what is asked of the kernel; zero = nothing
}

var profileFlags = [...]profileFlag{
	{flagTSync, 0},
	{specs.LinuxSeccompFlagSpecAllow, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	{specs.LinuxSeccompFlagLog, unix.SECCOMP_FILTER_FLAG_LOG},
	{specs.LinuxSeccompFlagWaitKillableRecv, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
}

// supported asks the kernel.
func (f profileFlag) supported() bool {
	if f.bit == unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV {
		return filterFlagKnown(uintptr(f.bit) | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER) // valid only together
	}
	return f.bit == 0 || filterFlagKnown(uintptr(f.bit))
}

// KnownActions returns the names of the actions that a profile may use, sorted.
func KnownActions() []string {
	names := make([]string, len(profileActions))
	for i, action := range profileActions {
		names[i] = string(action)
	}
	slices.Sort(names)
	return names
}

// filterFlags returns what profile asks the kernel for.
func filterFlags(profile *specs.LinuxSeccomp) (uint, error) {
	var bits uint
	for _, s := range profile.Syscalls {
		if s.Action == specs.ActNotify {
			bits |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		}
	}
	if profile.Flags == nil {
		if f := (profileFlag{bit: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW}); f.supported() {
			bits |= f.bit
		}
		return bits, nil
	}
	for i, name := range profile.Flags {
		path := fmt.Sprintf(".flags[%d]", i)
		j := slices.IndexFunc(profileFlags[:], func(f profileFlag) bool { return f.name == name })
		switch {
		case j < 0:
			return 0, fieldError(path, "unknown flag %q", name)
		case !profileFlags[j].supported():
			return 0, fieldError(path, "this kernel has no %s", name)
		case name == specs.LinuxSeccompFlagWaitKillableRecv && bits&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER == 0:
			return 0, fieldError(path, "%s needs a rule with the action %s", name, specs.ActNotify)
		}
		bits |= profileFlags[j].bit
	}
	return bits, nil
}

// checkProfile finds what is wrong with a profile by itself, whatever libseccomp and the kernel know.
func checkProfile(profile *specs.LinuxSeccomp) error {
	if err := checkAction(".defaultAction", profile.DefaultAction); err != nil {
		return err
	}
	if profile.DefaultAction == specs.ActNotify {
		return fieldError(".defaultAction", "%s cannot be the default action", specs.ActNotify)
	}
	if err := checkErrno(".defaultErrnoRet", profile.DefaultErrnoRet); err != nil {
		return err
	}
	for i, arch := range profile.Architectures {
		if _, ok := findArchitecture(arch); !ok {
			return fieldError(fmt.Sprintf(".architectures[%d]", i), "unknown architecture %q", arch)
		}
	}
	for i := range profile.Syscalls {
		if err := checkRule(fmt.Sprintf(".syscalls[%d]", i), &profile.Syscalls[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkRule(path string, s *specs.LinuxSyscall) error {
	if err := checkAction(path+".action", s.Action); err != nil {
		return err
	}
	if err := checkErrno(path+".errnoRet", s.ErrnoRet); err != nil {
		return err
	}
	for i, name := range s.Names {
		switch {
		case name == "":
			return fieldError(fmt.Sprintf("%s.names[%d]", path, i), "empty name")
		case s.Action == specs.ActNotify && name == "write":
			// The child that installs the filter still has to tell where its listener is.
			return fieldError(fmt.Sprintf("%s.names[%d]", path, i), "%s cannot be used for write", specs.ActNotify)
		}
	}
	for i, arg := range s.Args {
		path := fmt.Sprintf("%s.args[%d]", path, i)
		if arg.Index > lastArg {
			return fieldError(path+".index", "%d is not in 0 to %d", arg.Index, lastArg)
		}
		if !slices.Contains(profileOperators, arg.Op) {
			return fieldError(path+".op", "unknown comparison %q", arg.Op)
		}
	}
	return nil
}

func checkAction(path string, action specs.LinuxSeccompAction) error {
	if !slices.Contains(profileActions, action) {
		return fieldError(path, "unknown action %q", action)
	}
	return nil
}

// checkErrno wants what an action can carry. Whether the action does carry it is, as with runc, not asked.
func checkErrno(path string, errno *uint) error {
	if errno != nil && *errno > math.MaxUint16 {
		return fieldError(path, "%d is not in 0 to %d", *errno, math.MaxUint16)
	}
	return nil
}
