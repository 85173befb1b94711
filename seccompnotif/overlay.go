package seccompnotif

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Overlay is a seccomp filter as data: foreign architectures refused, some system calls denied, some notified, all others
// allowed. It is meant to be installed beside other filters (the kernel takes the strictest answer of all of them), so it
// never says more than what it is asked to.
//
// For one system call a denial without condition beats everything; then conditional denials are tried in their order, then
// notifications; what matches none is allowed. System calls are given by name. A name that only another architecture has is
// left out, and one that none has is an error.
//
// Calls of a foreign architecture (32-bit x86 and x32 on amd64, 32-bit ARM on arm64) get ENOSYS. Their numbers mean other
// calls, so no rule here could judge them. ENOSYS is what a kernel built without that ABI says, so programs that probe for it
// fall back; a killed process would not.
type Overlay struct {
	Notify     []string       // names of system calls notified at every use
	NotifyWhen []Notification // system calls notified at some uses
	Deny       []Denial
}

// verdict is what the filter says about one system call.
type verdict struct {
	rules []rule // tried in order
	final uint32 // SECCOMP_RET_ value if none matches
}

// rule is a conditional answer.
type rule struct {
	when []Match
	ret  uint32
}

// Empty tells whether the overlay has nothing to say, so that there is nothing to install.
func (o Overlay) Empty() bool { return len(o.Notify)+len(o.NotifyWhen)+len(o.Deny) == 0 }

const retNotify, retAllow = uint32(unix.SECCOMP_RET_USER_NOTIF), uint32(unix.SECCOMP_RET_ALLOW)

func retErrno(e unix.Errno) uint32 {
	return unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA
}

// verdicts resolves the overlay into one verdict for each system call that it does not simply allow.
func (o *Overlay) verdicts() (map[int]*verdict, error) {
	of := map[int]*verdict{}
	at := func(name string) (*verdict, error) {
		nr, present, known := SyscallNumber(name)
		if !known {
			return nil, unknownSyscall(name)
		}
		if !present {
			return nil, nil
		}
		if of[nr] == nil {
			of[nr] = &verdict{final: retAllow}
		}
		return of[nr], nil
	}
	// add lets an unconditional answer, once given, stand.
	add := func(name string, when []Match, ret uint32) error {
		if err := checkMatches(when); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		v, err := at(name)
		if err != nil || v == nil || v.final != retAllow {
			return err
		}
		if len(when) == 0 {
			v.final = ret
		} else {
			v.rules = append(v.rules, rule{when: when, ret: ret})
		}
		return nil
	}
	for _, d := range o.Deny {
		if d.Errno == 0 || d.Errno > maxErrno {
			return nil, fmt.Errorf("overlay: deny: %s: errno %d is not in 1 to %d", d.Syscall, int(d.Errno), maxErrno)
		}
	}
	for _, d := range o.Deny {
		if len(d.When) == 0 {
			if err := add(d.Syscall, nil, retErrno(d.Errno)); err != nil {
				return nil, fmt.Errorf("overlay: deny: %w", err)
			}
		}
	}
	for _, d := range o.Deny {
		if len(d.When) > 0 {
			if err := add(d.Syscall, d.When, retErrno(d.Errno)); err != nil {
				return nil, fmt.Errorf("overlay: deny: %w", err)
			}
		}
	}
	for _, n := range o.NotifyWhen {
		if err := add(n.Syscall, n.When, retNotify); err != nil {
			return nil, fmt.Errorf("overlay: notify: %w", err)
		}
	}
	for _, name := range o.Notify {
		if err := add(name, nil, retNotify); err != nil {
			return nil, fmt.Errorf("overlay: notify: %w", err)
		}
	}
	return of, nil
}

// outright returns the errno with which no use of the call gets past the overlay, false if some use does.
func (v *verdict) outright() (unix.Errno, bool) {
	if v == nil || len(v.rules) > 0 || v.final&unix.SECCOMP_RET_ACTION_FULL != unix.SECCOMP_RET_ERRNO {
		return 0, false
	}
	return unix.Errno(v.final & unix.SECCOMP_RET_DATA), true
}

// notifies tells whether at least one use of the call is notified.
func (v *verdict) notifies() bool {
	return v != nil && (v.final == retNotify || slices.ContainsFunc(v.rules, func(r rule) bool { return r.ret == retNotify }))
}

// Notified returns the numbers of the system calls that are notified at some use at least: those that a handler can have. An
// overlay that [Overlay.Assemble] refuses notifies none.
func (o Overlay) Notified() map[int]bool {
	nrs := map[int]bool{}
	of, err := o.verdicts()
	if err != nil {
		return nrs
	}
	for nr, v := range of {
		if v.notifies() {
			nrs[nr] = true
		}
	}
	return nrs
}

// NeedsListener tells whether the overlay notifies anything, so that it has to be installed with
// SECCOMP_FILTER_FLAG_NEW_LISTENER. Without a listener a notified call fails with ENOSYS. An overlay that [Overlay.Assemble]
// refuses needs none.
func (o Overlay) NeedsListener() bool {
	return len(o.Notified()) > 0
}

// Assemble makes the filter's BPF, for seccomp(SECCOMP_SET_MODE_FILTER). It reports a name that no architecture has, an
// argument number or errno out of range, and a filter of more instructions than the kernel takes (BPF_MAXINSNS, 4096).
func (o Overlay) Assemble() ([]unix.SockFilter, error) {
	of, err := o.verdicts()
	if err != nil {
		return nil, err
	}
	program := assemble(of)
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("overlay: %d BPF instructions are more than the kernel's %d", len(program), unix.BPF_MAXINSNS)
	}
	return program, nil
}
