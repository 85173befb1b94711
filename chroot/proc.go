package chroot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// overlaidProcFiles are the files of /proc that may be covered one by one: lxcfs and the like put a container's own numbers there.
var overlaidProcFiles = [...]string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid",
}

// checkProc refuses mounts over /proc that would have a runtime, or the workload's security modules, write to a file of the image
// where they mean to write to the kernel. Links that lead into /proc are found at run time; see target.go. A bind over the whole of /proc is
// decided by [Open], which can see what the source is.
func checkProc(e Entry) error {
	if e.Destination == "/proc" {
		if e.Kind == Bind || e.Type == "proc" {
			return nil
		}
		return errors.New("only a proc filesystem can be mounted there")
	}
	if !strings.HasPrefix(e.Destination, "/proc/") || slices.Contains(overlaidProcFiles[:], e.Destination) {
		return nil
	}
	return fmt.Errorf("it is inside /proc, where only %s can be mounted over", strings.Join(overlaidProcFiles[:], ", "))
}
