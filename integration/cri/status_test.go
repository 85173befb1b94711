package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A kubelet gives pods with a user namespace, and recursive read-only mounts, only to handlers that say they can.
func TestStatusReportsFeatures(t *testing.T) {
	r, err := kube.Status(within(t), &cri.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]*cri.RuntimeHandlerFeatures{}
	for _, h := range r.RuntimeHandlers {
		seen[h.Name] = h.Features
	}
	for _, name := range []string{runc, handler} {
		if f := seen[name]; !f.GetUserNamespaces() || !f.GetRecursiveReadOnlyMounts() {
			t.Errorf("%s: %v", name, f)
		}
	}
	if !r.Features.GetSupplementalGroupsPolicy() {
		t.Errorf("%v", r.Features)
	}
}

// The image has its user in one more group.
func TestSupplementalGroupsPolicy(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		for policy, want := range map[cri.SupplementalGroupsPolicy]string{
			cri.SupplementalGroupsPolicy_Merge: "1000 2000 3000", cri.SupplementalGroupsPolicy_Strict: "1000 3000",
		} {
			c := p.sleeper(strings.ToLower(policy.String()), func(c *cri.ContainerConfig) {
				s := c.Linux.SecurityContext
				s.RunAsUser, s.SupplementalGroups, s.SupplementalGroupsPolicy = &cri.Int64Value{Value: 1000}, []int64{3000}, policy
			})
			c.says("id -G", want+"\n")
			user := c.status().GetUser().GetLinux()
			if got := strings.Trim(fmt.Sprint(user.GetSupplementalGroups()), "[]"); user.GetUid() != 1000 || user.GetGid() != 1000 || got != want {
				t.Errorf("%s: the status has %v", policy, user)
			}
		}
	})
}

// Memory and processor time of a container that has used both, each way that CRI has to ask for them.
func TestStats(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		const filled = 24 << 20
		p := run(t, nil)
		idle := p.sleeper("idle", nil)
		busy := p.sleeper("busy", nil)
		busy.says(fmt.Sprintf("head -c %d /dev/zero > /dev/shm/x; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done", filled), "done\n")
		plausible := func(what string, s *cri.ContainerStats) {
			memory, cpu := s.GetMemory().GetWorkingSetBytes().GetValue(), s.GetCpu().GetUsageCoreNanoSeconds().GetValue()
			if s.GetAttributes().GetId() == busy.id {
				if memory < filled || memory > filled+16<<20 || cpu < 5e6 || cpu > 60e9 {
					t.Errorf("%s, busy: %d bytes, %d ns", what, memory, cpu)
				}
			} else if s.GetAttributes().GetId() != idle.id || memory == 0 || memory > 16<<20 {
				t.Errorf("%s, idle: %v", what, s)
			}
		}
		for _, c := range []*container{idle, busy} {
			r, err := kube.ContainerStats(within(t), &cri.ContainerStatsRequest{ContainerId: c.id})
			if err != nil {
				t.Fatal(err)
			}
			plausible("ContainerStats", r.Stats)
		}
		list, err := kube.ListContainerStats(within(t), &cri.ListContainerStatsRequest{Filter: &cri.ContainerStatsFilter{PodSandboxId: p.id}})
		if err != nil || len(list.Stats) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		for _, s := range list.Stats {
			plausible("ListContainerStats", s)
		}
		r, err := kube.PodSandboxStats(within(t), &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
		if err != nil {
			t.Fatal(err)
		}
		linux := r.Stats.GetLinux()
		for _, s := range linux.GetContainers() {
			plausible("PodSandboxStats", s)
		}
		if memory := linux.GetMemory().GetWorkingSetBytes().GetValue(); len(linux.GetContainers()) != 2 || memory < filled || memory > filled+48<<20 {
			t.Errorf("PodSandboxStats: %d containers, %d bytes", len(linux.GetContainers()), memory)
		}
		if eth := linux.GetNetwork().GetDefaultInterface(); eth.GetName() != "eth0" {
			t.Errorf("PodSandboxStats: %v", linux.GetNetwork())
		}
	})
}

// There is no checkpoint to make, and the container does not suffer from the attempt.
func TestCheckpointIsRefused(t *testing.T) {
	c := runPod(t, handler, nil).sleeper("c", nil)
	r, err := kube.CheckpointContainer(within(t), &cri.CheckpointContainerRequest{ContainerId: c.id, Location: filepath.Join(t.TempDir(), "checkpoint.tar"), Timeout: 10})
	if err == nil {
		t.Errorf("%v", r)
	}
	c.says("echo alive", "alive\n")
}

