package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// AppArmor says whether AppArmor is in force, so that a profile can be given to a process.
func AppArmor() bool {
	value, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(value) > 0 && value[0] == 'Y'
}

// SELinux says whether SELinux is in force, so that labels can be given to processes and mounts.
func SELinux() bool {
	return fsType("/sys/fs/selinux") == unix.SELINUX_MAGIC
}
