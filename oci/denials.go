package oci

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

const (
	// denialFile holds a JSON line for each denial that is not a repetition, and one for all repetitions of it in a while.
	denialFile = "denials.log"
	// maxDenialFile bounds it, in bytes: a workload can have as many calls denied as it likes.
	maxDenialFile = 4 << 20
	// maxPendingDenials bounds what waits to be written, and maxDenialSeries the kinds of denials that are told apart at a time.
	// Beyond either a denial is dropped.
	maxPendingDenials = 1024
	maxDenialSeries   = 256
	// repeatWindow is how long repetitions are counted before the count is written.
	repeatWindow = 2 * time.Second
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
	// Repeated, if not 0, says that the record stands for so many more calls of the thread that were denied after one that has
	// a record of its own, and until Time: the same system call on the same descriptor number to the same target. Where no
	// protocol may reach the target, they may have been counted without a look at the socket: Protocol and Reason are then those
	// of the first.
	Repeated int `json:"repeated,omitempty"`
	// Dropped is how many denials before this one were not recorded.
	Dropped int `json:"dropped,omitempty"`
}

// denialLog records what the policy refused, without making whoever was refused wait for the disk. It implements
// [netfilter.DenialLog]. The first denial of a kind is written at once; more of them within a window are counted, which wakes
// nobody, and written as one record when the window is over.
type denialLog struct {
	log    *logrus.Logger
	dir    *state.Dir
	window time.Duration // repeatWindow, but for tests

	mu      sync.Mutex
	series  map[seriesKey]*denialSeries
	pending []DenialRecord
	dropped int  // since the last record
	full    bool // the file is, or cannot be written to: nothing more is recorded
	closed  bool
	wake    chan struct{} // tells the writer of something pending; nil until there is a writer
	done    chan struct{} // the writer has ended
}

// seriesKey is what the denials of a series have in common.
type seriesKey struct {
	pid, fd int
	syscall string
	target  netip.AddrPort
}

// denialSeries is a denial that has been recorded, and how often it was repeated since.
type denialSeries struct {
	first    monitor.Denial
	record   DenialRecord
	repeated int
}

func newDenialLog(dir *state.Dir, log *logrus.Logger) *denialLog {
	return &denialLog{log: log, dir: dir, window: repeatWindow, series: map[seriesKey]*denialSeries{}}
}

func keyOf(denial *monitor.Denial) seriesKey {
	return seriesKey{denial.PID, denial.FD, denial.Syscall, netip.AddrPortFrom(denial.Addr, denial.Port)}
}

// repeatedBy tells whether a denial is of the series, as far as is known of it.
func (s *denialSeries) repeatedBy(denial *monitor.Denial) bool {
	return denial.Protocol == "" ||
		denial.Protocol == s.first.Protocol && denial.Verdict == s.first.Verdict && denial.Because == s.first.Because
}

// Repeats counts a denial that is one more of a series, or that there is no room to record. It does not allocate.
func (d *denialLog) Repeats(denial monitor.Denial) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.series[keyOf(&denial)]
	switch {
	case d.closed:
	case s != nil && s.repeatedBy(&denial):
		s.repeated++
	case s == nil && !d.hasRoom():
		d.dropped++
	default:
		return false
	}
	return true
}

func (d *denialLog) hasRoom() bool {
	return !d.full && len(d.series) < maxDenialSeries && len(d.pending) < maxPendingDenials
}

// Add takes the first denial of a series; it never blocks.
func (d *denialLog) Add(denial monitor.Denial) {
	record := newDenialRecord(denial)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	key := keyOf(&denial)
	if s := d.series[key]; s != nil { // the descriptor is another socket by now
		delete(d.series, key)
		d.append(s, record.Time)
	}
	if !d.hasRoom() {
		d.dropped++
		return
	}
	d.series[key] = &denialSeries{first: denial, record: record}
	d.pending = append(d.pending, record)
	if d.wake == nil {
		d.wake, d.done = make(chan struct{}, 1), make(chan struct{})
		go d.write()
	}
	wake(d.wake)
}

