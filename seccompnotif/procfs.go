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

// parseTracing returns the letter of State: and the number of TracerPid: in a task's status.
func parseTracing(status []byte) (state byte, tracer int, err error) {
	value, ok := statusField(status, "State:")
	if value = bytes.TrimSpace(value); !ok || len(value) == 0 {
		return 0, 0, errors.New("no State: in the task's status")
	}
	tracer, err = statusNumber(status, "TracerPid:")
	return value[0], tracer, err
}

// taskStat is what is needed of a task's stat (proc_pid_stat(5)).
type taskStat struct {
	state  byte // a letter
	parent int
	start  uint64 // clock ticks after boot
}

func readStat(pid int) (taskStat, error) {
	stat, err := readProc(pid, "stat")
	if err != nil {
		return taskStat{}, err
	}
	return parseStat(stat)
}

// Where fields lie among those that follow the command name, field 2. The name is in parentheses and may itself hold blanks and
// parentheses.
const (
	stateField  = 0
	parentField = 4 - 3
	startField  = 22 - 3
)

func parseStat(stat []byte) (s taskStat, err error) {
	_, rest, ok := cutLast(stat, ')')
	fields := bytes.Fields(rest)
	if !ok || len(fields) <= startField {
		return s, errors.New("the task's stat has no start time")
	}
	s.state = fields[stateField][0]
	if s.parent, err = strconv.Atoi(string(fields[parentField])); err != nil {
		return s, err
	}
	s.start, err = strconv.ParseUint(string(fields[startField]), 10, 64)
	return s, err
}

// parseEnvironmentEnd returns field 51 of a process's stat, the address behind its environment.
func parseEnvironmentEnd(stat []byte) (uint64, error) {
	const field = 51 - 3
	_, rest, _ := cutLast(stat, ')')
	fields := bytes.Fields(rest)
	if len(fields) <= field {
		return 0, errors.New("the task's stat does not say where its environment is")
	}
	return strconv.ParseUint(string(fields[field]), 10, 64)
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
	return readTaskFile("/proc/" + strconv.Itoa(pid) + "/" + name)
}

// readTask is readProc for the file of a thread.
func readTask(pid, tid int, name string) ([]byte, error) {
	return readTaskFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/" + name)
}

// taskState returns the letter of the thread's state, zero if it is gone.
func taskState(pid, tid int) byte {
	stat, err := readTask(pid, tid, "stat")
	if err != nil {
		return 0
	}
	s, err := parseStat(stat)
	if err != nil {
		return 0
	}
	return s.state
}

func readTaskFile(path string) ([]byte, error) {
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
