package bundle

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	maxSyscallArgs = 6    // a syscall has at most this many arguments
	maxErrno       = 4095 // MAX_ERRNO, linux/err.h
)

// flagTsync is accepted for its age and means nothing: a fresh child has one
// thread. The specification does not define it.
const flagTsync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

// checkSeccomp checks the names of actions, operators, architectures and flags.
// Names of syscalls are not checked: libseccomp knows which exist, and profiles
// name some that it does not know yet.
func checkSeccomp(spec *specs.Spec) error {
	const field = "linux.seccomp"
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return nil
	}
	profile := spec.Linux.Seccomp
	if profile.ListenerMetadata != "" && profile.ListenerPath == "" {
		return invalid(field+".listenerMetadata", "given without listenerPath")
	}
	// As in runc, nothing but an empty section means no filter.
	if profile.DefaultAction == "" && len(profile.Syscalls) > 0 {
		return missing(field + ".defaultAction")
	}
	if profile.DefaultAction != "" {
		if err := checkAction(field+".defaultAction", profile.DefaultAction); err != nil {
			return err
		}
	}
	if err := checkErrno(field+".defaultErrnoRet", profile.DefaultAction, profile.DefaultErrnoRet); err != nil {
		return err
	}
	for i, arch := range profile.Architectures {
		if !knownArch(arch) {
			return invalid(at(field+".architectures", i), "unknown architecture %q", arch)
		}
	}
	for i, flag := range profile.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv, flagTsync:
		default:
			return invalid(at(field+".flags", i), "unknown flag %q", flag)
		}
	}
	for i := range profile.Syscalls {
		if err := checkSyscalls(i, &profile.Syscalls[i]); err != nil {
			return err
		}
		if profile.Syscalls[i].Action == specs.ActNotify && profile.ListenerPath == "" {
			return invalid(at(field+".syscalls", i)+".action", "%s: needs %s.listenerPath", specs.ActNotify, field)
		}
	}
	return nil
}

// checkSyscalls checks one entry of linux.seccomp.syscalls. There may be
// hundreds: its name is made only for an error.
func checkSyscalls(index int, rule *specs.LinuxSyscall) error {
	field := func(name string) string { return at("linux.seccomp.syscalls", index) + "." + name }
	if len(rule.Names) == 0 {
		return missing(field("names"))
	}
	for i, name := range rule.Names {
		if name == "" {
			return invalid(at(field("names"), i), "empty")
		}
	}
	if !knownAction(rule.Action) {
		return checkAction(field("action"), rule.Action)
	}
	if rule.ErrnoRet != nil {
		if err := checkErrno(field("errnoRet"), rule.Action, rule.ErrnoRet); err != nil {
			return err
		}
	}
	for i, arg := range rule.Args {
		if arg.Index >= maxSyscallArgs {
			return invalid(at(field("args"), i)+".index", "%d, expected 0 to %d", arg.Index, maxSyscallArgs-1)
		}
		switch arg.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
			specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		case "":
			return missing(at(field("args"), i) + ".op")
		default:
			return invalid(at(field("args"), i)+".op", "unknown operator %q", arg.Op)
		}
	}
	return nil
}

// checkErrno refuses numbers that are none, and those that an action has no use for: the specification wants that said. 0 is
// let be, with which engines fill in what they have no number for.
func checkErrno(field string, action specs.LinuxSeccompAction, errno *uint) error {
	switch {
	case errno == nil || *errno == 0:
		return nil
	case *errno > maxErrno:
		return invalid(field, "%d is above %d", *errno, maxErrno)
	case action != specs.ActErrno && action != specs.ActTrace:
		return invalid(field, "%s has no error number", action)
	}
	return nil
}

func checkAction(field string, action specs.LinuxSeccompAction) error {
	switch {
	case knownAction(action):
		return nil
	case action == "":
		return missing(field)
	}
	return invalid(field, "unknown action %q", action)
}

func knownAction(action specs.LinuxSeccompAction) bool {
	switch action {
	case specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap,
		specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify:
		return true
	}
	return false
}

// knownArch knows the architectures that runc takes.
func knownArch(arch specs.Arch) bool {
	switch arch {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
		specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64,
		specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchRISCV64,
		specs.ArchS390, specs.ArchS390X, specs.ArchLOONGARCH64:
		return true
	}
	return false
}
