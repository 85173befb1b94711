package seccompnotif

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Features are the parts of seccomp notification that not every kernel has.
type Features struct {
	// SyncWakeUp is SECCOMP_IOCTL_NOTIF_SET_FLAGS with SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, of Linux 6.7. Without it a
	// notification takes several times as long, and no more.
	SyncWakeUp bool
	// WaitKillableRecv is SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, of Linux 5.19. Without it a guest's signal ends its wait at any
	// moment, and a call that was carried out on its behalf is made again. So a guest on whose behalf calls are made is not to be
	// put under a filter without it.
	WaitKillableRecv bool
	// PIDFDThread is PIDFD_THREAD, of Linux 6.9. Without it a thread's descriptors are taken from its process, and a thread with a
	// descriptor table of its own is refused; see [Call.File].
	PIDFDThread bool
	// AddFDSend is SECCOMP_ADDFD_FLAG_SEND, of Linux 5.14. [Supervisor.Attach] fails without it.
	AddFDSend bool
}

// Probe asks the kernel once what it has, by trying; later calls return the same answer. It needs no privilege.
func Probe() (Features, error) { return probed() }

var probed = sync.OnceValues(func() (Features, error) {
	f := Features{
		WaitKillableRecv: filterFlagKnown(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
		PIDFDThread:      pidfdThreadKnown(),
	}
	return f, f.probeListener()
})

// filterFlagKnown tells whether seccomp(SECCOMP_SET_MODE_FILTER) knows all of flags: it looks at them before it follows the
// null pointer to the filter.
func filterFlagKnown(flags uintptr) bool {
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0)
	return e == unix.EFAULT
}

var pidfdThreadKnown = sync.OnceValue(func() bool {
	fd, err := openPIDFD(unix.Gettid(), pidfdThread)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
})

// probeListener tries what needs a listener, on one whose filter allows everything and binds a thread that ends with it.
func (f *Features) probeListener() error {
	result := make(chan error)
	go func() {
		// Never unlocked: Go ends a locked goroutine's thread with it, and starts no thread from a locked one, so neither the
		// filter nor no_new_privs reaches anything else.
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			result <- f.probeOnThisThread()
			return
		}
		// The main thread cannot be ended. Another goroutine gets another thread as long as this one is locked.
		defer runtime.UnlockOSThread()
		result <- f.probeListener()
	}()
	return <-result
}

func (f *Features) probeOnThisThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("seccomp probe: no_new_privs: %w", err)
	}
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	prog := unix.SockFprog{Len: uint16(len(allow)), Filter: &allow[0]}
	r, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(allow)
	if e != 0 {
		return fmt.Errorf("seccomp probe: listener: %w", e)
	}
	fd := int(r)
	defer unix.Close(fd)
	var err error
	if f.SyncWakeUp, err = setSyncWakeUp(fd); err != nil {
		return err
	}
	f.AddFDSend = (&listener{fd: fd}).knowsAddFDSend()
	return nil
}
