package landlock

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// latest is the highest ABI that the package knows anything of.
const latest ABI = 7

func modes(mode Mode) map[Protection]Mode {
	all := map[Protection]Mode{}
	for _, protection := range Protections() {
		all[protection] = mode
	}
	return all
}

// TestPlanGolden keeps the plan of one request that asks for everything, for each ABI there is.
func TestPlanGolden(t *testing.T) {
	lists := Request{
		Read:       []string{"/usr", "/etc/", "/data"},
		Write:      []string{"/tmp", "/data"},
		Keep:       DefaultKeep(),
		ConnectTCP: []uint16{443, 80, 443}, BindTCP: []uint16{},
		SignalScope: true, AbstractUnixScope: true,
		Modes: modes(Degrade),
	}
	for abi := ABI(1); abi <= latest; abi++ {
		golden(t, fmt.Sprintf("lists_abi%d.json", abi), lists, abi)
		golden(t, fmt.Sprintf("root_abi%d.json", abi), Request{Modes: modes(Degrade)}, abi)
	}
	lists.Modes = modes(Off)
	golden(t, "lists_off.json", lists, latest)
}

func golden(t *testing.T, name string, request Request, abi ABI) {
	t.Helper()
	ruleset, err := Plan(request, abi)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got, err := json.MarshalIndent(ruleset, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s: the plan is now\n%s", name, got)
	}
	var back Ruleset
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if again, _ := json.MarshalIndent(back, "", "  "); string(again)+"\n" != string(got) {
		t.Errorf("%s: reading it back changes it to\n%s", name, again)
	}
}

// TestPlanRepeats shows that a plan does not depend on the order of a map.
func TestPlanRepeats(t *testing.T) {
	request := Request{Read: []string{"/"}, Write: []string{"/dev/null", "/proc"}, Keep: DefaultKeep(), Modes: modes(Off)}
	one, err := Plan(request, latest)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if other, _ := Plan(request, latest); !reflect.DeepEqual(one, other) {
			t.Fatalf("%v\n%v", one, other)
		}
	}
}

func TestPlanStrictFloors(t *testing.T) {
	everything := Request{ConnectTCP: []uint16{}, SignalScope: true, AbstractUnixScope: true}
	for _, protection := range Protections() {
		request := everything
		request.Modes = modes(Degrade)
		request.Modes[protection] = Strict
		floor := protection.Floor()
		_, err := Plan(request, floor-1)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) {
			t.Fatalf("%s below its floor: %v", protection, err)
		}
		if *unsupported != (UnsupportedError{Protection: protection, Need: floor, Have: floor - 1}) {
			t.Errorf("%s: %+v", protection, *unsupported)
		}
		delete(request.Modes, protection) // strict is the default
		if _, err := Plan(request, floor-1); !errors.As(err, &unsupported) {
			t.Errorf("%s below its floor, without a mode: %v", protection, err)
		}
		ruleset, err := Plan(request, floor)
		if err != nil || !ruleset.Enforces(protection) {
			t.Errorf("%s at its floor: %v, enforced %v", protection, err, ruleset.Enforces(protection))
		}
		request.Modes[protection] = Degrade
		ruleset, err = Plan(request, floor-1)
		if err != nil || ruleset.Enforces(protection) {
			t.Errorf("%s degraded: %v, enforced %v", protection, err, ruleset.Enforces(protection))
		}
		if !slices.ContainsFunc(ruleset.Omitted, func(o Omission) bool {
			return o == Omission{protection, Degrade, floor, floor - 1, protection.Without()} && o.Result != ""
		}) {
			t.Errorf("%s is not reported: %+v", protection, ruleset.Omitted)
		}
	}
	// On a kernel that lacks them, ports and scopes that nobody asked for are no obstacle.
	if _, err := Plan(Request{Modes: map[Protection]Mode{FSIoctlDev: Degrade}}, 3); err != nil {
		t.Error(err)
	}
	if got := (&UnsupportedError{NetTCP, 4, 3}).Error(); got != "protection.net_tcp: needs Landlock ABI 4, this kernel has 3" {
		t.Error(got)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		request Request
		abi     ABI
		want    string
	}{
		{Request{}, 0, ErrAbsent.Error()},
		{Request{Read: []string{"usr"}}, 7, `filesystem.read: "usr": not an absolute path`},
		{Request{Write: []string{""}}, 7, `filesystem.write: a path is empty`},
		{Request{Write: []string{"/a/../b"}}, 7, `filesystem.write: "/a/../b": has a .. component`},
		{Request{Read: []string{"/a\x00b"}}, 7, `filesystem.read: "/a\x00b": has a NUL byte`},
		{Request{Modes: map[Protection]Mode{"fs_all": Off}}, 7, `protection.fs_all: there is no such protection`},
		{Request{Modes: map[Protection]Mode{NetTCP: "maybe"}}, 7, `protection.net_tcp: "maybe" is none of strict, degrade, off`},
	} {
		if _, err := Plan(c.request, c.abi); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.request, err, c.want)
		}
	}
}

// TestAccessByName shows that names and bits are the same list, and that unknown ones are seen.
func TestAccessByName(t *testing.T) {
	if got := Read.String(); got != "execute,read_file,read_dir" {
		t.Error(got)
	}
	for bit := range accessNames {
		one := Access(1) << bit
		text, _ := json.Marshal(one)
		var back Access
		if err := json.Unmarshal(text, &back); err != nil || back != one || !Write.Has(one) {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	if got := (Access(1) << len(accessNames)).String(); got != "bit_16" {
		t.Error(got)
	}
	var a Access
	if err := json.Unmarshal([]byte(`["execute","fly"]`), &a); err == nil {
		t.Error("an unknown right was accepted")
	}
}

func TestExecutesByName(t *testing.T) {
	lists, err := Plan(Request{Read: []string{"/usr/bin", "/lib"}, Write: []string{"/tmp"}, Keep: DefaultKeep()}, latest)
	if err != nil {
		t.Fatal(err)
	}
	root, err := Plan(Request{}, latest)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"/usr/bin/ls": true, "/lib/ld.so": true, "/tmp/a/b": true, "/usr/binary": false, "/usr": false, "/": false,
		"/dev/null": false, "/opt/x": false,
	} {
		if got := lists.Executes(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
		if !root.Executes(name) {
			t.Errorf("%s cannot be executed though nothing is restricted", name)
		}
	}
}
