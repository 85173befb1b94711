package oci

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// slim gives back the memory that making a container took: a monitor waits for most of its life. What it does need again of its code the
// kernel maps again from the page cache.
func slim() {
	debug.FreeOSMemory()
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer smaps.Close()
	for _, m := range cleanFileMappings(bufio.NewScanner(smaps)) {
		// Its pages are the file's own, so letting go of them loses nothing. If it fails, the monitor is a little larger.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// cleanFileMappings are the mappings of files that this process can only read and has no page of its own in, by /proc/PID/smaps, proc(5). A page that was
// written before the mapping became read-only (as the dynamic loader's tables are) would be lost.
func cleanFileMappings(smaps *bufio.Scanner) []mapping {
	var list []mapping
	var now mapping
	candidate := false
	for smaps.Scan() {
		fields := strings.Fields(smaps.Text())
		if len(fields) < 2 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") {
			candidate = now.parse(fields)
			continue
		}
		if candidate && fields[0] == "Anonymous:" && fields[1] == "0" {
			list = append(list, now)
		}
	}
	return list
}

// parse reads the first line of a mapping: "start-end perms offset device inode path". It says whether the mapping is one of a file that is not writable.
func (m *mapping) parse(fields []string) bool {
	from, to, ok := strings.Cut(fields[0], "-")
	start, err := strconv.ParseUint(from, 16, 64)
	end, endErr := strconv.ParseUint(to, 16, 64)
	if !ok || err != nil || endErr != nil || len(fields) < 6 {
		return false
	}
	m.start, m.end = uintptr(start), uintptr(end)
	return !strings.Contains(fields[1], "w") && fields[4] != "0"
}
