package launch

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Prctl is prctl(2).
func (p *Program) Prctl(name string, option int, args ...uint64) Step {
	list := []Arg{Flags(uint64(option), name)}
	for i := 0; i < 4; i++ {
		v := uint64(0)
		if i < len(args) {
			v = args[i]
		}
		list = append(list, Value(v))
	}
	return p.Call("prctl", unix.SYS_PRCTL, list...)
}

// Setns is setns(2); kind is the CLONE_NEW* flags that the descriptor must stand for.
func (p *Program) Setns(namespace FD, kind uint64, text string) Step {
	return p.Call("setns", unix.SYS_SETNS, namespace.Arg, Flags(kind, text))
}

// Unshare is unshare(2).
func (p *Program) Unshare(flags uint64, text string) Step {
	return p.Call("unshare", unix.SYS_UNSHARE, Flags(flags, text))
}

// Setsid is setsid(2).
func (p *Program) Setsid() Step { return p.Call("setsid", unix.SYS_SETSID) }

// Setgroups is setgroups(2).
func (p *Program) Setgroups(groups []uint32) Step {
	raw := make([]byte, 0, 4*len(groups))
	for _, g := range groups {
		raw = binary.NativeEndian.AppendUint32(raw, g)
	}
	list := Null
	if len(groups) > 0 {
		list = Bytes(raw, fmt.Sprint(groups))
	}
	return p.Call("setgroups", unix.SYS_SETGROUPS, Value(uint64(len(groups))), list)
}

// Setresgid is setresgid(2) with one id for all three.
func (p *Program) Setresgid(gid uint32) Step {
	return p.Call("setresgid", unix.SYS_SETRESGID, Value(uint64(gid)), Value(uint64(gid)), Value(uint64(gid)))
}

// Setresuid is setresuid(2) with one id for all three.
func (p *Program) Setresuid(uid uint32) Step {
	return p.Call("setresuid", unix.SYS_SETRESUID, Value(uint64(uid)), Value(uint64(uid)), Value(uint64(uid)))
}

// Capset is capset(2) on the caller itself; bit i of a set is capability i.
func (p *Program) Capset(effective, permitted, inheritable uint64) Step {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted), Inheritable: uint32(inheritable)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32), Inheritable: uint32(inheritable >> 32)},
	}
	return p.Call("capset", unix.SYS_CAPSET, Bytes(bytesOf(&header), "{VERSION_3}"),
		Bytes(bytesOf(&data), fmt.Sprintf("{effective %#x, permitted %#x, inheritable %#x}", effective, permitted, inheritable)))
}

// Setrlimit is prlimit64(2) on the caller itself.
func (p *Program) Setrlimit(name string, resource int, limit unix.Rlimit) Step {
	return p.Call("prlimit64", unix.SYS_PRLIMIT64, Value(0), Flags(uint64(resource), name),
		Bytes(bytesOf(&limit), fmt.Sprintf("{%d, %d}", limit.Cur, limit.Max)), Null)
}

// Ioctl is ioctl(2).
func (p *Program) Ioctl(file FD, name string, request uint64, arg Arg) Step {
	return p.Call("ioctl", unix.SYS_IOCTL, file.Arg, Flags(request, name), arg)
}

// Ifreq is the address of a copy of a struct ifreq, for the requests of netdevice(7).
func Ifreq(request *unix.Ifreq, text string) Arg { return Bytes(bytesOf(request), text) }

// Unblock empties the signal mask, which the child starts with full.
func (p *Program) Unblock() Step {
	const setSize = 8 // bytes of the kernel's sigset_t
	return p.Call("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, Flags(unix.SIG_SETMASK, "SIG_SETMASK"), Bytes(make([]byte, setSize), "{}"), Null, Value(setSize))
}

// Filter is seccomp(2) with SECCOMP_SET_MODE_FILTER. With SECCOMP_FILTER_FLAG_NEW_LISTENER its result is the listener.
func (p *Program) Filter(flags uint64, text string, filter []unix.SockFilter) Step {
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(filter))), len(filter)*int(unsafe.Sizeof(unix.SockFilter{})))
	code := Bytes(raw, "code")
	// struct sock_fprog holds the address of the code, which is known only when the program is laid out.
	return p.Call("seccomp", unix.SYS_SECCOMP, Flags(unix.SECCOMP_SET_MODE_FILTER, "SET_MODE_FILTER"), Flags(flags, text),
		pointing(uint64(len(filter)), code, fmt.Sprintf("{%d instructions}", len(filter))))
}

// RestrictSelf is landlock_restrict_self(2).
func (p *Program) RestrictSelf(ruleset FD) Step {
	return p.Call("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset.Arg, Value(0))
}

// CloseOnExec marks every descriptor from first up close-on-exec.
func (p *Program) CloseOnExec(first int) Step {
	return p.Call("close_range", unix.SYS_CLOSE_RANGE, Value(uint64(first)), Flags(uint64(^uint32(0)), "~0"), Flags(unix.CLOSE_RANGE_CLOEXEC, "CLOSE_RANGE_CLOEXEC"))
}

// ExecCheck is faccessat2(2): may the caller's effective user execute path?
func (p *Program) ExecCheck(path string) Step {
	return p.Call("faccessat2", unix.SYS_FACCESSAT2, CWD.Arg, Text(path), Flags(unix.X_OK, "X_OK"), Flags(unix.AT_EACCESS, "AT_EACCESS"))
}

// Execve is execve(2). argv and env are made with [Strings] and may be shared by several steps.
func (p *Program) Execve(path string, argv, env Arg) Step {
	return p.Call("execve", unix.SYS_EXECVE, Text(path), argv, env)
}
