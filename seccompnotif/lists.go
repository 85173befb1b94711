package seccompnotif

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// SyscallList is a user's list of system calls and groups, checked.
type SyscallList struct {
	syscalls []string
	groups   []string
}

// ParseSyscallList checks a list whose entries are names of system calls and of groups. A group is written with its mark
// (@mount); without the mark a name is a system call first, and a group if no system call is called so (keyring). Blanks around
// an entry are ignored. What is neither is an [UnknownSyscallError], which names the nearest valid name.
func ParseSyscallList(entries []string) (SyscallList, error) {
	var list SyscallList
	for _, entry := range entries {
		name := strings.TrimSpace(entry)
		groupName, marked := strings.CutPrefix(name, groupMark)
		_, _, isSyscall := SyscallNumber(name)
		switch {
		case name == "":
			return SyscallList{}, fmt.Errorf("empty name in a list of system calls")
		case !marked && isSyscall:
			list.syscalls = append(list.syscalls, name)
		case findGroup(groupName) != nil:
			list.groups = append(list.groups, groupName)
		default:
			return SyscallList{}, unknownSyscall(name)
		}
	}
	return list, nil
}

// has tells whether the list names the denial's call or its group.
func (l SyscallList) has(d Denial) bool {
	return slices.Contains(l.syscalls, d.Syscall) || d.Group != "" && slices.Contains(l.groups, d.Group)
}

// Strings returns the entries, groups with their mark.
func (l SyscallList) Strings() []string {
	entries := slices.Clone(l.syscalls)
	for _, g := range l.groups {
		entries = append(entries, groupMark+g)
	}
	return entries
}

// Denials returns base without what allow names, and with what deny names: EPERM for each system call, the group's own errnos
// and conditions for a group. What both name is denied.
//
// Allowing io_uring is an error, since what goes through a ring passes no filter; so is allowing clone3 while new namespaces
// are denied, since its flags cannot be judged.
func Denials(base []Denial, deny, allow SyscallList) ([]Denial, error) {
	var ds []Denial
	for _, d := range base {
		switch {
		case !allow.has(d):
			ds = append(ds, d)
		case d.Group == groupIOURing:
			return nil, fmt.Errorf("%s cannot be allowed: what is submitted to a ring passes no filter", d.Syscall)
		case d.Syscall == clone3 && !slices.Contains(allow.groups, groupNamespace):
			return nil, fmt.Errorf("%s cannot be allowed without %s%s: its flags lie in memory, where no filter sees them", clone3, groupMark, groupNamespace)
		}
	}
	for _, name := range deny.groups {
		for _, d := range findGroup(name).members() {
			if !slices.ContainsFunc(ds, func(have Denial) bool { return have.Group == d.Group && have.Syscall == d.Syscall }) {
				ds = append(ds, d)
			}
		}
	}
	for _, name := range deny.syscalls {
		if !slices.ContainsFunc(ds, func(have Denial) bool { return have.Syscall == name && len(have.When) == 0 }) {
			ds = append(ds, Denial{Syscall: name, Errno: unix.EPERM})
		}
	}
	return ds, nil
}
