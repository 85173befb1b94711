package plan

import (
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/policy"
)

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		name string
		env  []string
		want []string
	}{
		{"HOME is added", []string{"A=1"}, []string{"A=1", "HOME=/home/u"}},
		{"nothing at all", nil, []string{"HOME=/home/u"}},
		{"HOME is kept", []string{"HOME=/srv", "A=1"}, []string{"HOME=/srv", "A=1"}},
		{"an empty HOME is none", []string{"HOME="}, []string{"HOME=/home/u"}},
		{"the last value counts", []string{"A=1", "B=2", "A=3"}, []string{"A=3", "B=2", "HOME=/home/u"}},
		{"the last HOME counts", []string{"HOME=/a", "HOME="}, []string{"HOME=/home/u"}},
		{"values may hold anything", []string{"A=x=y\nz", "B="}, []string{"A=x=y\nz", "B=", "HOME=/home/u"}},
		{"a name is not a prefix", []string{"HOMEDIR=/x"}, []string{"HOMEDIR=/x", "HOME=/home/u"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := append([]string(nil), test.env...)
			p := NewProcess(&specs.Process{Args: []string{"true"}, Cwd: "/", Env: test.env}, "/home/u")
			if !reflect.DeepEqual(p.Env, test.want) {
				t.Errorf("%q, want %q", p.Env, test.want)
			}
			if len(given) > 0 && !reflect.DeepEqual(given, test.env) {
				t.Errorf("the spec's own environment has become %q", test.env)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"sh", "PATH=/usr/bin:/bin", []string{"/usr/bin/sh", "/bin/sh"}},
		{"/bin/sh", "PATH=/usr/bin", []string{"/bin/sh"}},
		{"./sh", "PATH=/usr/bin", []string{"./sh"}},
		{"bin/sh", "PATH=/usr/bin", []string{"bin/sh"}},
		{"sh", "PATH=", nil},
		{"sh", "NOPATH=/bin", nil},
		{"sh", "PATH=.:bin::/bin/", []string{"/bin/sh"}}, // never in the working directory
		{"..", "PATH=/usr/bin", []string{"/usr"}},
	} {
		if got := (Process{Args: []string{test.name}, Env: []string{test.path}}).Candidates(); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s with %s: %q, want %q", test.name, test.path, got, test.want)
		}
	}
	hook := Process{Path: "/hook", Args: []string{"name of its own"}, Env: []string{"PATH=/bin"}}
	if got := hook.Candidates(); !reflect.DeepEqual(got, []string{"/hook"}) {
		t.Errorf("a process with a path: %q", got)
	}
}

func TestProcessDefaults(t *testing.T) {
	umask, zero := uint32(0o77), uint32(0)
	for _, test := range []struct {
		given *uint32
		want  uint32
	}{{nil, 0o22}, {&umask, 0o77}, {&zero, 0}} {
		p := NewProcess(&specs.Process{Args: []string{"true"}, Cwd: "/a/../b/", User: specs.User{Umask: test.given}}, "/")
		if p.Umask != test.want {
			t.Errorf("umask %#o, want %#o", p.Umask, test.want)
		}
		if p.Cwd != "/b" {
			t.Errorf("working directory %q", p.Cwd)
		}
	}
	size := &specs.Box{Width: 80, Height: 24}
	if p := NewProcess(&specs.Process{Args: []string{"true"}, Cwd: "/", ConsoleSize: size}, "/"); p.ConsoleSize != nil {
		t.Error("a process without a terminal has a console size")
	}
	if p := NewProcess(&specs.Process{Args: []string{"true"}, Cwd: "/", ConsoleSize: size, Terminal: true}, "/"); p.ConsoleSize == nil {
		t.Error("a process with a terminal has lost its console size")
	}
}

