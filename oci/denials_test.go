package oci

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

var _ netfilter.DenialLog = (*denialLog)(nil)

// newTestDenialLog is a log whose windows are so long, and what it writes to the runtime's log.
func newTestDenialLog(t *testing.T, window time.Duration) (*denialLog, *bytes.Buffer) {
	t.Helper()
	dir, err := state.Create(t.TempDir(), "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	said := new(bytes.Buffer)
	log := logrus.New()
	log.SetOutput(said)
	d := newDenialLog(dir, log)
	d.window = window
	return d, said
}

func denialTo(port uint16) netfilter.Denial {
	return netfilter.Denial{
		PID: 7, Comm: "curl", FD: 3, Syscall: "connect", Protocol: "tcp", Addr: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Port: port,
	}
}

// deny does with a denial what netfilter does, and tells whether it was counted as a repetition.
func (d *denialLog) deny(denial netfilter.Denial) bool {
	again := denial
	again.Comm = ""
	if d.Repeats(again) {
		return true
	}
	d.Add(denial)
	return false
}

func written(t *testing.T, d *denialLog) []DenialRecord {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.dir.Path(), denialFile))
	if err != nil {
		t.Fatal(err)
	}
	var records []DenialRecord
	for line := range strings.Lines(string(content)) {
		var r DenialRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		records = append(records, r)
	}
	return records
}

