package host

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/landlock"
)

// Finding is one thing that a host has or lacks.
type Finding struct {
	Name     string `json:"name"`
	Have     bool   `json:"have"`
	Required bool   `json:"required,omitempty"` // without it no container can be started
	Detail   string `json:"detail"`
	// Consequence says what it means for containers that the host lacks this; it is empty where the host has it.
	Consequence string `json:"consequence,omitempty"`
}

// floorMajor and floorMinor are the oldest kernel that the runtime is made for.
const floorMajor, floorMinor = 5, 19

// Findings says what the host gives and lacks, what everything rests on first. It is pure.
func (d Description) Findings() []Finding {
	list := slices.Concat(d.kernelFindings(), d.landlockFindings(), d.seccompFindings(), d.syscallFindings(),
		d.namespaceFindings(), d.cgroupFindings(), d.privilegeFindings(), d.moduleFindings())
	for i := range list {
		if list[i].Have {
			list[i].Consequence = ""
		}
	}
	return list
}

// Lacks lists the required findings that the host does not have.
func Lacks(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Have || !f.Required })
}

func (d Description) kernelFindings() []Finding {
	return []Finding{{
		Name: "kernel", Have: d.AtLeast(floorMajor, floorMinor), Required: true, Detail: d.Release + " " + d.Arch,
		Consequence: fmt.Sprintf("needs Linux %d.%d: what follows says which parts are missing", floorMajor, floorMinor),
	}}
}

func (d Description) landlockFindings() []Finding {
	list := []Finding{{
		Name: "landlock", Have: d.Landlock >= 1, Required: true, Detail: fmt.Sprintf("ABI %d", d.Landlock),
		Consequence: "containers are refused: nothing would hold a leaked descriptor or a path list",
	}}
	if d.Landlock < 1 {
		list[0].Detail = strings.TrimPrefix(d.LandlockError, "landlock: ")
	}
	for _, protection := range landlock.Protections() {
		finding := Finding{
			Name: "protection " + string(protection), Have: d.Landlock >= protection.Floor(),
			Detail: fmt.Sprintf("Landlock ABI %d", protection.Floor()),
		}
		if !finding.Have {
			finding.Detail = fmt.Sprintf("needs Landlock ABI %d, this kernel has %d", protection.Floor(), d.Landlock)
			finding.Consequence = withoutProtection(protection)
		}
		list = append(list, finding)
	}
	return list
}

// withoutProtection says what becomes of containers on a kernel that cannot enforce a protection.
func withoutProtection(protection landlock.Protection) string {
	switch protection {
	case landlock.NetTCP:
		return "TCP port rules are enforced by the supervisor instead"
	case landlock.SignalScope, landlock.AbstractUnixScope:
		return fmt.Sprintf("containers that share the host's namespaces are refused unless protection.%s is degrade; then %s",
			protection, protection.Without())
	default:
		return fmt.Sprintf("containers are refused unless protection.%s is degrade; then %s", protection, protection.Without())
	}
}

func (d Description) seccompFindings() []Finding {
	reason := "" // why nothing could be tried on a listener
	if d.Listener.Error != "" {
		reason = ": " + d.Listener.Error
	}
	return []Finding{
		{Name: "seccomp notify", Have: d.Seccomp.Notify, Detail: "SECCOMP_RET_USER_NOTIF",
			Consequence: "policies that need the supervisor are refused, egress rules by address among them"},
		{Name: "seccomp wait-killable", Have: d.Seccomp.WaitKillable, Detail: "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19",
			Consequence: "policies that need the supervisor are refused: a signal could interrupt a call that was already carried out"},
		{Name: "seccomp addfd-send", Have: d.Listener.AddFDSend, Detail: "SECCOMP_ADDFD_FLAG_SEND, Linux 5.14" + reason,
			Consequence: "policies that need the supervisor are refused: it could not answer with a descriptor in one step"},
		{Name: "seccomp sync wake-up", Have: d.Listener.SyncWakeUp, Detail: "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.7" + reason,
			Consequence: "a supervised call takes several times as long"},
		{Name: "seccomp log", Have: d.Seccomp.Log, Detail: "SECCOMP_RET_LOG",
			Consequence: "seccomp profiles that use SCMP_ACT_LOG do not log"},
		{Name: "seccomp flags", Have: d.Seccomp.SpecAllow && d.Seccomp.TSyncESRCH, Detail: "SPEC_ALLOW, TSYNC_ESRCH",
			Consequence: "seccomp profiles that ask for these flags are refused"},
	}
}

