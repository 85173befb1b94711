package seccompnotif

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// nativeAuditArch is what seccomp_data.arch holds for a native system call.
const nativeAuditArch = unix.AUDIT_ARCH_AARCH64

// foreignBit is zero: no other ABI shares this audit architecture.
const foreignBit = 0

// nativeArchitecture is the OCI name of this architecture.
const nativeArchitecture = specs.ArchAARCH64

// creationCalls are the system calls that make a task and have their flags, if any, in a register.
var creationCalls = [...]int{unix.SYS_CLONE}
