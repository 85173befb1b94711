package seccompnotif

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A profile that refuses by default refuses also what did not exist when it was written, with an errno that says "forbidden".
// Programs that would fall back upon ENOSYS then give up. So what is newer than everything a profile names is answered ENOSYS
// by a few instructions before the filter, as runc does.

// wantsENOSYS tells whether the profile's default refuses, with something else than ENOSYS.
func wantsENOSYS(profile *specs.LinuxSeccomp) bool {
	switch profile.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace: // a tracer answers for new calls itself
		return false
	case specs.ActErrno:
		return profile.DefaultErrnoRet == nil || *profile.DefaultErrnoRet != uint(unix.ENOSYS)
	}
	return true
}

// archNewest is the largest system call number that a profile names on one architecture.
type archNewest struct {
	audit uint32 // seccomp_data.arch
	x32   bool   // numbers with x32Bit, of the same audit architecture
	last  uint32
}

// x32Bit is __X32_SYSCALL_BIT of <asm/unistd.h> on amd64.
const x32Bit = 0x40000000

// assembleENOSYS makes the instructions that answer ENOSYS to larger numbers and go on behind their own end otherwise. There is
// a section for each architecture; a call of another one passes it with the architecture still in the accumulator.
func assembleENOSYS(newest []archNewest) []unix.SockFilter {
	if len(newest) == 0 {
		return nil
	}
	stub := []unix.SockFilter{load(offsetArch)}
	done := map[uint32]bool{}
	for _, n := range newest {
		if done[n.audit] {
			continue
		}
		done[n.audit] = true
		body := section(n.audit, newest)
		stub = append(stub, branch(unix.BPF_JEQ, n.audit, 0, len(body)))
		stub = append(stub, body...)
	}
	for i := range stub {
		if stub[i] == leave {
			stub[i] = jump(len(stub) - i - 1)
		}
	}
	return stub
}

// leave stands for a jump to the end of the stub until that is known. Jumps of this kind can be as long as need be.
var leave = jump(0)

// section judges the numbers of one audit architecture. On amd64 there are two spaces of numbers; one of which the profile has
// nothing is left to the filter.
func section(audit uint32, newest []archNewest) []unix.SockFilter {
	native, x32 := []unix.SockFilter{leave}, []unix.SockFilter{leave}
	for _, n := range newest {
		switch limit := []unix.SockFilter{branch(unix.BPF_JGT, n.last, 0, 1), ret(retErrno(unix.ENOSYS)), leave}; {
		case n.audit != audit:
		case n.x32:
			x32 = limit
		default:
			native = limit
		}
	}
	body := []unix.SockFilter{load(offsetNR)}
	if audit == unix.AUDIT_ARCH_X86_64 {
		body = append(body, branch(unix.BPF_JGE, x32Bit, len(native), 0))
		return append(append(body, native...), x32...)
	}
	return append(body, native...)
}
