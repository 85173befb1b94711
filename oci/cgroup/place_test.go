package cgroup

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// All of a configuration is read but the limits, whatever fields the library has.
func TestDecodePlace(t *testing.T) {
	uid := 7
	whole := Config{Required: "r", Disabled: true, Cgroup: &cgroups.Cgroup{
		Name: "n", Parent: "p", Path: "q", ScopePrefix: "s", Systemd: true, Rootless: true, OwnerUID: &uid, Resources: &cgroups.Resources{Memory: 1 << 20, PidsLimit: new(int64)},
	}}
	fields := reflect.ValueOf(*whole.Cgroup)
	for i := range fields.NumField() {
		field := fields.Type().Field(i)
		if fields.Field(i).IsZero() && field.Tag.Get("json") != "-" {
			t.Errorf("the test does not know the field %s", field.Name)
		}
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	want := whole
	cg := *whole.Cgroup
	cg.Resources = nil
	want.Cgroup, want.placeOnly = &cg, true
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v (%+v), want %+v (%+v)", got, got.Cgroup, want, want.Cgroup)
	}
	if none, err := DecodePlace([]byte("{}")); err != nil || none.Cgroup != nil {
		t.Errorf("no cgroup: %+v, %v", none, err)
	}
	if _, err := DecodePlace([]byte(`{"cgroup":3}`)); err == nil {
		t.Error("no object, and no error")
	}
}

// Without knowing the limits in force nobody can go back to them.
func TestUpdateNeedsTheLimits(t *testing.T) {
	m := prepared(t, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(10))}})
	text, err := json.Marshal(m.Config())
	if err != nil {
		t.Fatal(err)
	}
	update := func(c Config) error {
		again, err := Load(c, m.Paths())
		if err != nil {
			t.Fatal(err)
		}
		return again.Update(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(20))}})
	}
	placeOnly, err := DecodePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := update(placeOnly); !errors.Is(err, errPlaceOnly) {
		t.Errorf("error %v, want %v", err, errPlaceOnly)
	}
	var whole Config
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	if err := update(whole); err != nil {
		t.Error(err)
	}
}
