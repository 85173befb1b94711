package monitor

import "golang.org/x/sys/unix"

// ExitStatus is how the container's first process has ended, or nil where only its parent can know: before Linux 6.15, and while it is a
// zombie.
func (m *Monitor) ExitStatus() *unix.WaitStatus {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(int(m.init.Fd()), &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return nil
	}
	status := unix.WaitStatus(info.Exit_code)
	return &status
}
