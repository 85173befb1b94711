package integration

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What a process asks of the kernel's schedulers, as it and the processes of exec see it.
func TestScheduling(t *testing.T) {
	// Of /proc/PID/stat: the nice value and the scheduling policy, see proc_pid_stat(5).
	const stat = "cut -d' ' -f19,41 /proc/self/stat"
	for name, row := range map[string]struct {
		change       func(s *specs.Spec)
		script, want string
	}{
		"none": {func(*specs.Spec) {}, stat + "; ionice -p $$; uname -m; taskset -p $$", ""}, // the control: no row's answer is the ordinary one
		"scheduler": {func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
		}, stat, "7 3\n"},
		"idle scheduler": {func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedIdle} }, stat, "0 5\n"},
		"I/O priority": {func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, "ionice -p $$", "best-effort: prio 6\n"},
		"personality": {func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		}, "uname -m | grep -c 64", "0\n"},
		"memory policy": {func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
		}, "head -n 1 /proc/self/numa_maps | cut -d' ' -f2", "bind=static:0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := newBundle(t, "/bin/sh", "-c", row.script+"; true")
			row.change(b.spec)
			b.write(t)
			got := r.run(t, "run", "--bundle", b.dir, b.id)
			if got.code != 0 {
				t.Fatal(got)
			}
			if row.want == "" {
				for _, special := range []string{"7 3", "0 5", "prio 6"} {
					if strings.Contains(got.stdout, special) {
						t.Errorf("without being asked: %q", got.stdout)
					}
				}
				return
			}
			if got.stdout != row.want {
				t.Errorf("got %q, want %q", got.stdout, row.want)
			}
			b.id += "-exec"
			b.spec.Process.Args = []string{"/bin/sleep", "1000"}
			c := r.start(t, b)
			if got := r.must(t, "exec", c.id, "/bin/sh", "-c", row.script+"; true"); got != row.want {
				t.Errorf("exec: got %q, want %q", got, row.want)
			}
		})
	}
}

// Only processes of exec are bound; the container's first process is not.
func TestExecCPUAffinity(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	b.spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "0"}
	c := r.start(t, b)
	const script = "grep Cpus_allowed_list /proc/$0/status | cut -f2"
	if got := r.must(t, "exec", c.id, "/bin/sh", "-c", script, "self"); got != "0\n" {
		t.Errorf("exec: %q", got)
	}
	if got := r.must(t, "exec", c.id, "/bin/sh", "-c", script, "1"); got == "0\n" {
		t.Errorf("the container's first process is bound, too: %q", got)
	}
}
