package seccompnotif

import "golang.org/x/sys/unix"

// nativeAuditArch is what seccomp_data.arch holds for a native system call.
const nativeAuditArch = unix.AUDIT_ARCH_AARCH64

// foreignBit is zero: no other ABI shares this audit architecture.
const foreignBit = 0
