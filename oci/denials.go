package oci

import (
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

const (
	// denialFile holds a JSON line for each denial.
	denialFile = "denials.log"
	// maxDenialFile bounds it, in bytes: a workload can have as many calls denied as it likes.
	maxDenialFile = 4 << 20
	// maxPendingDenials bounds what waits to be written.
	maxPendingDenials = 1024
)

// DenialRecord is one line of the denial log, and what events prints.
type DenialRecord struct {
	Time     time.Time `json:"time"` // UTC
	PID      int       `json:"pid"`  // of the thread, in the monitor's PID namespace
	Comm     string    `json:"comm,omitempty"`
	Syscall  string    `json:"syscall"`
	Protocol string    `json:"protocol,omitempty"`
	Target   string    `json:"target,omitempty"`
	Reason   string    `json:"reason"`
	// Dropped is how many denials before this one were not recorded.
	Dropped int `json:"dropped,omitempty"`
}

// denialLog records what the policy refused, without making whoever was refused wait for the disk.
type denialLog struct {
	log     *logrus.Logger
	dir     *state.Dir
	pending chan monitor.Denial
	done    chan struct{}

	mu      sync.Mutex
	closed  bool
	dropped int
}

func newDenialLog(dir *state.Dir, log *logrus.Logger) *denialLog {
	return &denialLog{log: log, dir: dir}
}

// add takes a denial; it never blocks.
func (d *denialLog) add(denial monitor.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if d.pending == nil {
		d.pending, d.done = make(chan monitor.Denial, maxPendingDenials), make(chan struct{})
		go d.write(d.pending)
	}
	select {
	case d.pending <- denial:
	default:
		d.dropped++
	}
}

// close waits until what has been taken is written.
func (d *denialLog) close() {
	d.mu.Lock()
	d.closed = true
	pending := d.pending
	d.mu.Unlock()
	if pending != nil {
		close(pending)
		<-d.done
	}
}

func (d *denialLog) write(pending <-chan monitor.Denial) {
	defer close(d.done)
	fd, err := unix.Openat(d.dir.Fd(), denialFile, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		d.log.Warnf("%s: %v", denialFile, err)
		for range pending {
			continue
		}
		return
	}
	file := os.NewFile(uintptr(fd), denialFile)
	defer file.Close()
	written := int64(0)
	for denial := range pending {
		record := d.record(denial)
		d.log.WithFields(logrus.Fields{"pid": record.PID, "comm": record.Comm}).Warnf("denied: %s %s %s: %s", record.Syscall, record.Protocol, record.Target, record.Reason)
		line, err := json.Marshal(record)
		if err != nil || written+int64(len(line)) > maxDenialFile {
			d.mu.Lock()
			d.dropped++
			d.mu.Unlock()
			continue
		}
		if n, err := file.Write(append(line, '\n')); err == nil {
			written += int64(n)
		}
	}
}

func (d *denialLog) record(denial monitor.Denial) DenialRecord {
	d.mu.Lock()
	dropped := d.dropped
	d.dropped = 0
	d.mu.Unlock()
	record := DenialRecord{
		Time: time.Now().UTC(), PID: denial.PID, Syscall: denial.Syscall, Protocol: denial.Protocol, Reason: denial.Reason(), Dropped: dropped,
	}
	switch {
	case !denial.Addr.IsValid():
	case denial.Port == 0:
		record.Target = denial.Addr.String()
	default:
		record.Target = netip.AddrPortFrom(denial.Addr, denial.Port).String()
	}
	// The thread waits for nothing any more: its name is what it is now, for people to read.
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(denial.PID) + "/comm"); err == nil {
		record.Comm = strings.TrimSpace(string(comm))
	}
	return record
}
