package cri

import (
	"os"
	"path/filepath"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSecurityContexts(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	type context = cri.LinuxContainerSecurityContext
	for name, row := range map[string]struct {
		change       func(*context)
		script, want string
	}{
		"none":           {func(*context) {}, "mkdir /tmp/x && echo made; touch /x && echo written; id -u; mount -t tmpfs none /tmp 2>/dev/null || echo no mount", "made\nwritten\n0\nno mount\n"},
		"read-only root": {func(c *context) { c.ReadonlyRootfs = true }, "touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo shm", "refused\nshm\n"},
		"user and group": {func(c *context) {
			c.RunAsUser, c.RunAsGroup, c.SupplementalGroups = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 1001}, []int64{2000}
		}, "id -u; id -g; id -G", "1000\n1001\n1001 2000\n"},
		"user by name": {func(c *context) { c.RunAsUsername = "user" }, "id -u; id -g", "1000\n1000\n"},
		"capabilities": {func(c *context) {
			c.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"CHOWN"}}
		}, "grep CapEff /proc/self/status", "CapEff:\t0000000000000001\n"},
		"no new privileges": {func(c *context) { c.NoNewPrivs = true }, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		"seccomp, the runtime's default": {func(c *context) {
			c.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		}, "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo refused", "Seccomp:\t2\nrefused\n"},
		"seccomp, a profile of the node's": {func(c *context) {
			c.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: profile}
		}, "mkdir /tmp/x 2>&1; touch /tmp/y && echo fine", "mkdir: can't create directory '/tmp/x': No space left on device\nfine\n"},
		"seccomp, unconfined": {func(c *context) {
			c.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
		}, "grep Seccomp: /proc/self/status", "Seccomp:\t0\n"},
		"masked and read-only paths": {func(*context) {}, "wc -c < /proc/keys; echo x 2>/dev/null > /proc/sys/kernel/domainname || echo read-only", "0\nread-only\n"},
	} {
		t.Run(name, func(t *testing.T) {
			everyPod(t, func(t *testing.T, run podMaker) {
				c := run(t, nil).sleeper("c", func(c *cri.ContainerConfig) { row.change(c.Linux.SecurityContext) })
				c.says(row.script, row.want)
			})
		})
	}
}

func TestPrivileged(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		p := runPod(t, handler, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
		c := p.sleeper("c", func(c *cri.ContainerConfig) {
			s := c.Linux.SecurityContext
			s.Privileged, s.MaskedPaths, s.ReadonlyPaths = true, nil, nil
		})
		c.says("mkdir /m && mount -t tmpfs x /m && echo mounted; mknod /n c 1 3 && echo made; echo x > /proc/sys/kernel/domainname && echo set; ls /dev | grep -c '^loop-control$'",
			"mounted\nmade\nset\n"+count("/dev/loop-control"))
	})
}

// count is "1" where a file is there, as grep -c prints it.
func count(path string) string {
	if _, err := os.Stat(path); err != nil {
		return "0\n"
	}
	return "1\n"
}

func TestSysctls(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, func(c *cri.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}
		})
		p.sleeper("c", nil).says("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced", "80\n1\n")
	})
}