// listen receives all events until ctx ends. containerd stops for a listener that does not keep up, and tells a new one what happened in the last minutes.
func listen(ctx context.Context, t *testing.T) <-chan *cri.ContainerEventResponse {
	t.Helper()
	events, err := kube.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	const enough = 10000
	heard := make(chan *cri.ContainerEventResponse, enough)
	go func() {
		defer close(heard)
		for {
			e, err := events.Recv()
			if err != nil {
				return
			}
			heard <- e
		}
	}()
	return heard
}

func TestContainerEvents(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		heard := listen(ctx, t)
		p := runPod(t, handler, nil)
		c := p.create("c", nil, "/bin/true").start()
		c.wait()
		if _, err := kube.RemoveContainer(within(t), &cri.RemoveContainerRequest{ContainerId: c.id}); err != nil {
			t.Fatal(err)
		}
		var seen []string
		for e := range heard {
			if e.ContainerId == c.id {
				seen = append(seen, strings.TrimSuffix(strings.TrimPrefix(e.ContainerEventType.String(), "CONTAINER_"), "_EVENT"))
			}
			if e.ContainerId == c.id && e.ContainerEventType == cri.ContainerEventType_CONTAINER_DELETED_EVENT {
				break
			}
		}
		if got, want := strings.Join(seen, " "), "CREATED STARTED STOPPED DELETED"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// The kubelet renames a log that has grown too long, and has a new one begun.
func TestReopenContainerLog(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		c := runPod(t, handler, nil).create("c", nil, "/bin/sh", "-c", "echo before; until [ -e /tmp/go ]; do sleep 0.05; done; echo after; sleep 1000").start()
		waitForText(t, c.log, "before")
		if err := os.Rename(c.log, c.log+".1"); err != nil {
			t.Fatal(err)
		}
		if _, err := kube.ReopenContainerLog(within(t), &cri.ReopenContainerLogRequest{ContainerId: c.id}); err != nil {
			t.Fatal(err)
		}
		c.says("touch /tmp/go", "")
		waitForText(t, c.log, " stdout F after\n")
		if old := readText(t, c.log+".1"); strings.Contains(old, "after") {
			t.Errorf("the old log has %q", old)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).create("c", func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20}
		}, "/bin/sh", "-c", "tail /dev/zero & wait $!; sleep 1; exit 3").start()
		// What is killed is the child; CRI tells of it all the same.
		if s := c.wait(); s.Reason != "OOMKilled" {
			t.Errorf("%v", s)
		}
	})
}

// memoryOf is the limit in force.
func memoryOf(t *testing.T, c *container) string {
	t.Helper()
	return readText(t, filepath.Join(memoryGroup(t, c.config.Linux.CgroupParent, c.id), "memory.limit_in_bytes"))
}

// A limit below what is in use is refused if the kernel cannot make room, and the container keeps its old one.
func TestUpdateBelowUsage(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).sleeper("c", func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 96 << 20}
		})
		c.says(fmt.Sprintf("head -c %d /dev/zero > /dev/shm/x && echo filled", 48<<20), "filled\n")
		update := func(limit int64) error {
			_, err := kube.UpdateContainerResources(within(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: limit}})
			return err
		}
		if err := update(16 << 20); err == nil {
			t.Error("48 MiB are in use, 16 MiB are set")
		}
		if got := memoryOf(t, c); got != fmt.Sprint(96<<20) {
			t.Errorf("the limit is %s", got)
		}
		c.says("rm /dev/shm/x && echo freed", "freed\n")
		if err := update(16 << 20); err != nil {
			t.Error(err)
		}
		if got := memoryOf(t, c); got != fmt.Sprint(16<<20) {
			t.Errorf("the limit is %s", got)
		}
	})
}

// The status has what the container was given last.
func TestStatusReportsResources(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		c := runPod(t, handler, nil).sleeper("c", func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512, CpuPeriod: 100000, CpuQuota: 50000}
		})
		if s := c.status(); s.State != cri.ContainerState_CONTAINER_RUNNING || time.Unix(0, s.StartedAt).Before(time.Unix(0, s.CreatedAt)) {
			t.Errorf("%v", s)
		}
		if got := c.status().GetResources().GetLinux(); got.GetMemoryLimitInBytes() != 64<<20 || got.GetCpuShares() != 512 || got.GetCpuQuota() != 50000 {
			t.Errorf("%v", got)
		}
	})
}
