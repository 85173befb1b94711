package state

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func record() *Record {
	return &Record{
		Version: version, ID: "c", Bundle: "/b", Rootfs: "/b/rootfs",
		Annotations: map[string]string{"k": "v"},
		Created:     time.Date(2025, 1, 2, 3, 4, 5, 6, time.UTC),
		BootID:      "boot", Init: Process{PID: 10, StartTime: 100}, Monitor: Process{PID: 20, StartTime: 200},
		Namespaces:  map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "/proc/10/ns/pid"},
		CgroupPaths: map[string]string{"": "/x"}, Cgroup: json.RawMessage(`{"a":1}`), Details: json.RawMessage(`[]`),
	}
}

func TestRecordThere(t *testing.T) {
	d := create(t, t.TempDir(), "c")
	if _, err := d.Load(); !errors.Is(err, ErrNoRecord) || !errors.Is(err, ErrNotExist) {
		t.Errorf("nothing saved: %v", err)
	}
	want := record()
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	for _, first := range []bool{true, false} {
		if got, err := d.MarkStarted(); err != nil || got != first {
			t.Errorf("MarkStarted = %v, %v", got, err)
		}
	}
	exit := Exit{Code: 137, Signal: 9, Time: want.Created, Reason: "killed"}
	if err := d.SaveExit(exit); err != nil {
		t.Fatal(err)
	}
	// The record may be saved again without harm to what others have written.
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	want.Started, want.Exit = true, &exit
	if got, err = d.Load(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestOneOfManyStartsWins(t *testing.T) {
	d := create(t, t.TempDir(), "c")
	var won atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if first, err := d.MarkStarted(); err != nil {
				t.Error(err)
			} else if first {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d starts won", won.Load())
	}
}

func TestBadRecords(t *testing.T) {
	for _, tt := range []struct {
		text, want string
		half       bool
	}{
		{"", "empty file", true},
		{`{"version":1,"id":"c"`, "unexpected end", true},
		{"\x00\x00\x00", "invalid character", true},
		{`{"version":2,"id":"c"}`, "field version: it is 2, this program knows 1", false},
		{`{"version":1,"id":"d"}`, `field id: it is "d"`, false},
	} {
		d := create(t, t.TempDir(), "c")
		if err := os.WriteFile(d.Path()+"/state.json", []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := d.Load()
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "/state.json") || errors.Is(err, ErrNoRecord) != tt.half {
			t.Errorf("%q: %v", tt.text, err)
		}
	}
}

func TestStatus(t *testing.T) {
	alive := Facts{BootID: "boot", Init: ProcessFacts{StartTime: 100}, Monitor: ProcessFacts{StartTime: 200}}
	for _, tt := range []struct {
		name   string
		change func(*Record, *Facts)
		want   specs.ContainerState
	}{
		{"created", func(*Record, *Facts) {}, "created"},
		{"running", func(r *Record, _ *Facts) { r.Started = true }, "running"},
		{"running without monitor", func(r *Record, f *Facts) { r.Started, f.Monitor = true, ProcessFacts{} }, "running"},
		{"paused", func(r *Record, f *Facts) { r.Started, f.Frozen = true, true }, "paused"},
		{"paused before start", func(_ *Record, f *Facts) { f.Frozen = true }, "paused"},
		{"init gone", func(_ *Record, f *Facts) { f.Init = ProcessFacts{} }, "stopped"},
		{"init gone, frozen", func(_ *Record, f *Facts) { f.Init, f.Frozen = ProcessFacts{}, true }, "stopped"},
		{"zombie", func(r *Record, f *Facts) { r.Started, f.Init.Zombie = true, true }, "stopped"},
		{"pid recycled", func(r *Record, f *Facts) { r.Started, f.Init.StartTime = true, 101 }, "stopped"},
		{"other boot", func(r *Record, f *Facts) { r.Started, f.BootID = true, "next" }, "stopped"},
		{"exit recorded", func(r *Record, _ *Facts) { r.Exit = &Exit{} }, "stopped"},
		{"creating", func(r *Record, f *Facts) { r.Init, f.Init = Process{}, ProcessFacts{} }, "creating"},
		{"creator died", func(r *Record, f *Facts) { r.Init, f.Init, f.Monitor = Process{}, ProcessFacts{}, ProcessFacts{} }, "stopped"},
		{"creator's pid recycled", func(r *Record, f *Facts) { r.Init, f.Monitor.StartTime = Process{}, 7 }, "stopped"},
		{"nothing recorded", func(r *Record, f *Facts) { r.Init, r.Monitor = Process{}, Process{} }, "stopped"},
	} {
		r, f := record(), alive
		tt.change(r, &f)
		if got := Status(r, f); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if !MonitorAlive(record(), alive) || MonitorAlive(record(), Facts{BootID: "boot"}) || MonitorAlive(record(), Facts{BootID: "next", Monitor: alive.Monitor}) {
		t.Error("MonitorAlive is wrong")
	}
}

func TestParseStat(t *testing.T) {
	const tail = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for text, want := range map[string]ProcessFacts{
		"7 (sh) S" + tail:               {StartTime: 4711},
		"7 (a) Z 1 (b) ) Z" + tail:      {StartTime: 4711, Zombie: true},
		"7 (new\nline) X" + tail + "\n": {StartTime: 4711, Zombie: true},
	} {
		got, err := parseStat([]byte(text))
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "7 (sh", "7 (sh) S 1 2", "7 (sh) S" + strings.Replace(tail, "4711", "x", 1)} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1 (a) b) Z"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = parseStat(text) })
}

func FuzzDecodeRecord(f *testing.F) {
	text, err := json.Marshal(record())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"version":1,"created":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeRecord(text)
		if err == nil && r.Version != version {
			t.Errorf("version %d accepted", r.Version)
		}
	})
}

func TestObserve(t *testing.T) {
	boot, err := BootID()
	if err != nil || len(boot) != 36 {
		t.Fatalf("BootID = %q, %v", boot, err)
	}
	cmd := exec.Command("/bin/cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	self, err := IdentifyProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	child, err := IdentifyProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	r := &Record{BootID: boot, Init: child, Monitor: self, Started: true}
	status := func(want specs.ContainerState) {
		t.Helper()
		f, err := Observe(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := Status(r, f); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if !MonitorAlive(r, f) {
			t.Error("the monitor is said to be dead")
		}
	}
	status(specs.StateRunning)
	_ = in.Close()
	// The end, unreaped.
	if err := unix.Waitid(unix.P_PID, child.PID, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	status(specs.StateStopped)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	status(specs.StateStopped)
	if _, err := IdentifyProcess(child.PID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("identity of nobody: %v", err)
	}
}
