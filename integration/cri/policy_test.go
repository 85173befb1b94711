package cri

import (
	"fmt"
	"net"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sandlock/sandlock-runtime/integration/containerd"
)

// serve says a line to whoever connects, on the node.
func serve(t *testing.T, address, line string) net.Listener {
	t.Helper()
	l, err := daemon.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, line)
			conn.Close()
		}
	}()
	return l
}

// A pod's annotations reach its containers: what may be connected to, and what may not.
func TestPodAnnotations(t *testing.T) {
	for _, port := range []string{"8080", "9090"} {
		defer serve(t, ":"+port, "this is "+port).Close()
	}
	try := func(c *container, port string) string {
		out, _, _ := c.exec("nc -w 3 " + containerd.Bridge + " " + port + " 2>&1 </dev/null")
		return out
	}
	for kind, change := range map[string]func(*cri.PodSandboxConfig){"": func(*cri.PodSandboxConfig) {}, ", a user namespace": withUserNamespace} {
		for name, annotations := range map[string]map[string]string{
			"no rule":                     nil,
			"a rule":                      {"io.sandlock.network.allow": "tcp://" + containerd.Bridge + ":8080"},
			"rules with a name":           {"io.sandlock.network.allow": "tcp://" + containerd.Bridge + ":8080; localhost:7000"},
			"rules for several protocols": {"io.sandlock.network.allow": "tcp://" + containerd.Bridge + ":8080; udp://" + containerd.Bridge + ":53"},
		} {
			t.Run(name+kind, func(t *testing.T) {
				c := runPod(t, handler, func(c *cri.PodSandboxConfig) { change(c); c.Annotations = annotations }).sleeper("c", nil)
				if got := try(c, "8080"); got != "this is 8080\n" {
					t.Errorf("allowed: %q", got)
				}
				denied := strings.Contains(try(c, "9090"), "Permission denied")
				if denied != (annotations != nil) {
					t.Errorf("port 9090 is denied: %v", denied)
				}
			})
		}
	}
	t.Run("a typo", func(t *testing.T) {
		config := podConfig(t)
		config.Annotations = map[string]string{"io.sandlock.network.alow": "*"}
		r, err := kube.RunPodSandbox(within(t), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
		if err == nil || !strings.Contains(err.Error(), "nearest is io.sandlock.network.allow") {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// ruledPods runs a case in an ordinary pod and in one with a user namespace, each with and without annotations.
func ruledPods(t *testing.T, annotations map[string]string, test func(t *testing.T, ruled bool, p *pod)) {
	for name, change := range map[string]func(*cri.PodSandboxConfig){"": func(*cri.PodSandboxConfig) {}, ", a user namespace": withUserNamespace} {
		for _, ruled := range []bool{false, true} {
			t.Run(fmt.Sprintf("rules %v%s", ruled, name), func(t *testing.T) {
				test(t, ruled, runPod(t, handler, func(c *cri.PodSandboxConfig) {
					change(c)
					if ruled {
						c.Annotations = annotations
					}
				}))
			})
		}
	}
}

// Rules on paths hold for the containers of a pod, volumes included; the pause image need not have these paths.
func TestPathsInPodAnnotations(t *testing.T) {
	annotations := map[string]string{"io.sandlock.filesystem.read": "/", "io.sandlock.filesystem.write": "/tmp;/data/free", "io.sandlock.filesystem.deny": "/etc/group"}
	ruledPods(t, annotations, func(t *testing.T, ruled bool, p *pod) {
		dir := sharedDir(t)
		mountInside(t, dir)
		c := p.sleeper("c", func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/data"}, {HostPath: t.TempDir(), ContainerPath: "/data/free"}}
		})
		c.says("echo x > /tmp/x && echo x > /data/free/x && head -n 1 /etc/passwd && ls /data", "root:x:0:0:root:/root:/bin/sh\nfree\ninner\n")
		want := "written\nwritten\nroot:x:0:\n"
		if ruled {
			want = "refused\nrefused\nrefused\n"
		}
		c.says("for f in /data/x /home/x; do if echo x 2>/dev/null > $f; then echo written; else echo refused; fi; done; grep root: /etc/group 2>/dev/null || echo refused", want)
	})
}

// A pod that keeps to the "restricted" pod security standard, with rules besides: its program and its probes are under them, with all else as the
// standard has it.
func TestRulesInARestrictedPod(t *testing.T) {
	for _, port := range []string{"8081", "8082"} {
		defer serve(t, ":"+port, "this is "+port).Close()
	}
	annotations := map[string]string{
		"io.sandlock.network.allow": "tcp://" + containerd.Bridge + ":8081; udp://" + containerd.Bridge + ":53", "io.sandlock.filesystem.deny": "/etc/group", "io.sandlock.limits.processes": "50",
	}
	const script = "nc -w 3 " + containerd.Bridge + " 8081 </dev/null; nc -w 3 " + containerd.Bridge + " 8082 </dev/null 2>&1; head -n 1 /etc/group 2>/dev/null; id -u; grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; echo end"
	ruledPods(t, annotations, func(t *testing.T, ruled bool, p *pod) {
		restrict := func(c *cri.ContainerConfig) {
			s := c.Linux.SecurityContext
			s.RunAsUser, s.RunAsGroup, s.ReadonlyRootfs, s.NoNewPrivs = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 1000}, true, true
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
			s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		}
		want := []string{"this is 8081", "this is 8082", "root:x:0:", "1000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "end"}
		if ruled {
			want[1] = "nc: can't connect to remote host (" + containerd.Bridge + "): Permission denied"
			want = append(want[:2], want[3:]...)
		}
		p.sleeper("probed", restrict).says(script, strings.Join(want, "\n")+"\n")
		c := p.create("c", restrict, "/bin/sh", "-c", script).start()
		c.wait()
		waitForText(t, c.log, "end")
		for _, line := range want {
			waitForText(t, c.log, " F "+line+"\n")
		}
		if strings.Contains(readText(t, c.log), "this is 8082") == ruled {
			t.Errorf("%s", readText(t, c.log))
		}
	})
}