func newDenialRecord(denial monitor.Denial) DenialRecord {
	record := DenialRecord{
		Time: time.Now().UTC(), PID: denial.PID, Comm: denial.Comm,
		Syscall: denial.Syscall, Protocol: denial.Protocol, Reason: denial.Reason(),
	}
	switch {
	case !denial.Addr.IsValid():
	case denial.Port == 0:
		record.Target = denial.Addr.String()
	default:
		record.Target = netip.AddrPortFrom(denial.Addr, denial.Port).String()
	}
	return record
}

// append makes the repetitions of a series that has ended pending. The log is locked.
func (d *denialLog) append(s *denialSeries, now time.Time) {
	switch {
	case s.repeated == 0:
	case d.full || len(d.pending) >= maxPendingDenials+maxDenialSeries:
		d.dropped += s.repeated
	default:
		s.record.Time, s.record.Repeated = now, s.repeated
		d.pending = append(d.pending, s.record)
	}
}

// endSeries makes the repetitions of all series pending, and begins anew.
func (d *denialLog) endSeries() {
	d.mu.Lock()
	defer d.mu.Unlock()
	ended := make([]*denialSeries, 0, len(d.series))
	for _, s := range d.series {
		ended = append(ended, s)
	}
	slices.SortFunc(ended, func(a, b *denialSeries) int { return a.record.Time.Compare(b.record.Time) })
	now := time.Now().UTC()
	for _, s := range ended {
		d.append(s, now)
	}
	d.series = map[seriesKey]*denialSeries{}
}

// take returns what is to be written, and whether series are open and the log is closed.
func (d *denialLog) take() (records []DenialRecord, open, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	records, d.pending = d.pending, nil
	if len(records) > 0 {
		records[0].Dropped, d.dropped = d.dropped, 0
	}
	return records, len(d.series) > 0, d.closed
}

// stop has no more denials recorded.
func (d *denialLog) stop(reason any) {
	d.log.Warnf("%s: %v: no more denials are recorded", denialFile, reason)
	d.mu.Lock()
	d.full = true
	d.mu.Unlock()
}

// close waits until what has been taken is written.
func (d *denialLog) close() {
	d.mu.Lock()
	d.closed = true
	woken, done := d.wake, d.done
	d.mu.Unlock()
	if woken != nil {
		wake(woken)
		<-done
	}
}

// write is the writer, until the log is closed.
func (d *denialLog) write() {
	defer close(d.done)
	var file *os.File
	fd, err := unix.Openat(d.dir.Fd(), denialFile, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == nil {
		file = os.NewFile(uintptr(fd), denialFile)
		defer file.Close()
	} else {
		d.stop(err)
	}
	written := 0
	var over <-chan time.Time // of the window; nil while there is none
	for {
		select {
		case <-d.wake:
		case <-over:
			over = nil
			d.endSeries()
		}
		records, open, closed := d.take()
		written = d.writeAll(file, records, written)
		if closed {
			d.endSeries()
			records, _, _ = d.take()
			d.writeAll(file, records, written)
			return
		}
		if open && over == nil {
			over = time.After(d.window)
		}
	}
}

// writeAll writes records to the log file, which has so many bytes already, and to the runtime's log. It returns how many the
// file has then.
func (d *denialLog) writeAll(file *os.File, records []DenialRecord, written int) int {
	for _, record := range records {
		d.mu.Lock()
		full := d.full
		d.mu.Unlock()
		if full {
			break
		}
		line, err := json.Marshal(record)
		if err != nil { // no record is so
			continue
		}
		if written+len(line) >= maxDenialFile {
			d.stop("is full")
			break
		}
		n, err := file.Write(append(line, '\n'))
		if written += n; err != nil {
			d.stop(err)
			break
		}
		message := "denied"
		fields := logrus.Fields{"pid": record.PID, "comm": record.Comm}
		if record.Repeated > 0 {
			message = "denied again"
			fields["repeated"] = record.Repeated
		}
		d.log.WithFields(fields).Warnf("%s: %s %s %s: %s", message, record.Syscall, record.Protocol, record.Target, record.Reason)
	}
	return written
}
