package seccompnotif

import "golang.org/x/sys/unix"

// groupMark begins a group's name in a list of system calls, as systemd.exec(5) writes it: mount is a call, @mount a group.
const groupMark = "@"

// group is a named set of denials. It is data: the compiler lays it out, nothing of it is built when the program starts.
type group struct {
	name      string
	byDefault bool // part of DefaultDenials
	denials   []Denial
}

// newNamespaces are the clone(2) flags that make a namespace. CLONE_NEWTIME is not among them: clone takes its bit for part of
// the exit signal.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

var groups = [...]group{
	{"mount", true, []Denial{
		{Syscall: "mount", Errno: unix.EPERM},
		{Syscall: "umount2", Errno: unix.EPERM},
		{Syscall: "pivot_root", Errno: unix.EPERM},
		{Syscall: "open_tree", Errno: unix.EPERM},
		{Syscall: "open_tree_attr", Errno: unix.EPERM},
		{Syscall: "move_mount", Errno: unix.EPERM},
		{Syscall: "mount_setattr", Errno: unix.EPERM},
		{Syscall: "fsopen", Errno: unix.EPERM},
		{Syscall: "fsconfig", Errno: unix.EPERM},
		{Syscall: "fsmount", Errno: unix.EPERM},
		{Syscall: "fspick", Errno: unix.EPERM},
	}},
	{"module", true, []Denial{
		{Syscall: "init_module", Errno: unix.EPERM},
		{Syscall: "finit_module", Errno: unix.EPERM},
		{Syscall: "delete_module", Errno: unix.EPERM},
		{Syscall: "create_module", Errno: unix.EPERM},
		{Syscall: "query_module", Errno: unix.EPERM},
		{Syscall: "get_kernel_syms", Errno: unix.EPERM},
	}},
	{"kexec", true, []Denial{
		{Syscall: "kexec_load", Errno: unix.EPERM},
		{Syscall: "kexec_file_load", Errno: unix.EPERM},
	}},
	{"reboot", true, []Denial{{Syscall: "reboot", Errno: unix.EPERM}}},
	{"swap", true, []Denial{
		{Syscall: "swapon", Errno: unix.EPERM},
		{Syscall: "swapoff", Errno: unix.EPERM},
	}},
	{"bpf", true, []Denial{{Syscall: "bpf", Errno: unix.EPERM}}},
	{"perf", true, []Denial{{Syscall: "perf_event_open", Errno: unix.EPERM}}},
	{"userfaultfd", true, []Denial{{Syscall: "userfaultfd", Errno: unix.EPERM}}},
	{"keyring", true, []Denial{
		{Syscall: "add_key", Errno: unix.EPERM},
		{Syscall: "keyctl", Errno: unix.EPERM},
		{Syscall: "request_key", Errno: unix.EPERM},
	}},
	// pidfd_getfd needs the right to trace, and takes what a tracer could have taken.
	{"ptrace", true, []Denial{
		{Syscall: "ptrace", Errno: unix.EPERM},
		{Syscall: "process_vm_readv", Errno: unix.EPERM},
		{Syscall: "process_vm_writev", Errno: unix.EPERM},
		{Syscall: "pidfd_getfd", Errno: unix.EPERM},
	}},
	{"handle", true, []Denial{
		{Syscall: "open_by_handle_at", Errno: unix.EPERM},
		{Syscall: "name_to_handle_at", Errno: unix.EPERM},
	}},
	{"ioport", true, []Denial{
		{Syscall: "ioperm", Errno: unix.EPERM},
		{Syscall: "iopl", Errno: unix.EPERM},
	}},
	{"quota", true, []Denial{
		{Syscall: "quotactl", Errno: unix.EPERM},
		{Syscall: "quotactl_fd", Errno: unix.EPERM},
	}},
	{"acct", true, []Denial{{Syscall: "acct", Errno: unix.EPERM}}},
	// What is submitted to a ring passes no filter. Programs that find no rings use plain calls.
	{groupIOURing, true, []Denial{
		{Syscall: "io_uring_setup", Errno: unix.ENOSYS},
		{Syscall: "io_uring_enter", Errno: unix.ENOSYS},
		{Syscall: "io_uring_register", Errno: unix.ENOSYS},
	}},
	// The kernel looks at the lower half of both flag arguments. clone3 has its flags in memory, where no filter sees them;
	// libc falls back to clone when it is missing.
	{groupNamespace, true, []Denial{
		{Syscall: "clone", Errno: unix.EPERM, When: []Match{{Arg: 0, Op: AnyBit, Mask: newNamespaces}}},
		{Syscall: "unshare", Errno: unix.EPERM, When: []Match{{Arg: 0, Op: AnyBit, Mask: newNamespaces | unix.CLONE_NEWTIME}}},
		{Syscall: "setns", Errno: unix.EPERM},
		{Syscall: clone3, Errno: unix.ENOSYS},
	}},
	// What is read this way is written to memory when its task may be stopped. glibc's own aio(7) is made of threads.
	{GroupAIO, false, []Denial{
		{Syscall: "io_setup", Errno: unix.ENOSYS},
		{Syscall: "io_destroy", Errno: unix.ENOSYS},
		{Syscall: "io_submit", Errno: unix.ENOSYS},
		{Syscall: "io_cancel", Errno: unix.ENOSYS},
		{Syscall: "io_getevents", Errno: unix.ENOSYS},
		{Syscall: "io_pgetevents", Errno: unix.ENOSYS},
	}},
	{"sysv_ipc", false, []Denial{
		{Syscall: "shmget", Errno: unix.EPERM},
		{Syscall: "shmat", Errno: unix.EPERM},
		{Syscall: "shmctl", Errno: unix.EPERM},
		{Syscall: "shmdt", Errno: unix.EPERM},
		{Syscall: "semget", Errno: unix.EPERM},
		{Syscall: "semop", Errno: unix.EPERM},
		{Syscall: "semtimedop", Errno: unix.EPERM},
		{Syscall: "semctl", Errno: unix.EPERM},
		{Syscall: "msgget", Errno: unix.EPERM},
		{Syscall: "msgsnd", Errno: unix.EPERM},
		{Syscall: "msgrcv", Errno: unix.EPERM},
		{Syscall: "msgctl", Errno: unix.EPERM},
	}},
}

