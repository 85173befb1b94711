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
	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

var _ monitor.AuditLog = (*denialLog)(nil)

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
	d := newDenialLog(dir, log, testPlan().Decider())
	d.window = window
	return d, said
}

// testPlan is one with rules of three sources.
func testPlan() *plan.Plan {
	return &plan.Plan{Policy: policy.Policy{
		Network: policy.Network{
			Allow: [][]string{{"*"}, {"10.0.0.0/8"}}, Deny: []string{"192.0.2.0/24:80", "198.51.100.0/24"}, DenyFrom: []string{"/p.toml:7", policy.FromAnnotation},
		},
		Provenance: map[string][]string{"network.allow": {"/p.toml:3", policy.FromAnnotation}, "network.deny": {"/p.toml:7", policy.FromAnnotation}},
	}}
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
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
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
		r.Target != "192.0.2.1:80" || r.Verdict != monitor.Denied || r.Reason != "no rule allows it" || r.Repeated != 0 || r.Dropped != 0 {
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

// Each record names the rule that decided and where it was given.
func TestDenialsNameTheirRule(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	p := testPlan()
	deny, err := netfilter.ParseRules(p.Policy.Network.Deny)
	if err != nil {
		t.Fatal(err)
	}
	var egress netfilter.Policy
	for _, texts := range p.Policy.Network.Allow {
		allow, err := netfilter.ParseRules(texts)
		if err != nil {
			t.Fatal(err)
		}
		egress = egress.Tighten(netfilter.NewPolicy(allow, nil))
	}
	egress = egress.Tighten(netfilter.NewPolicy(nil, deny))
	tests := []struct{ to, rule, source, reason string }{
		{"192.0.2.1:80", "192.0.2.0/24:80", "/p.toml:7", "denied by rule 192.0.2.0/24:80"},
		{"198.51.100.9:1", "198.51.100.0/24", "annotation", "denied by rule 198.51.100.0/24"},
		{"203.0.113.1:443", "", "annotation", "no rule allows it"},
	}
	for _, test := range tests {
		to := netip.MustParseAddrPort(test.to)
		denial := denialTo(to.Port())
		denial.Addr = to.Addr()
		if denial.Verdict = egress.Judge(netfilter.TCP, to.Addr(), to.Port()); denial.Verdict.Allowed {
			t.Fatalf("%s is allowed", test.to)
		}
		d.deny(denial)
	}
	other := denialTo(1)
	other.Because = "no rule can allow this protocol"
	d.deny(other)
	d.close()
	records := written(t, d)
	if len(records) != len(tests)+1 {
		t.Fatalf("%+v", records)
	}
	for i, test := range tests {
		if r := records[i]; r.Target != test.to || r.Rule != test.rule || r.Source != test.source || r.Reason != test.reason {
			t.Errorf("%+v, want %+v", r, test)
		}
	}
	if r := records[len(tests)]; r.Rule != "" || r.Source != "" || r.Reason != other.Because {
		t.Errorf("%+v, and no rule decided", r)
	}
}

// What others put on record has its own verdict, rule and source.
func TestAuditRecords(t *testing.T) {
	d, said := newTestDenialLog(t, time.Hour)
	asked := monitor.AuditRecord{Verdict: monitor.Audited, PID: 5, Comm: "sh", Syscall: "execve", Source: "agent", Reason: "allowed, to be on record"}
	d.Record(asked)
	d.Record(monitor.AuditRecord{Verdict: monitor.Denied, PID: 5, Syscall: "openat", Reason: "no verdict in 5 s"})
	d.close()
	d.Record(asked) // nothing comes of it
	records := written(t, d)
	if len(records) != 2 || records[0].Time.IsZero() {
		t.Fatalf("%+v", records)
	}
	records[0].Time = time.Time{}
	if records[0] != (DenialRecord{AuditRecord: asked}) || records[1].Rule != "" || records[1].Source != "" {
		t.Errorf("%+v", records)
	}
	for _, want := range []string{`"audit: execve: allowed, to be on record"`, `"denied: openat: no verdict in 5 s"`} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the runtime's log has no %s: %s", want, said)
		}
	}
}

// A log that cannot keep up drops, and tells how many, in the end though no other record is there to tell it.
func TestDroppedRecordsAreToldOf(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	d.wake, d.done = make(chan struct{}, 1), make(chan struct{}) // a writer that does not write yet
	const more = 7
	for range maxPendingDenials + more {
		d.Record(monitor.AuditRecord{Verdict: monitor.Audited, Syscall: "execve"})
	}
	if n := d.Dropped(); n != more {
		t.Errorf("%d are said to be dropped", n)
	}
	go d.write()
	d.close()
	if records := written(t, d); len(records) != maxPendingDenials || records[0].Dropped != more {
		t.Errorf("%d records, and the first tells of %d", len(records), records[0].Dropped)
	}

	d, _ = newTestDenialLog(t, time.Hour)
	d.deny(denialTo(80))
	waitWritten(t, d, 1)
	d.mu.Lock()
	d.drop(3)
	d.mu.Unlock()
	d.close()
	if records := written(t, d); len(records) != 2 || records[1].Dropped != 3 || records[1].Syscall != "" {
		t.Errorf("%+v", records)
	}
}

func TestRecordingDoesNotWaitForTheDisk(t *testing.T) {
	d, _ := newTestDenialLog(t, time.Hour)
	d.wake, d.done = make(chan struct{}, 1), make(chan struct{}) // a disk that hangs
	for i := range 3 * maxPendingDenials {
		d.deny(denialTo(uint16(i + 1)))
		d.Record(monitor.AuditRecord{})
	}
	if n := len(d.pending); n > maxPendingDenials {
		t.Errorf("%d records are pending", n)
	}
}
