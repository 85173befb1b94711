package agent

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestChanges(t *testing.T) {
	var got []Change
	c, a, ended := talk(t, func(c Change) error {
		got = append(got, c)
		if c.Op == Grant {
			return errors.New("on purpose")
		}
		return nil
	})
	a.say(`{"type":"change","id":7,"op":"restrict","network":{"allow":[],"deny":["10.0.0.1"]},"pid":12,"start_time":3}`)
	if m := a.hear(); m["type"] != "changed" || m["id"] != float64(7) || m["error"] != nil {
		t.Errorf("answer %v", m)
	}
	a.say(`{"type":"change","id":8,"op":"grant","memory":4096}`)
	if m := a.hear(); m["id"] != float64(8) || m["error"] != "on purpose" {
		t.Errorf("answer %v", m)
	}
	want := []Change{
		{Type: "change", ID: 7, Op: Restrict, Network: &NetworkChange{Allow: []string{}, Deny: []string{"10.0.0.1"}}, PID: 12, StartTime: 3},
		{Type: "change", ID: 8, Op: Grant, Memory: 4096},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("changes %+v", got)
	}
	c.Close()
	select {
	case err := <-ended:
		t.Error(err)
	default:
	}
}

func TestTooManyChanges(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	_, a, ended := talk(t, func(Change) error { <-stuck; return nil })
	for id := range MaxChanges + 2 { // one is being carried out
		a.say(`{"type":"change","id":%d,"op":"restrict","memory":1}`, id)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "changes at a time") {
		t.Error(err)
	}
}

func TestChangeCheck(t *testing.T) {
	rules := &NetworkChange{Allow: []string{"*"}}
	for _, c := range []Change{
		{Op: Restrict, Network: rules},
		{Op: Narrow, Network: &NetworkChange{Allow: []string{}}},
		{Op: Narrow, Network: rules, PID: 1, StartTime: 2},
		{Op: Grant, Network: &NetworkChange{}},
		{Op: Restrict, Memory: 1},
		{Op: Grant, Processes: 1},
		{Op: Restrict, DenyPath: "/x"},
	} {
		if err := c.check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Change{
		{Network: rules},
		{Op: Restrict},
		{Op: Restrict, Network: &NetworkChange{}},
		{Op: Restrict, Network: rules, Memory: 1},
		{Op: Restrict, Memory: -1},
		{Op: Restrict, Processes: -1},
		{Op: Restrict, Network: rules, PID: 1},
		{Op: Restrict, Network: rules, StartTime: 1},
		{Op: Restrict, Network: rules, PID: -1, StartTime: 1},
		{Op: Restrict, Memory: 1, PID: 1, StartTime: 1},
		{Op: Grant, Network: &NetworkChange{Deny: []string{"*"}}},
		{Op: Narrow, DenyPath: "/x"},
		{Op: Grant, DenyPath: "/x"},
	} {
		if err := c.check(); err == nil {
			t.Errorf("accepted: %+v", c)
		}
	}
}