func TestCapabilitySets(t *testing.T) {
	if got := capabilitySets(nil); got != (Capabilities{}) {
		t.Errorf("no capabilities: %+v", got)
	}
	got := capabilitySets(&specs.LinuxCapabilities{
		Bounding: []string{"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHECKPOINT_RESTORE"},
		Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"},
	})
	want := Capabilities{1<<unix.CAP_CHOWN | 1<<unix.CAP_SYS_ADMIN, 1 << unix.CAP_CHOWN, 1 << unix.CAP_CHECKPOINT_RESTORE, 1 << unix.CAP_KILL, 1 << unix.CAP_KILL}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestLimitOpenFiles(t *testing.T) {
	for _, test := range []struct {
		given []Rlimit
		limit int64
		want  []Rlimit
	}{
		{nil, 0, nil},
		{nil, 64, []Rlimit{{openFiles, 64, 64}}},
		{[]Rlimit{{openFiles, 1024, 4096}}, 0, []Rlimit{{openFiles, 1024, 4096}}},
		{[]Rlimit{{openFiles, 1024, 4096}}, 2000, []Rlimit{{openFiles, 1024, 2000}}},
		{[]Rlimit{{"RLIMIT_CORE", 0, 0}, {openFiles, 1024, 4096}}, 64, []Rlimit{{"RLIMIT_CORE", 0, 0}, {openFiles, 64, 64}}},
		{[]Rlimit{{openFiles, 10, 20}}, 64, []Rlimit{{openFiles, 10, 20}}},
	} {
		p := Process{Rlimits: append([]Rlimit(nil), test.given...)}
		p.limitOpenFiles(test.limit)
		if !reflect.DeepEqual(p.Rlimits, test.want) {
			t.Errorf("%v limited to %d: %v, want %v", test.given, test.limit, p.Rlimits, test.want)
		}
	}
}

func pointer[T any](v T) *T { return &v }

func TestTighten(t *testing.T) {
	memory := func(limit, swap *int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: limit, Swap: swap}}
	}
	pids := func(n int64) *specs.LinuxResources {
		return &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}}
	}
	cpu := func(quota *int64, period *uint64, cpus string) *specs.LinuxResources {
		return &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: quota, Period: period, Cpus: cpus}}
	}
	const million = int64(1_000_000)
	for _, test := range []struct {
		name   string
		given  *specs.LinuxResources
		limits policy.Limits
		want   *specs.LinuxResources
	}{
		{"nothing asked", nil, policy.Limits{}, nil},
		{"memory where there was none", nil, policy.Limits{Memory: million}, memory(pointer(million), pointer(million))},
		{"unlimited memory", memory(pointer(int64(-1)), pointer(int64(-1))), policy.Limits{Memory: million}, memory(pointer(million), pointer(million))},
		{"memory limited further", memory(pointer(2*million), pointer(4*million)), policy.Limits{Memory: million}, memory(pointer(million), pointer(million))},
		{"memory limited already", memory(pointer(million/2), nil), policy.Limits{Memory: million}, memory(pointer(million/2), pointer(million/2))},
		{"processes", pids(0), policy.Limits{Processes: 5}, pids(5)},
		{"fewer processes already", pids(3), policy.Limits{Processes: 5}, pids(3)},
		{"unlimited processes", pids(-1), policy.Limits{Processes: 5}, pids(5)},
		{"cpu", nil, policy.Limits{CPU: 150}, cpu(pointer(int64(150_000)), pointer(uint64(100_000)), "")},
		{"cpu of another period", cpu(nil, pointer(uint64(50_000)), ""), policy.Limits{CPU: 150}, cpu(pointer(int64(75_000)), pointer(uint64(50_000)), "")},
		{"less cpu already", cpu(pointer(int64(1000)), pointer(uint64(50_000)), ""), policy.Limits{CPU: 150}, cpu(pointer(int64(1000)), pointer(uint64(50_000)), "")},
		{"cores", cpu(nil, nil, "0-3"), policy.Limits{CPUCores: []int{1, 2, 7}}, cpu(nil, nil, "1-2")},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := &specs.Spec{Linux: &specs.Linux{Resources: test.given}}
			before := indented(t, spec)
			got, err := Tighten(spec, test.limits)
			if err != nil {
				t.Fatal(err)
			}
			if string(indented(t, got.Linux.Resources)) != string(indented(t, test.want)) {
				t.Errorf("%s, want %s", indented(t, got.Linux.Resources), indented(t, test.want))
			}
			if string(before) != string(indented(t, spec)) {
				t.Error("the spec given has been changed")
			}
		})
	}
	spec := &specs.Spec{Linux: &specs.Linux{Resources: cpu(nil, nil, "0-1")}}
	if _, err := Tighten(spec, policy.Limits{CPUCores: []int{4}}); err == nil {
		t.Error("no CPU in common, and no error")
	}
	spec.Linux.Resources.CPU.Cpus = "x"
	if _, err := Tighten(spec, policy.Limits{CPUCores: []int{4}}); err == nil {
		t.Error("a broken CPU list, and no error")
	}
}
