//go:build cgo

package seccompnotif

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// libraryVersion is part of the cache's key: another libseccomp knows other names and makes another program.
func libraryVersion() string {
	major, minor, micro := libseccomp.GetLibraryVersion()
	return fmt.Sprintf("%d.%d.%d", major, minor, micro)
}

// manyRules is from how many rules on libseccomp is asked for a binary search. It is runc's choice; with no rules at all some
// versions of libseccomp then make a wrong program.
const manyRules = 32

// compileProfile makes the program of a profile that checkProfile has found good.
func compileProfile(profile *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	defaultAction, err := scmpAction(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, fieldError(".defaultAction", "%w", err)
	}
	filter, err := libseccomp.NewFilter(defaultAction)
	if err != nil {
		return nil, fieldError(".defaultAction", "libseccomp: %w", err)
	}
	defer filter.Release()
	archs, err := scmpArchitectures(profile)
	if err != nil {
		return nil, err
	}
	for _, arch := range archs {
		if err := filter.AddArch(arch.arch); err != nil {
			return nil, fieldError(".architectures", "%s: libseccomp: %w", arch.name, err)
		}
	}
	rules := 0
	for _, s := range profile.Syscalls {
		rules += len(s.Names)
	}
	if rules > manyRules {
		// An older libseccomp makes a slower program instead.
		_ = filter.SetOptimize(2)
	}
	for i := range profile.Syscalls {
		if err := addRules(filter, &profile.Syscalls[i], defaultAction); err != nil {
			return nil, fieldError(fmt.Sprintf(".syscalls[%d]", i), "%w", err)
		}
	}
	program, err := exportBPF(filter)
	if err != nil {
		return nil, fieldError("", "libseccomp: %w", err)
	}
	return append(enosysStub(profile, archs), program...), nil
}

// addRules adds one entry of the profile for each of its names.
func addRules(filter *libseccomp.ScmpFilter, s *specs.LinuxSyscall, defaultAction libseccomp.ScmpAction) error {
	action, err := scmpAction(s.Action, s.ErrnoRet)
	if err != nil {
		return err
	}
	if action == defaultAction {
		return nil // libseccomp takes it for a mistake
	}
	conditions := make([]libseccomp.ScmpCondition, len(s.Args))
	seen, together := [lastArg + 1]bool{}, true
	for i, arg := range s.Args {
		if conditions[i], err = libseccomp.MakeCondition(arg.Index, scmpOperator(arg.Op), arg.Value, arg.ValueTwo); err != nil {
			return fmt.Errorf("args[%d]: %w", i, err)
		}
		together = together && !seen[arg.Index]
		seen[arg.Index] = true
	}
	for _, name := range s.Names {
		nr, err := libseccomp.GetSyscallFromName(name)
		if errors.Is(err, libseccomp.ErrSyscallDoesNotExist) {
			continue // newer than this libseccomp, or misspelt; runc takes it for the former
		}
		if err != nil {
			return fmt.Errorf("%s: libseccomp: %w", name, err)
		}
		switch {
		case len(conditions) == 0:
			err = filter.AddRule(nr, action)
		case together:
			err = filter.AddRuleConditional(nr, action, conditions)
		default:
			// libseccomp has no rule with two conditions on one argument.
			for i := range conditions {
				if err = filter.AddRuleConditional(nr, action, conditions[i:i+1]); err != nil {
					break
				}
			}
		}
		if err != nil {
			return fmt.Errorf("%s: libseccomp: %w", name, err)
		}
	}
	return nil
}

func scmpAction(action specs.LinuxSeccompAction, errnoRet *uint) (libseccomp.ScmpAction, error) {
	code := int16(unix.EPERM)
	if errnoRet != nil {
		code = int16(uint16(*errnoRet))
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return libseccomp.ActKillThread, nil
	case specs.ActKillProcess:
		return libseccomp.ActKillProcess, nil
	case specs.ActErrno:
		return libseccomp.ActErrno.SetReturnCode(code), nil
	case specs.ActTrace:
		return libseccomp.ActTrace.SetReturnCode(code), nil
	case specs.ActTrap:
		return libseccomp.ActTrap, nil
	case specs.ActAllow:
		return libseccomp.ActAllow, nil
	case specs.ActLog:
		return libseccomp.ActLog, nil
	case specs.ActNotify:
		return libseccomp.ActNotify, nil
	}
	return libseccomp.ActInvalid, fmt.Errorf("unknown action %q", action)
}

func scmpOperator(op specs.LinuxSeccompOperator) libseccomp.ScmpCompareOp {
	switch op {
	case specs.OpNotEqual:
		return libseccomp.CompareNotEqual
	case specs.OpLessThan:
		return libseccomp.CompareLess
	case specs.OpLessEqual:
		return libseccomp.CompareLessOrEqual
	case specs.OpEqualTo:
		return libseccomp.CompareEqual
	case specs.OpGreaterEqual:
		return libseccomp.CompareGreaterEqual
	case specs.OpGreaterThan:
		return libseccomp.CompareGreater
	case specs.OpMaskedEqual:
		return libseccomp.CompareMaskedEqual
	}
	return libseccomp.CompareInvalid
}

// scmpArchitecture is an architecture of a profile as libseccomp knows it.
type scmpArchitecture struct {
	profileArchitecture
	arch libseccomp.ScmpArch
}

// scmpArchitectures returns the native architecture, which libseccomp adds in any case, and the profile's others.
func scmpArchitectures(profile *specs.LinuxSeccomp) ([]scmpArchitecture, error) {
	native, _ := findArchitecture(nativeArchitecture)
	archs := []scmpArchitecture{{native, libseccomp.ArchNative}}
	for i, name := range profile.Architectures {
		if name == nativeArchitecture {
			continue
		}
		known, _ := findArchitecture(name)
		arch, err := libseccomp.GetArchFromString(known.scmp)
		if err != nil {
			return nil, fieldError(fmt.Sprintf(".architectures[%d]", i), "%s: libseccomp: %w", name, err)
		}
		archs = append(archs, scmpArchitecture{known, arch})
	}
	return archs, nil
}

// enosysStub finds the newest system call that the profile names on each architecture, and makes the program that goes before
// the filter.
func enosysStub(profile *specs.LinuxSeccomp, archs []scmpArchitecture) []unix.SockFilter {
	if !wantsENOSYS(profile) {
		return nil
	}
	var newest []archNewest
	for _, arch := range archs {
		last := libseccomp.ScmpSyscall(-1)
		for _, s := range profile.Syscalls {
			for _, name := range s.Names {
				// What the architecture lacks is an error or a negative number.
				if nr, err := libseccomp.GetSyscallFromNameByArch(name, arch.arch); err == nil {
					last = max(last, nr)
				}
			}
		}
		if last > 0 {
			newest = append(newest, archNewest{audit: arch.audit, x32: arch.name == specs.ArchX32, last: uint32(last)})
		}
	}
	return assembleENOSYS(newest)
}

// exportBPF returns libseccomp's program. It writes to a descriptor only, before version 2.6.
func exportBPF(filter *libseccomp.ScmpFilter) ([]unix.SockFilter, error) {
	fd, err := unix.MemfdCreate("", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "memfd")
	defer file.Close()
	if err := filter.ExportBPF(file); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	if _, err := file.ReadAt(b, 0); err != nil {
		return nil, err
	}
	program, ok := decodeProgram(b)
	if !ok {
		return nil, errors.New("a program of " + strconv.Itoa(len(b)) + " bytes")
	}
	return program, nil
}