func (d Description) syscallFindings() []Finding {
	s := d.Syscalls
	mounts := []struct {
		name string
		have bool
	}{{"openat2", s.Openat2}, {"open_tree", s.OpenTree}, {"fsopen", s.Fsopen}, {"move_mount", s.MoveMount}, {"mount_setattr", s.MountSetattr}}
	var lacking []string
	for _, call := range mounts {
		if !call.have {
			lacking = append(lacking, call.name)
		}
	}
	detail := "openat2, open_tree, fsopen, move_mount, mount_setattr"
	if len(lacking) > 0 {
		detail = "lacks " + strings.Join(lacking, ", ")
	}
	return []Finding{
		{Name: "mounts by descriptor", Have: len(lacking) == 0, Required: true, Detail: detail,
			Consequence: "a container's root cannot be built without races, and is not built"},
		{Name: "idmapped mounts", Have: s.MountSetattr, Detail: "MOUNT_ATTR_IDMAP; each file system has to support it too",
			Consequence: "mounts with uidMappings or gidMappings are refused"},
		{Name: "clone3", Have: s.Clone3, Required: true, Detail: "with CLONE_PARENT and namespaces", Consequence: "no container can be started"},
		{Name: "clone into cgroup", Have: s.CloneIntoCgroup, Detail: "CLONE_INTO_CGROUP, cgroup v2 only",
			Consequence: "a container's first process is moved to its cgroup after it was made"},
		{Name: "close_range", Have: s.CloseRange, Required: true, Detail: "CLOSE_RANGE_CLOEXEC",
			Consequence: "no container can be started: descriptors could leak into it"},
		{Name: "pidfd_getfd", Have: s.PidfdOpen && s.PidfdGetfd, Required: true, Detail: "and pidfd_open",
			Consequence: "no container can be started: its listener cannot be taken over"},
		{Name: "pidfd of threads", Have: s.PidfdThread, Detail: "PIDFD_THREAD, Linux 6.9",
			Consequence: "descriptors are taken from a thread's process: threads with a descriptor table of their own are refused"},
	}
}

func (d Description) namespaceFindings() []Finding {
	list := make([]Finding, 0, len(namespaceTypes)+1)
	for _, one := range namespaceTypes {
		list = append(list, Finding{
			Name: one.name + " namespace", Have: d.Namespaces.Has(uint64(one.flag)), Detail: "/proc/self/ns/" + one.name,
			Consequence: "specs that ask for one are refused",
		})
	}
	privileged := d.Capabilities.Has(unix.CAP_SYS_ADMIN)
	allowed := d.UserNS && d.UserNSLimit != "0" && (privileged || d.UnprivilegedUserNS)
	detail := "user.max_user_namespaces " + d.UserNSLimit
	if d.UserNSLimit == "" {
		detail = "user.max_user_namespaces unknown"
	}
	if !d.UnprivilegedUserNS {
		detail += ", kept from users without privilege"
	}
	consequence := "containers with a user namespace are refused"
	if !privileged {
		consequence += ", and without privilege so are all other namespaces"
	}
	return append(list, Finding{Name: "new user namespaces", Have: allowed, Detail: detail, Consequence: consequence})
}

func (d Description) cgroupFindings() []Finding {
	finding := Finding{
		Name: "cgroups", Have: d.Cgroup.Layout != CgroupNone && d.Cgroup.Layout != "",
		Detail:      strings.TrimSpace(string(d.Cgroup.Layout) + ", controllers: " + strings.Join(d.Controllers, " ")),
		Consequence: "containers with resource limits are refused, as are pause and resume; others run without a cgroup",
	}
	if !finding.Have {
		finding.Detail = "nothing is mounted at " + cgroupRoot
	}
	return []Finding{finding}
}

func (d Description) privilegeFindings() []Finding {
	where := "in the initial user namespace"
	if !d.InitialUserNS {
		where = "in a user namespace of its own"
	}
	list := []Finding{{
		Name: "privilege", Have: d.EUID == 0 && d.InitialUserNS, Detail: fmt.Sprintf("uid %d %s", d.EUID, where),
		Consequence: "containers need a user namespace of their own, or no namespaces at all",
	}}
	for _, one := range []struct {
		number      int
		name        string
		consequence string
	}{
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "no mounts or namespaces without a user namespace; filters and Landlock need no_new_privileges"},
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "the monitor is the parent of the container and passes its exit status on"},
		{unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", "hard limits cannot be raised, nor oom_score_adj lowered below the caller's"},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "the loopback device of a new network namespace stays down without a user namespace"},
		{unix.CAP_SETUID, "CAP_SETUID", "containers run as the caller's user only"},
		{unix.CAP_SETGID, "CAP_SETGID", "containers run with the caller's groups only"},
		{unix.CAP_MKNOD, "CAP_MKNOD", "devices are bound from the host instead of made"},
	} {
		list = append(list, Finding{Name: one.name, Have: d.Capabilities.Has(one.number), Detail: "effective set", Consequence: one.consequence})
	}
	scope := d.PtraceScope
	detail := "kernel.yama.ptrace_scope " + scope
	if scope == "" {
		detail = "no Yama"
	}
	// Scope 1 lets a process reach its descendants only, 2 asks for CAP_SYS_PTRACE, 3 forbids tracing altogether.
	return append(list, Finding{
		Name: "tracing", Have: scope != "3" && (scope != "2" || d.Capabilities.Has(unix.CAP_SYS_PTRACE)), Detail: detail,
		Consequence: "policy events cannot carry the arguments of execve",
	})
}

func (d Description) moduleFindings() []Finding {
	return []Finding{
		{Name: "AppArmor", Have: d.AppArmor, Detail: d.modules(), Consequence: "specs with an apparmorProfile are refused"},
		{Name: "SELinux", Have: d.SELinux, Detail: d.modules(), Consequence: "specs with an selinuxLabel or mountLabel are refused"},
	}
}

func (d Description) modules() string {
	if d.LSMs == "" {
		return "the list of security modules is not readable"
	}
	return "security modules: " + d.LSMs
}
