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

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/plan"
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

// DenialRecord is one line of the denial log, and what events prints: a call that was denied, or was allowed and is to be on
// record.
type DenialRecord struct {
	monitor.AuditRecord
	// Repeated, if not 0, says that the record stands for so many more calls of the thread that were denied after one that has
	// a record of its own, and until Time: the same system call on the same descriptor number to the same target. Where no
	// protocol may reach the target, they may have been counted without a look at the socket: Protocol and Reason are then those
	// of the first.
	Repeated int `json:"repeated,omitempty"`
	// Dropped is how many records before this one there was no room for.
	Dropped int `json:"dropped,omitempty"`
}

// pendingRecord waits to be written. Which rule of which source decided is found out by the writer.
type pendingRecord struct {
	DenialRecord
	verdict netfilter.Verdict
}

// noRuleAsked is the verdict of records that no egress rule decided.
var noRuleAsked = netfilter.Verdict{Allowed: true}

// denialLog records what the policy refused, without making whoever was refused wait for the disk. It implements
// [monitor.AuditLog]. The first denial of a kind is written at once; more of them within a window are counted, which wakes
// nobody, and written as one record when the window is over.
type denialLog struct {
	log    *logrus.Logger
	dir    *state.Dir
	window time.Duration // repeatWindow, but for tests
	rules  plan.Decider

	mu      sync.Mutex
	series  map[seriesKey]*denialSeries
	pending []pendingRecord
	dropped int    // since the last record
	lost    uint64 // dropped in all
	full    bool   // the file is, or cannot be written to: nothing more is recorded
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
	record   pendingRecord
	repeated int
}

func newDenialLog(dir *state.Dir, log *logrus.Logger, rules plan.Decider) *denialLog {
	return &denialLog{log: log, dir: dir, window: repeatWindow, rules: rules, series: map[seriesKey]*denialSeries{}}
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
		d.drop(1)
	default:
		return false
	}
	return true
}

func (d *denialLog) hasRoom() bool {
	return !d.full && len(d.series) < maxDenialSeries && len(d.pending) < maxPendingDenials
}

// drop counts what is not recorded. The log is locked.
func (d *denialLog) drop(n int) {
	d.dropped += n
	d.lost += uint64(n)
}

// Dropped returns how many records there was no room for.
func (d *denialLog) Dropped() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
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
		d.drop(1)
		return
	}
	d.series[key] = &denialSeries{first: denial, record: record}
	d.enqueue(record)
}

// Record takes a record of another kind; it never blocks. Each has a line of its own.
func (d *denialLog) Record(of monitor.AuditRecord) {
	if of.Time.IsZero() {
		of.Time = time.Now()
	}
	of.Time = of.Time.UTC()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
	case d.full || len(d.pending) >= maxPendingDenials:
		d.drop(1)
	default:
		d.enqueue(pendingRecord{DenialRecord: DenialRecord{AuditRecord: of}, verdict: noRuleAsked})
	}
}

// enqueue gives a record to the writer. The log is locked.
func (d *denialLog) enqueue(record pendingRecord) {
	d.pending = append(d.pending, record)
	if d.wake == nil {
		d.wake, d.done = make(chan struct{}, 1), make(chan struct{})
		go d.write()
	}
	wake(d.wake)
}

func newDenialRecord(denial monitor.Denial) pendingRecord {
	record := pendingRecord{verdict: denial.Verdict}
	record.AuditRecord = monitor.AuditRecord{
		Time: time.Now().UTC(), Verdict: monitor.Denied, PID: denial.PID, Comm: denial.Comm,
		Syscall: denial.Syscall, Protocol: denial.Protocol, Reason: denial.Reason(),
	}
	if denial.Because != "" {
		record.verdict = noRuleAsked
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
		d.drop(s.repeated)
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
func (d *denialLog) take() (records []pendingRecord, open, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	records, d.pending = d.pending, nil
	if len(records) == 0 && d.dropped > 0 {
		// Nothing else is there to tell of them.
		dropped := monitor.AuditRecord{Time: time.Now().UTC(), Verdict: monitor.Denied, Reason: "there was no room for records"}
		records = []pendingRecord{{DenialRecord: DenialRecord{AuditRecord: dropped}, verdict: noRuleAsked}}
	}
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
func (d *denialLog) writeAll(file *os.File, records []pendingRecord, written int) int {
	for _, record := range records {
		d.mu.Lock()
		full := d.full
		d.mu.Unlock()
		if full {
			break
		}
		if record.Rule == "" && record.Source == "" {
			record.Rule, record.Source = d.rules.Rule(record.verdict)
		}
		line, err := json.Marshal(record.DenialRecord)
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
		d.tell(&record.DenialRecord)
	}
	return written
}

// tell writes a record to the runtime's log.
func (d *denialLog) tell(record *DenialRecord) {
	message := string(record.Verdict)
	if record.Syscall == "" {
		d.log.Warnf("%s: %d calls: %s", message, record.Dropped, record.Reason)
		return
	}
	fields := logrus.Fields{"pid": record.PID, "comm": record.Comm}
	if record.Source != "" {
		fields["source"] = record.Source
	}
	if record.Repeated > 0 {
		message += " again"
		fields["repeated"] = record.Repeated
	}
	what := record.Syscall
	for _, more := range []string{record.Protocol, record.Target} {
		if more != "" {
			what += " " + more
		}
	}
	d.log.WithFields(fields).Warnf("%s: %s: %s", message, what, record.Reason)
}
