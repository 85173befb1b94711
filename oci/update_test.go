package oci

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestMergeResources(t *testing.T) {
	for _, c := range []struct{ name, old, changes, want string }{
		{"nothing is changed", `{"memory":{"limit":5},"pids":{"limit":3}}`, `{}`, `{"memory":{"limit":5},"pids":{"limit":3}}`},
		{"nothing was there", `{}`, `{"memory":{"limit":5}}`, `{"memory":{"limit":5}}`},
		{"what is not named stays", `{"memory":{"limit":5,"swap":7,"swappiness":1}}`, `{"memory":{"limit":6}}`, `{"memory":{"limit":6,"swap":7,"swappiness":1}}`},
		{"no memory limit means none for swap", `{"memory":{"limit":5,"swap":7}}`, `{"memory":{"limit":-1}}`, `{"memory":{"limit":-1,"swap":0}}`},
		{"0 is a value", `{"cpu":{"shares":9,"quota":5,"period":10}}`, `{"cpu":{"shares":0}}`, `{"cpu":{"shares":0,"quota":5,"period":10}}`},
		{"quota alone keeps the period", `{"cpu":{"quota":5,"period":10}}`, `{"cpu":{"quota":6}}`, `{"cpu":{"quota":6,"period":10}}`},
		{"an idle cgroup has no shares", `{"cpu":{"shares":9}}`, `{"cpu":{"idle":1}}`, `{"cpu":{"shares":0,"idle":1}}`},
		{"CPU sets", `{"cpu":{"cpus":"0","mems":"0"}}`, `{"cpu":{"cpus":"1"}}`, `{"cpu":{"cpus":"1","mems":"0"}}`},
		{"pids", `{"pids":{"limit":3}}`, `{"pids":{"limit":-1}}`, `{"pids":{"limit":-1}}`},
		{"pids without a limit", `{"pids":{"limit":3}}`, `{"pids":{}}`, `{"pids":{"limit":3}}`},
		{"devices stay", `{"devices":[{"allow":false,"access":"rwm"}]}`, `{"devices":[{"allow":true}]}`, `{"devices":[{"allow":false,"access":"rwm"}]}`},
		{"unified", `{"unified":{"memory.high":"1","memory.low":"2"}}`, `{"unified":{"memory.high":"3"}}`, `{"unified":{"memory.high":"3","memory.low":"2"}}`},
		{
			"devices of block input and output",
			`{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1,"leafWeight":2}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}]}}`,
			`{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":3},{"major":8,"minor":16,"weight":4}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":2}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":5}]}}`,
			`{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":3,"leafWeight":2},{"major":8,"minor":16,"weight":4}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":2}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":5}]}}`,
		},
	} {
		old, changes := resources(t, c.old), resources(t, c.changes)
		got, want := text(t, mergeResources(old, changes)), text(t, resources(t, c.want))
		if got != want {
			t.Errorf("%s: got %s, want %s", c.name, got, want)
		}
		if text(t, old) != text(t, resources(t, c.old)) || text(t, changes) != text(t, resources(t, c.changes)) {
			t.Errorf("%s: what was given has been changed", c.name)
		}
	}
	if got := text(t, mergeResources(nil, resources(t, `{"memory":{"limit":5}}`))); got != `{"memory":{"limit":5}}` {
		t.Errorf("no resources before: %s", got)
	}
}

func resources(t *testing.T, document string) *specs.LinuxResources {
	t.Helper()
	r := new(specs.LinuxResources)
	if err := json.Unmarshal([]byte(document), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t *testing.T, value any) string {
	t.Helper()
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestUpdateNeedsARunningContainer(t *testing.T) {
	r := newTestRuntime(t)
	newFake(t, r, "c", nil).end(t)
	if err := r.Update("c", new(specs.LinuxResources)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}
