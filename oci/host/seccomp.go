package host

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Seccomp is what the kernel's seccomp can do beyond plain filters, see seccomp(2).
type Seccomp struct {
	Notify bool `json:"notify"` // SECCOMP_RET_USER_NOTIF: calls can be handed to a supervisor
	Log    bool `json:"log"`    // SECCOMP_RET_LOG
	// WaitKillable: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, so that a signal does not interrupt a call being answered.
	WaitKillable bool `json:"wait_killable_recv"`
	// SpecAllow: SECCOMP_FILTER_FLAG_SPEC_ALLOW, filters that leave speculative stores on.
	SpecAllow bool `json:"spec_allow"`
	// TSyncESRCH: SECCOMP_FILTER_FLAG_TSYNC_ESRCH, a listener together with thread synchronisation.
	TSyncESRCH bool `json:"tsync_esrch"`
}

// Listener is what a seccomp listener can do, which is found out on one.
type Listener struct {
	// SyncWakeUp: SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, with which supervisor and guest wake each other on the same CPU.
	SyncWakeUp bool `json:"sync_wake_up"`
	// AddFDSend: SECCOMP_ADDFD_FLAG_SEND, a descriptor and the answer in one step.
	AddFDSend bool `json:"addfd_send"`
	// Error says why no listener could be tried.
	Error string `json:"error,omitempty"`
}

func probeListener() Listener {
	features, err := seccompnotif.Probe()
	l := Listener{SyncWakeUp: features.SyncWakeUp, AddFDSend: features.AddFDSend}
	if err != nil {
		l.Error = err.Error()
	}
	return l
}

func probeSeccomp() Seccomp {
	return Seccomp{
		Notify:       seccompAction(unix.SECCOMP_RET_USER_NOTIF),
		Log:          seccompAction(unix.SECCOMP_RET_LOG),
		WaitKillable: seccompFlags(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
		SpecAllow:    seccompFlags(unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW),
		TSyncESRCH: seccompFlags(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC |
			unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH),
	}
}

// seccompAction asks whether a filter may return an action.
func seccompAction(action uint32) bool {
	_, _, number := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return number == 0
}

// seccompFlags asks whether filters may be installed with some flags. The kernel looks at the flags before it looks for the
// filter, and there is none to be found: EFAULT is yes and EINVAL is no.
func seccompFlags(flags uintptr) bool {
	_, _, number := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0)
	return errors.Is(number, unix.EFAULT)
}