// GroupAIO is the group of Linux's asynchronous I/O, which is denied where [JudgeExec] is in force.
const GroupAIO = "aio"

const (
	groupIOURing   = "io_uring"
	groupNamespace = "namespace"
	clone3         = "clone3"
)

// Groups returns the names of all groups, without their mark.
func Groups() []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

// GroupDenials returns the members of the group of that name, nil if there is none.
func GroupDenials(name string) []Denial {
	if g := findGroup(name); g != nil {
		return g.members()
	}
	return nil
}

// findGroup returns the group of that name, nil if there is none.
func findGroup(name string) *group {
	for i := range groups {
		if groups[i].name == name {
			return &groups[i]
		}
	}
	return nil
}

// members returns the group's denials, labelled with its name.
func (g *group) members() []Denial {
	ds := make([]Denial, len(g.denials))
	for i, d := range g.denials {
		d.Group = g.name
		ds[i] = d
	}
	return ds
}

// DefaultDenials returns what a supervised guest is denied unless its policy says otherwise: what changes the machine (mounts,
// modules, kexec, reboot, swap, quotas, accounting, io ports), what reaches around the supervisor (io_uring, new namespaces,
// file handles), what reaches other processes (ptrace and process_vm_*), and what mostly serves to attack the kernel (bpf,
// perf_event_open, userfaultfd, keyrings). See [Without] for guests that cannot reach others to begin with.
func DefaultDenials() []Denial {
	var ds []Denial
	for i := range groups {
		if groups[i].byDefault {
			ds = append(ds, groups[i].members()...)
		}
	}
	return ds
}

// Without returns the denials that belong to none of the named groups. A guest in a pid namespace of its own, for example,
// traces nobody outside of it, and may do without the group ptrace.
func Without(denials []Denial, groupNames ...string) []Denial {
	var rest []Denial
next:
	for _, d := range denials {
		for _, name := range groupNames {
			if d.Group == name {
				continue next
			}
		}
		rest = append(rest, d)
	}
	return rest
}
