package integration

import (
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What this host cannot do is refused by name, not left undone: nobody is to believe it in force.
func TestRefusedLabels(t *testing.T) {
	for name, row := range map[string]struct {
		has    string // what there is on hosts that can
		change func(s *specs.Spec)
		word   string
	}{
		"SELinux label of the process": {"/sys/fs/selinux/enforce", func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:container_t:s0" }, "selinux"},
		"SELinux label of mounts":      {"/sys/fs/selinux/enforce", func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:container_file_t:s0" }, ""},
		"AppArmor profile":             {"/sys/kernel/security/apparmor", func(s *specs.Spec) { s.Process.ApparmorProfile = "docker-default" }, "apparmor"},
		"Intel RDT":                    {"/sys/fs/resctrl/schemata", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x"} }, "intelRdt"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(row.has); err == nil {
				t.Skipf("%s is there: this host may be able to", row.has)
			}
			r := newRuntime(t)
			b := script(t, "echo ran")
			row.change(b.spec)
			res := r.runBundle(t, b)
			if res.stdout != "" {
				t.Errorf("it ran: %v", res)
			}
			res.refused(t, row.word)
			assertNothingLeft(t, r, b)
		})
	}
}
