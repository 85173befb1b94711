package state

import (
	"bytes"
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestViews(t *testing.T) {
	running, stopped := NewView(record(), specs.StateRunning), NewView(record(), specs.StateStopped)
	stopped.ID, stopped.Annotations = "longer-than-the-others", nil
	running.Owner, stopped.Owner = "root", "#4711"
	both := []View{running, stopped}
	plain := running
	plain.Owner = ""
	for _, tt := range []struct {
		name  string
		write func(*bytes.Buffer) error
		want  string
	}{
		{"state", func(b *bytes.Buffer) error { return WriteState(b, plain) }, `{
  "ociVersion": "1.3.0",
  "id": "c",
  "pid": 10,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2025-01-02T03:04:05.000000006Z",
  "annotations": {
    "k": "v"
  },
  "owner": ""
}`},
		{"table", func(b *bytes.Buffer) error { return WriteTable(b, both) }, "" +
			"ID                       PID         STATUS      BUNDLE      CREATED                          OWNER\n" +
			"c                        10          running     /b          2025-01-02T03:04:05.000000006Z   root\n" +
			"longer-than-the-others   0           stopped     /b          2025-01-02T03:04:05.000000006Z   #4711\n"},
		{"empty table", func(b *bytes.Buffer) error { return WriteTable(b, nil) }, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"},
		{"json", func(b *bytes.Buffer) error { return WriteJSON(b, both[1:]) }, `[{"ociVersion":"1.3.0","id":"longer-than-the-others","pid":0,"status":"stopped","bundle":"/b","rootfs":"/b/rootfs","created":"2025-01-02T03:04:05.000000006Z","owner":"#4711"}]` + "\n"},
		{"empty json", func(b *bytes.Buffer) error { return WriteJSON(b, nil) }, "null\n"},
		{"quiet", func(b *bytes.Buffer) error { return WriteIDs(b, both) }, "c\nlonger-than-the-others\n"},
	} {
		var b bytes.Buffer
		if err := tt.write(&b); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if b.String() != tt.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", tt.name, &b, tt.want)
		}
	}
}

func TestOCIState(t *testing.T) {
	s := record().OCIState(specs.StateCreated)
	if s.Version != specs.Version || s.ID != "c" || s.Pid != 10 || s.Status != "created" || s.Bundle != "/b" || s.Annotations["k"] != "v" {
		t.Errorf("%+v", s)
	}
	if s := record().OCIState(specs.StateStopped); s.Pid != 0 {
		t.Errorf("stopped with pid %d", s.Pid)
	}
}

func TestOwnerName(t *testing.T) {
	if os.Geteuid() == 0 && OwnerName(0) != "root" {
		t.Errorf("uid 0 is %s", OwnerName(0))
	}
	if got := OwnerName(4294967); got != "#4294967" {
		t.Errorf("nobody's uid is %s", got)
	}
}
