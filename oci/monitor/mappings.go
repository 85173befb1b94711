package monitor

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// mapping is a range of addresses.
type mapping struct{ start, end uintptr } // the layout of struct idle_range

// cleanFileMappings are those of this process; none if they cannot be found out.
func cleanFileMappings() []mapping {
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil
	}
	defer smaps.Close()
	return parseSmaps(bufio.NewScanner(smaps))
}

// parseSmaps returns the mappings of files that a process can only read and has no page of its own in, by /proc/PID/smaps, proc(5). A page that was
// written before the mapping became read-only (as the dynamic loader's tables are) would be lost.
func parseSmaps(smaps *bufio.Scanner) []mapping {
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
