package seccompnotif

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// nativeAuditArch is what seccomp_data.arch holds for a native system call.
const nativeAuditArch = unix.AUDIT_ARCH_X86_64

// foreignBit is __X32_SYSCALL_BIT of <asm/unistd.h>: numbers from it on are those of the x32 ABI, which has the same audit
// architecture as the native one.
const foreignBit = 0x40000000

// nativeArchitecture is the OCI name of this architecture.
const nativeArchitecture = specs.ArchX86_64

// creationCalls are the system calls that make a task and have their flags, if any, in a register.
var creationCalls = [...]int{unix.SYS_CLONE, unix.SYS_FORK, unix.SYS_VFORK}
