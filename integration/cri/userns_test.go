package cri

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The range of the node's ids that a pod's user namespace has; the kubelet gives each pod another one of this size.
const (
	firstID = 5 << 16
	countID = 1 << 16
)

func mappings() []*cri.IDMapping {
	return []*cri.IDMapping{{ContainerId: 0, HostId: firstID, Length: countID}}
}

// withUserNamespace is what the kubelet does for a pod with hostUsers: false.
func withUserNamespace(c *cri.PodSandboxConfig) {
	c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: mappings(), Gids: mappings()}
}

// pid is the container's first process, as the node sees it.
func (c *container) pid() int {
	c.t.Helper()
	r, err := kube.ContainerStatus(within(c.t), &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true})
	if err != nil {
		c.t.Fatal(err)
	}
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil || info.Pid == 0 {
		c.t.Fatalf("no pid in %q: %v", r.Info["info"], err)
	}
	return info.Pid
}

// owners are the user and group of a file as the node sees them.
func owners(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return fmt.Sprintf("%d %d", st.Uid, st.Gid)
}

func TestPodsUserNamespaceMapsProcessesAndFiles(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		p := runPod(t, handler, withUserNamespace)
		a := p.sleeper("a", nil)
		b := p.sleeper("b", func(c *cri.ContainerConfig) {
			s := c.Linux.SecurityContext
			s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 1001}, []int64{2000}
		})
		want := fmt.Sprintf("%10d %10d %10d\n", 0, firstID, countID)
		node, err := os.Readlink("/proc/self/ns/user")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*container{a, b} {
			if of, _, _ := c.exec("readlink /proc/1/ns/user"); of == node+"\n" || of == "" {
				t.Errorf("the user namespace is %q, the node's %q", of, node)
			}
			c.says("cat /proc/1/uid_map", want)
			c.says("cat /proc/self/gid_map", want)
			// The image's files.
			c.says("stat -c '%u %g' /bin/busybox /home/user", "0 0\n1000 1000\n")
		}
		a.says("id -u; id -g; touch /new /etc/hosts /etc/hostname /etc/resolv.conf && stat -c '%u %g' /new /etc/hosts /etc/hostname /etc/resolv.conf", "0\n0\n"+strings.Repeat("0 0\n", 4))
		b.says("id -u; id -g; id -G; touch /new 2>/dev/null || echo refused; touch /tmp/new && stat -c '%u %g' /tmp/new", "1000\n1001\n1001 2000\nrefused\n1000 1001\n")
		for path, want := range map[string]string{
			fmt.Sprintf("/proc/%d", a.pid()):              fmt.Sprint(firstID, firstID),
			fmt.Sprintf("/proc/%d/root/new", a.pid()):     fmt.Sprint(firstID, firstID),
			fmt.Sprintf("/proc/%d", b.pid()):              fmt.Sprint(firstID+1000, firstID+1001),
			fmt.Sprintf("/proc/%d/root/tmp/new", b.pid()): fmt.Sprint(firstID+1000, firstID+1001),
		} {
			if got := owners(t, path); got != want {
				t.Errorf("%s belongs to %s, want %s", path, got, want)
			}
		}
	})
}

// Capabilities that are given in a pod with a user namespace reach no further than the pod.
func TestCapabilitiesInAPodsUserNamespace(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		p := runPod(t, handler, withUserNamespace)
		c := p.sleeper("c", func(c *cri.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"ALL"}}
		})
		c.says("mount -t tmpfs none /tmp && echo mounted; ip addr add 10.9.9.9/32 dev lo && echo added; hostname other && hostname", "mounted\nadded\nother\n")
		c.says("mknod /n c 1 3 2>/dev/null || echo no node; echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo read-only; mount -o remount,rw,bind /sys 2>/dev/null; echo x 2>/dev/null > /sys/kernel/profiling || echo the node is out of reach",
			"no node\nread-only\nthe node is out of reach\n")
	})
}