// waitWritten waits until the log has so many records.
func waitWritten(t *testing.T, d *denialLog, n int) []DenialRecord {
	t.Helper()
	changes, err := watchDirectory(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer changes.close()
	changed := make(chan struct{}, 1)
	go changes.run(func() { wake(changed) })
	deadline := time.After(10 * time.Second)
	for {
		if _, err := os.Stat(filepath.Join(d.dir.Path(), denialFile)); err == nil {
			if records := written(t, d); len(records) >= n {
				return records
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the log has not got %d records", n)
		}
	}
}

func TestDenialsFirstAtOnceThenCounted(t *testing.T) {
	d, said := newTestDenialLog(t, time.Hour)
	d.deny(denialTo(80))
	if r := waitWritten(t, d, 1)[0]; r.PID != 7 || r.Comm != "curl" || r.Syscall != "connect" || r.Protocol != "tcp" ||
		r.Target != "192.0.2.1:80" || r.Reason != "no rule allows it" || r.Repeated != 0 || r.Dropped != 0 {
		t.Errorf("%+v", r)
	}
	for range 40 {
		if !d.deny(denialTo(80)) {
			t.Fatal("a repetition is not known as one")
		}
	}
	unseen := denialTo(80)
	unseen.Protocol = ""
	if !d.Repeats(unseen) {
		t.Error("a repetition is not known by its address")
	}
	d.deny(denialTo(81))
	d.close()
	records := written(t, d)
	if len(records) != 3 || records[1].Target != "192.0.2.1:81" || records[1].Repeated != 0 {
		t.Fatalf("%+v", records)
	}
	if r := records[2]; r.Target != "192.0.2.1:80" || r.Repeated != 41 || r.Comm != "curl" || r.Protocol != "tcp" || r.Time.Before(records[0].Time) {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(said.String(), "denied: "); n != 2 || strings.Count(said.String(), "denied again: ") != 1 {
		t.Errorf("the runtime's log says %s", said)
	}
	if !d.Repeats(denialTo(82)) {
		t.Error("a closed log asks for more")
	}
	d.Add(denialTo(82)) // nothing comes of it
}

func TestDenialsAreCountedByWindow(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Millisecond)
	for windows := 1; windows <= 3; windows++ {
		for d.deny(denialTo(80)) {
			continue // until the window is over
		}
	}
	d.close()
	firsts, repeated := 0, 0
	for _, r := range written(t, d) {
		if r.Repeated == 0 {
			firsts++
		}
		repeated += r.Repeated
	}
	if firsts < 3 {
		t.Errorf("%d denials of 3 windows have records of their own, and %d were counted", firsts, repeated)
	}
}

// What differs in anything that is known of it is another denial.
func TestDenialsToldApart(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	rule, err := netfilter.ParseRule("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*netfilter.Denial){
		func(*netfilter.Denial) {},
		func(n *netfilter.Denial) { n.PID++ },
		func(n *netfilter.Denial) { n.FD++ },
		func(n *netfilter.Denial) { n.Port++ },
		func(n *netfilter.Denial) { n.Addr = n.Addr.Next() },
		func(n *netfilter.Denial) { n.Syscall = "sendto" },
		func(n *netfilter.Denial) { n.Protocol = "udp" },
		func(n *netfilter.Denial) { n.Verdict.Rule = &rule },
		func(n *netfilter.Denial) { n.Because = "so" },
	} {
		denial := denialTo(80)
		change(&denial)
		if d.deny(denial) {
			t.Errorf("denial %d passes for a repetition", i)
		}
	}
	d.close()
	if records := written(t, d); len(records) != 9 {
		t.Errorf("%+v", records)
	}
}

// Repetitions that were counted before the descriptor became another socket are not lost.
func TestDenialsOfAnotherSocket(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	udp := denialTo(80)
	udp.Protocol = "udp"
	for _, denial := range []netfilter.Denial{denialTo(80), denialTo(80), denialTo(80), udp, udp} {
		d.deny(denial)
	}
	d.close()
	var got []string
	for _, r := range written(t, d) {
		got = append(got, r.Protocol+strings.Repeat("+", r.Repeated))
	}
	if strings.Join(got, " ") != "tcp tcp++ udp udp+" {
		t.Errorf("%q", got)
	}
}

func TestDenialsBeyondTheBoundAreDropped(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	for i := range maxDenialSeries + 10 {
		if counted := d.deny(denialTo(uint16(i + 1))); counted != (i >= maxDenialSeries) {
			t.Errorf("denial %d: counted: %v", i, counted)
		}
	}
	if len(d.series) != maxDenialSeries {
		t.Errorf("%d series", len(d.series))
	}
	if !d.deny(denialTo(1)) { // of a series that has room
		t.Error("a repetition is not known as one")
	}
	d.close()
	records := written(t, d)
	dropped := 0
	for _, r := range records {
		dropped += r.Dropped
	}
	if len(records) != maxDenialSeries+1 || dropped != 10 {
		t.Errorf("%d records, %d dropped", len(records), dropped)
	}
}

func TestDenialLogIsBounded(t *testing.T) {
	d, said := newTestDenialLog(t, time.Millisecond)
	long := denialTo(80)
	long.Because = strings.Repeat("x", maxDenialFile/8)
	for i := range 12 {
		long.Port = uint16(i + 1)
		d.deny(long)
		if i < 7 {
			waitWritten(t, d, i+1)
		}
	}
	d.close()
	info, err := os.Stat(filepath.Join(d.dir.Path(), denialFile))
	if err != nil || info.Size() > maxDenialFile || len(written(t, d)) != 7 {
		t.Errorf("%v, %v", info.Size(), err)
	}
	if n := strings.Count(said.String(), "no more denials are recorded"); n != 1 {
		t.Errorf("it is said %d times that the log is full", n)
	}
}

func TestDenialLogThatCannotBeMade(t *testing.T) {
	d, said := newTestDenialLog(t, time.Hour)
	if err := os.Symlink("elsewhere", filepath.Join(d.dir.Path(), denialFile)); err != nil {
		t.Fatal(err)
	}
	d.deny(denialTo(80))
	d.close()
	if !strings.Contains(said.String(), "no more denials are recorded") {
		t.Errorf("the runtime's log says %s", said)
	}
}

func TestDenialsAddUp(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Millisecond)
	const workers, each = 8, 2000
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				denial := denialTo(uint16(i%5 + 1))
				denial.PID = w
				d.deny(denial)
			}
		})
	}
	group.Wait()
	d.close()
	total := d.dropped
	for _, r := range written(t, d) {
		total += r.Dropped + max(r.Repeated, 1)
	}
	if total != workers*each {
		t.Errorf("%d denials of %d are accounted for", total, workers*each)
	}
}

func TestRepetitionDoesNotAllocate(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	d.deny(denialTo(80))
	defer d.close()
	again := denialTo(80)
	if n := testing.AllocsPerRun(100, func() { d.Repeats(again) }); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
