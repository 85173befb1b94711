package seccompnotif

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// threadGroup returns the process that the thread tid belongs to, from Tgid: in its status (proc_pid_status(5)).
func threadGroup(tid int) (int, error) {
	status, err := readProc(tid, "status")
	if err != nil {
		return 0, err
	}
	return parseTgid(status)
}

func parseTgid(status []byte) (int, error) {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return 0, errors.New("no Tgid: in the task's status")
}

// startTime returns when the process pid started, in clock ticks after boot, from its stat (proc_pid_stat(5)).
func startTime(pid int) (uint64, error) {
	stat, err := readProc(pid, "stat")
	if err != nil {
		return 0, err
	}
	return parseStartTime(stat)
}

// fieldsAfterName is where starttime, field 22, lies among the fields that follow the command name, field 2. The name is in
// parentheses and may itself hold blanks and parentheses.
const fieldsAfterName = 22 - 3

func parseStartTime(stat []byte) (uint64, error) {
	_, rest, ok := cutLast(stat, ')')
	fields := bytes.Fields(rest)
	if !ok || len(fields) <= fieldsAfterName {
		return 0, errors.New("the task's stat has no start time")
	}
	return strconv.ParseUint(string(fields[fieldsAfterName]), 10, 64)
}

func cutLast(b []byte, sep byte) (before, after []byte, ok bool) {
	i := bytes.LastIndexByte(b, sep)
	if i < 0 {
		return b, nil, false
	}
	return b[:i], b[i+1:], true
}

// readProc returns the beginning of /proc/pid/name, which is all that is needed of the two files read here. A task that is
// gone is ESRCH.
func readProc(pid int, name string) ([]byte, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/" + name
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		err = unix.ESRCH
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	b := make([]byte, 1024)
	n, err := unix.Read(fd, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b[:n], nil
}
