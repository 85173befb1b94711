package host

import (
	"os"
	"runtime"
	"strings"
)

// Description is everything there is to say about a host: what [Probe] asks and more.
type Description struct {
	Host
	Arch       string     `json:"arch"` // as Go names it
	Namespaces Namespaces `json:"namespaces"`
	Syscalls   Syscalls   `json:"syscalls"`
	Listener   Listener   `json:"seccomp_listener"`
	// Controllers are the cgroup controllers that can be used, of v1 and v2 alike.
	Controllers []string `json:"cgroup_controllers"`
	// UserNSLimit is user.max_user_namespaces, "" if unknown; "0" forbids new user namespaces.
	UserNSLimit string `json:"max_user_namespaces,omitempty"`
	// UnprivilegedUserNS is false where the distribution keeps user namespaces from those without privilege
	// (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns).
	UnprivilegedUserNS bool `json:"unprivileged_user_namespaces"`
	// PtraceScope is Yama's kernel.yama.ptrace_scope, "" where there is no Yama; see ptrace(2).
	PtraceScope string `json:"ptrace_scope,omitempty"`
	AppArmor    bool   `json:"apparmor"`
	SELinux     bool   `json:"selinux"`
	// LSMs lists the security modules in force, in order, where securityfs is mounted and says so.
	LSMs string `json:"lsms,omitempty"`
}

// Describe asks this machine everything. It takes longer than [Probe] and is for the `check` verb.
func Describe() Description {
	d := Description{
		Host:               Probe(),
		Arch:               runtime.GOARCH,
		Namespaces:         ProbeNamespaces(),
		Syscalls:           probeSyscalls(),
		Listener:           probeListener(),
		UserNSLimit:        setting("/proc/sys/user/max_user_namespaces"),
		UnprivilegedUserNS: setting("/proc/sys/kernel/unprivileged_userns_clone") != "0" && setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != "1",
		PtraceScope:        setting("/proc/sys/kernel/yama/ptrace_scope"),
		AppArmor:           AppArmor(),
		SELinux:            SELinux(),
		LSMs:               setting("/sys/kernel/security/lsm"),
	}
	d.Controllers = controllers(d.Cgroup)
	return d
}

// controllers lists what the kernel says of v1, in /proc/cgroups, and of v2, in cgroup.controllers.
func controllers(cgroup Cgroup) []string {
	list := []string{}
	if cgroup.Unified != "" {
		list = append(list, strings.Fields(setting(cgroup.Unified+"/cgroup.controllers"))...)
	}
	if cgroup.Layout == CgroupV1 || cgroup.Layout == CgroupHybrid {
		list = append(list, mountedV1(setting("/proc/cgroups"))...)
	}
	return list
}

// mountedV1 reads /proc/cgroups, see cgroups(7): name, hierarchy, number of cgroups, enabled. Hierarchy 0 is none, or v2.
func mountedV1(table string) []string {
	var list []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 4 && !strings.HasPrefix(line, "#") && fields[1] != "0" && fields[3] == "1" {
			list = append(list, fields[0])
		}
	}
	return list
}

// setting reads a small file of the kernel, without the newline at its end; "" if it cannot be read.
func setting(name string) string {
	content, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(content), "\n")
}
