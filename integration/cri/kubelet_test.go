package cri

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// callTimeout bounds every call.
const callTimeout = 60 * time.Second

// kubelet speaks CRI.
type kubelet struct {
	cri.RuntimeServiceClient
	attempts atomic.Uint32
}

var kube *kubelet

func newKubelet(socket string) (*kubelet, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &kubelet{RuntimeServiceClient: cri.NewRuntimeServiceClient(conn)}, nil
}

// waitForNetwork waits until containerd has read its CNI configuration.
func (k *kubelet) waitForNetwork(ctx context.Context) error {
	for {
		status, err := k.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return err
		}
		ready := true
		for _, c := range status.Status.Conditions {
			ready = ready && (c.Status || c.Type != cri.NetworkReady && c.Type != cri.RuntimeReady)
		}
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("containerd is not ready: %v", status.Status.Conditions)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// podGroups is the cgroup that has those of the pods.
const podGroups = "/sandlock-test-cri"

// pod is a sandbox that the test removes at its end.
type pod struct {
	t      *testing.T
	id     string
	config *cri.PodSandboxConfig
	ids    []string // the sandbox's and its containers'
}

// each runs a case with both runtimes.
func each(t *testing.T, test func(t *testing.T, handler string)) {
	for _, name := range []string{runc, handler} {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

// podMaker is runPod for one kind of pod.
type podMaker func(t *testing.T, change func(*cri.PodSandboxConfig)) *pod

// everyPod runs a case with both runtimes, in ordinary pods and in pods with a user namespace.
func everyPod(t *testing.T, test func(t *testing.T, run podMaker)) {
	each(t, func(t *testing.T, handler string) {
		test(t, func(t *testing.T, change func(*cri.PodSandboxConfig)) *pod { return runPod(t, handler, change) })
	})
	for _, name := range []string{runc, handler} {
		t.Run(name+" with a user namespace", func(t *testing.T) {
			test(t, func(t *testing.T, change func(*cri.PodSandboxConfig)) *pod {
				return runPod(t, name, func(c *cri.PodSandboxConfig) {
					withUserNamespace(c)
					if change != nil {
						change(c)
					}
				})
			})
		})
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

// podConfig is a pod as a kubelet would have it: its own network and IPC, processes that see nothing of other containers.
func podConfig(t *testing.T) *cri.PodSandboxConfig {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(t.Name()))
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name, Attempt: kube.attempts.Add(1)},
		Hostname:     "pod",
		LogDirectory: t.TempDir(),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: fmt.Sprintf("%s/pod-%d", podGroups, kube.attempts.Add(1)),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{
				Pid: cri.NamespaceMode_CONTAINER, UsernsOptions: &cri.UserNamespace{Mode: cri.NamespaceMode_NODE},
			}},
		},
	}
}

func runPod(t *testing.T, handler string, change func(*cri.PodSandboxConfig)) *pod {
	t.Helper()
	config := podConfig(t)
	if change != nil {
		change(config)
	}
	response, err := kube.RunPodSandbox(within(t), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	if err != nil {
		t.Errorf("%v\n%s", err, daemon.LogTail(5))
		if err := removeGroups(config.Linux.CgroupParent); err != nil {
			t.Error(err)
		}
		t.FailNow()
	}
	p := &pod{t, response.PodSandboxId, config, []string{response.PodSandboxId}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if _, err := kube.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Error(err)
		}
		if _, err := kube.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Error(err)
		}
		p.assertNothingLeft(ctx)
	})
	return p
}

// container is one of a pod's, which removes it.
type container struct {
	*pod
	id  string
	log string
}

// containerConfig is a container as a kubelet would have it.
func (p *pod) containerConfig(name string, command ...string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name, Attempt: kube.attempts.Add(1)},
		Image:    &cri.ImageSpec{Image: image},
		Command:  command,
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions,
			// As the kubelet has it.
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		}},
	}
}

func (p *pod) create(name string, change func(*cri.ContainerConfig), command ...string) *container {
	p.t.Helper()
	config := p.containerConfig(name, command...)
	if change != nil {
		change(config)
	}
	// As the kubelet does with every mount.
	if n := config.Linux.SecurityContext.NamespaceOptions.UsernsOptions; n != nil {
		for _, m := range config.Mounts {
			if m.UidMappings == nil {
				m.UidMappings, m.GidMappings = n.Uids, n.Gids
			}
		}
	}
	response, err := kube.CreateContainer(within(p.t), &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	if err != nil {
		p.t.Fatal(err)
	}
	p.ids = append(p.ids, response.ContainerId)
	return &container{p, response.ContainerId, filepath.Join(p.config.LogDirectory, name+".log")}
}

func (c *container) start() *container {
	c.t.Helper()
	if _, err := kube.StartContainer(within(c.t), &cri.StartContainerRequest{ContainerId: c.id}); err != nil {
		c.t.Fatalf("%v\n%s", err, daemon.LogTail(5))
	}
	return c
}

// sleeper is a running container that does nothing.
func (p *pod) sleeper(name string, change func(*cri.ContainerConfig)) *container {
	p.t.Helper()
	return p.create(name, change, "/bin/sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done").start()
}

// exec runs a shell script in the container by an exec probe.
func (c *container) exec(script string) (stdout, stderr string, code int32) {
	c.t.Helper()
	r, err := kube.ExecSync(within(c.t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"/bin/sh", "-c", script}, Timeout: 30})
	if err != nil {
		c.t.Fatal(err)
	}
	return string(r.Stdout), string(r.Stderr), r.ExitCode
}

// says fails the test unless a script prints want.
func (c *container) says(script, want string) {
	c.t.Helper()
	stdout, stderr, code := c.exec(script)
	if stdout != want {
		c.t.Errorf("%s: %q (exit code %d, stderr %q), want %q", script, stdout, code, stderr, want)
	}
}

func (c *container) status() *cri.ContainerStatus {
	c.t.Helper()
	r, err := kube.ContainerStatus(within(c.t), &cri.ContainerStatusRequest{ContainerId: c.id})
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Status
}

// wait waits until the container has exited.
func (c *container) wait() *cri.ContainerStatus {
	c.t.Helper()
	ctx := within(c.t)
	for {
		if s := c.status(); s.State == cri.ContainerState_CONTAINER_EXITED {
			return s
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("container %s has not exited", c.id)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
