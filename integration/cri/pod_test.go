package cri

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestContainersOfAPodShareNetworkAndIPC(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		a, b := p.sleeper("a", nil), p.sleeper("b", nil)
		for _, kind := range []string{"user", "net", "ipc", "uts"} {
			link := "readlink /proc/1/ns/" + kind
			of, _, _ := a.exec(link)
			b.says(link, of)
		}
		for _, kind := range []string{"pid", "mnt"} {
			link := "readlink /proc/1/ns/" + kind
			of, _, _ := a.exec(link)
			if other, _, _ := b.exec(link); other == of {
				t.Errorf("both are in %s", of)
			}
		}
		a.says("hostname", "pod\n")
		a.says("touch /dev/shm/x && echo there", "there\n")
		b.says("ls /dev/shm", "x\n")
		b.says("(echo hello | nc -l -p 7000 -w 5) >/dev/null 2>&1 & sleep 0.2; :", "")
		a.says("nc 127.0.0.1 7000 </dev/null", "hello\n")
		ip, _, _ := a.exec("ip -4 addr show dev eth0 | grep -c 'inet 10.88.'")
		if ip != "1\n" {
			t.Errorf("no address of the bridge's: %q", ip)
		}
	})
}

func TestExecProbes(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).sleeper("c", nil)
		if stdout, stderr, code := c.exec("echo out; echo err >&2; exit 3"); stdout != "out\n" || stderr != "err\n" || code != 3 {
			t.Errorf("%q, %q, %d", stdout, stderr, code)
		}
		_, err := kube.ExecSync(within(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"/bin/sleep", "4321"}, Timeout: 1})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a probe that takes too long: %v", err)
		}
		c.says("ps | grep -c '[s]leep 4321'", "0\n")
		if _, err := kube.ExecSync(within(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"/bin/missing"}}); err == nil {
			t.Error("a missing program is executed")
		}
	})
}

func TestLogs(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).create("c", nil, "/bin/sh", "-c", "echo one; echo two >&2; printf three").start()
		if s := c.wait(); s.ExitCode != 0 || s.Reason != "Completed" {
			t.Errorf("%v", s)
		}
		text, err := os.ReadFile(c.log)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{" stdout F one\n", " stderr F two\n", " stdout P three\n"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("no %q in %q", want, text)
			}
		}
	})
}

func TestUpdate(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		c := p.sleeper("c", func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512, CpuPeriod: 100000, CpuQuota: 50000}
		})
		group := memoryGroup(t, p.config.Linux.CgroupParent, c.id)
		if got := readText(t, filepath.Join(group, "memory.limit_in_bytes")); got != fmt.Sprint(64<<20) {
			t.Errorf("limit %s", got)
		}
		_, err := kube.UpdateContainerResources(within(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id,
			Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 96 << 20, CpuShares: 256}})
		if err != nil {
			t.Fatal(err)
		}
		if got := readText(t, filepath.Join(group, "memory.limit_in_bytes")); got != fmt.Sprint(96<<20) {
			t.Errorf("updated limit %s", got)
		}
		stats, err := kube.ContainerStats(within(t), &cri.ContainerStatsRequest{ContainerId: c.id})
		if err != nil || stats.Stats.Memory.GetWorkingSetBytes().GetValue() == 0 {
			t.Errorf("stats %v, %v", stats, err)
		}
	})
}

func memoryGroup(t *testing.T, parent, id string) string {
	t.Helper()
	dir := filepath.Join("/sys/fs/cgroup/memory", parent, id)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the cgroup is not below its pod's: %v", err)
	}
	return dir
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestRestartInALivingPod(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		first := p.create("c", nil, "/bin/sh", "-c", "readlink /proc/self/ns/net; exit 7").start()
		if s := first.wait(); s.ExitCode != 7 {
			t.Errorf("%v", s)
		}
		if _, err := kube.RemoveContainer(within(t), &cri.RemoveContainerRequest{ContainerId: first.id}); err != nil {
			t.Fatal(err)
		}
		again := p.create("c", nil, "/bin/sh", "-c", "readlink /proc/self/ns/net").start()
		if s := again.wait(); s.ExitCode != 0 {
			t.Errorf("%v", s)
		}
		file, err := os.Open(again.log)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		networks := map[string]bool{}
		for s := bufio.NewScanner(file); s.Scan(); {
			fields := strings.Fields(s.Text())
			networks[fields[len(fields)-1]] = true
		}
		if len(networks) != 1 {
			t.Errorf("networks %v", networks)
		}
	})
}

func TestStopWithGracePeriod(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		polite := p.create("polite", nil, "/bin/sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done").start()
		deaf := p.create("deaf", nil, "/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done").start()
		for _, c := range []*container{polite, deaf} {
			waitForText(t, c.log, "ready")
			if _, err := kube.StopContainer(within(t), &cri.StopContainerRequest{ContainerId: c.id, Timeout: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if s := polite.wait(); s.ExitCode != 9 {
			t.Errorf("asked to end: %v", s)
		}
		if s := deaf.wait(); s.ExitCode != 137 {
			t.Errorf("killed: %v", s)
		}
	})
}

// The signal that the pod's author or the image names for a stop.
func TestStopSignal(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).create("c", func(c *cri.ContainerConfig) { c.StopSignal = cri.Signal_SIGNAL_SIGUSR1 }, "/bin/sh", "-c",
			"trap 'exit 9' USR1; trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done").start()
		waitForText(t, c.log, "ready")
		if _, err := kube.StopContainer(within(t), &cri.StopContainerRequest{ContainerId: c.id, Timeout: 20}); err != nil {
			t.Fatal(err)
		}
		if s := c.wait(); s.ExitCode != 9 {
			t.Errorf("%v", s)
		}
	})
}

// Pods that come and go at the same time do not get in each other's way.
func TestManyPodsAtOnce(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		for i := range 6 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				p := run(t, nil)
				a, b := p.sleeper("a", nil), p.sleeper("b", nil)
				a.says("echo $HOSTNAME > /dev/shm/x && echo written", "written\n")
				b.says("cat /dev/shm/x", "pod\n")
			})
		}
	})
}

func waitForText(t *testing.T, file, want string) {
	t.Helper()
	for deadline := time.Now().Add(callTimeout); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not said %q: %q, %v", file, want, text, err)
		}
	}
}

// Containers outlive containerd, and are known to its successor.
func TestContainerdRestarts(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).sleeper("c", nil)
		before, _, _ := c.exec("cat /proc/1/stat | cut -d' ' -f22")
		if err := daemon.End(within(t)); err != nil {
			t.Fatal(err)
		}
		if err := daemon.Run(); err != nil {
			t.Fatal(err)
		}
		if err := kube.waitForNetwork(within(t)); err != nil {
			t.Fatal(err)
		}
		c.says("cat /proc/1/stat | cut -d' ' -f22", before)
	})
}
