package oci

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
)

// denialWriter writes to a container's denial log as its monitor does.
func denialWriter(t *testing.T, f *fake) *os.File {
	t.Helper()
	file, err := os.OpenFile(f.dir.Path()+"/"+denialFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func denialLine(t *testing.T, target string) string {
	t.Helper()
	line, err := json.Marshal(DenialRecord{AuditRecord: monitor.AuditRecord{
		Time: time.Unix(1, 0).UTC(), Verdict: monitor.Denied, PID: 7, Comm: "curl", Syscall: "connect", Protocol: "tcp", Target: target,
		Source: "annotation", Reason: "no rule allows it",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

func TestEventsFollowDenialsUntilTheEnd(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	log := denialWriter(t, f)
	write := func(text string) {
		if _, err := log.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write(denialLine(t, "first"))

	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := r.Events("c", false, time.Hour, in)
		in.Close()
		done <- err
	}()
	decoder := json.NewDecoder(out)
	next := func(want string) {
		t.Helper()
		var event struct {
			Type, ID string
			Data     DenialRecord
		}
		if err := decoder.Decode(&event); err != nil {
			t.Fatal(err)
		}
		if event.Type != "denial" || event.ID != "c" || event.Data.Target != want || event.Data.PID != 7 {
			t.Errorf("%+v, want %s", event, want)
		}
	}
	next("first")
	write(denialLine(t, "second"))
	next("second")
	half := denialLine(t, "third")
	write(half[:20])
	write(half[20:] + denialLine(t, "fourth"))
	next("third")
	next("fourth")
	write(denialLine(t, "last"))
	f.end(t)
	next("last")
	if err := decoder.Decode(new(Event)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFollowUntilTheEndAndAfterwards(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := r.Follow("c", in)
		in.Close()
		done <- err
	}()
	lines := bufio.NewScanner(out)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("got %s, want %s", lines.Text(), want)
		}
	}
	log := denialWriter(t, f)
	write := func(text string) {
		if _, err := log.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	const first = `{"id":"c","time":"1970-01-01T00:00:01Z","verdict":"denied","pid":7,"comm":"curl","syscall":"connect","protocol":"tcp","target":"192.0.2.1:80","rule":"","source":"annotation","reason":"no rule allows it"}`
	write(denialLine(t, "192.0.2.1:80"))
	next(first)
	const audit = `"time":"1970-01-01T00:00:02Z","verdict":"audit","pid":8,"syscall":"execve","rule":"","source":"agent","reason":"so","dropped":3}`
	write("{" + audit + "\n")
	next(`{"id":"c",` + audit)
	f.end(t)
	if lines.Scan() {
		t.Errorf("after the end: %s", lines.Text())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	var afterwards strings.Builder
	if err := r.Follow("c", &afterwards); err != nil || afterwards.String() != first+"\n"+`{"id":"c",`+audit+"\n" {
		t.Errorf("%v, %s", err, &afterwards)
	}
}

func TestEventsTellAuditsFromDenials(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	log := denialWriter(t, f)
	if _, err := log.WriteString(`{"verdict":"audit","syscall":"execve"}` + "\n" + `{"verdict":"denied","syscall":"connect"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	f.end(t)
	var out strings.Builder
	s := eventStream{id: "c", out: json.NewEncoder(&out), denials: denialReader{dir: f.dir}}
	defer s.denials.close()
	if err := s.writeDenials(); err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(out.String(), "\n")
	if !strings.HasPrefix(first, `{"type":"audit"`) || !strings.HasPrefix(second, `{"type":"denial"`) {
		t.Error(out.String())
	}
}

func TestEventsOfALogThatIsMadeLater(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- r.Events("c", false, time.Hour, in) }()
	if _, err := denialWriter(t, f).WriteString(denialLine(t, "only")); err != nil {
		t.Fatal(err)
	}
	var event Event
	if err := json.NewDecoder(out).Decode(&event); err != nil || event.Type != "denial" {
		t.Errorf("%+v, %v", event, err)
	}
	f.end(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEventsStopWhenNobodyReads(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	if _, err := denialWriter(t, f).WriteString(denialLine(t, "x")); err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	out.Close()
	if err := r.Events("c", false, time.Hour, in); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

func TestEventsNeedARunningContainer(t *testing.T) {
	r := newTestRuntime(t)
	f := newFake(t, r, "c", nil)
	if err := r.Events("c", true, time.Hour, io.Discard); !errors.Is(err, cgroup.ErrAbsent) {
		t.Errorf("stats without a cgroup: %v", err)
	}
	f.end(t)
	if err := r.Events("c", false, time.Hour, io.Discard); err == nil || err.Error() != "container with id c is not running" {
		t.Errorf("%v", err)
	}
}

// The readers of "runc events" know these names.
func TestStatsAreNamedAsRuncNamesThem(t *testing.T) {
	counters := cgroups.NewStats()
	counters.CpuStats.CpuUsage = cgroups.CpuUsage{TotalUsage: 3, UsageInKernelmode: 1, UsageInUsermode: 2, PercpuUsage: []uint64{3}}
	counters.CpuStats.ThrottlingData = cgroups.ThrottlingData{Periods: 4, ThrottledPeriods: 5, ThrottledTime: 6}
	counters.MemoryStats.Usage = cgroups.MemoryData{Usage: 7, MaxUsage: 8, Failcnt: 9, Limit: 10}
	counters.MemoryStats.Stats["rss"] = 11
	counters.PidsStats = cgroups.PidsStats{Current: 12, Limit: 13}
	counters.BlkioStats.IoServicedRecursive = []cgroups.BlkioStatEntry{{Major: 8, Minor: 1, Op: "Read", Value: 14}}
	counters.HugetlbStats["2MB"] = cgroups.HugetlbStats{Usage: 15, MaxUsage: 16, Failcnt: 17}
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(Event{"stats", "c", newStats(counters)}); err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"stats","id":"c","data":{"cpu":{"usage":{"total":3,"percpu":[3],"kernel":1,"user":2},` +
		`"throttling":{"periods":4,"throttledPeriods":5,"throttledTime":6}},` +
		`"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,` +
		`"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{"usage":{"limit":10,"usage":7,"max":8,"failcnt":9},"raw":{"rss":11}},"pids":{"current":12,"limit":13},` +
		`"blkio":{"ioServicedRecursive":[{"major":8,"minor":1,"op":"Read","value":14}]},` +
		`"hugetlb":{"2MB":{"usage":15,"max":16,"failcnt":17}},"intel_rdt":{},"network_interfaces":null}}`
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
