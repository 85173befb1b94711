package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Process identifies a process of this boot. The zero value is no process.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat: clock ticks since boot, proc_pid_stat(5).
	StartTime uint64 `json:"startTime"`
}

// ProcessFacts is what /proc tells of a pid. The zero value: there is none.
type ProcessFacts struct {
	StartTime uint64
	Zombie    bool // ended, not reaped
}

// Is tells whether the facts are those of p, and p has not ended.
func (f ProcessFacts) Is(p Process) bool {
	return p.PID > 0 && f.StartTime == p.StartTime && p.StartTime != 0 && !f.Zombie
}

// IdentifyProcess makes the identity of a running process. The error is fs.ErrNotExist if there is none.
func IdentifyProcess(pid int) (Process, error) {
	f, err := readProcess(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, StartTime: f.StartTime}, nil
}

// ObserveProcess looks pid up in /proc. That there is no such process is a fact, not an error.
func ObserveProcess(pid int) (ProcessFacts, error) {
	if pid <= 0 {
		return ProcessFacts{}, nil
	}
	f, err := readProcess(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ProcessFacts{}, nil
	}
	return f, err
}

func readProcess(pid int) (ProcessFacts, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	text, err := readLine(path)
	if err != nil {
		return ProcessFacts{}, err
	}
	f, err := parseStat(text)
	if err != nil {
		return ProcessFacts{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// readLine is [os.ReadFile] for a file of proc(5) with one short line, without the six system calls by which that finds out whether the file can be polled and how long it is: a list of
// containers reads two for each.
func readLine(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 4096) // of stat, the longest: 52 numbers and a name of 64 bytes are less than half of that
	n, err := unix.Read(fd, text)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return text[:n], nil
}

// parseStat reads state and start time off a line of /proc/PID/stat. The second field, the command's name, may hold
// anything, blanks and parentheses too; what follows its last parenthesis does not.
func parseStat(text []byte) (ProcessFacts, error) {
	const (
		// Fields are counted from one in proc_pid_stat(5); the first after the name is the third, so these are 3 and 22.
		state     = 0
		startTime = 19
	)
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return ProcessFacts{}, errors.New("no command name")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) <= startTime {
		return ProcessFacts{}, fmt.Errorf("only %d fields after the command name", len(fields))
	}
	start, err := strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return ProcessFacts{}, fmt.Errorf("start time %q is no number", fields[startTime])
	}
	dead := fields[state] == "Z" || fields[state] == "X" || fields[state] == "x"
	return ProcessFacts{StartTime: start, Zombie: dead}, nil
}

// BootID identifies this boot of the machine, random(4).
func BootID() (string, error) { return bootID() }

// bootID reads it once: no process lives longer than its boot.
var bootID = sync.OnceValues(func() (string, error) {
	text, err := readLine("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
})
