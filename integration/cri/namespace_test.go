package cri

import (
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestHostNetwork(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, func(c *cri.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
			c.Hostname = "" // the node's
		})
		want := ""
		if err := daemon.InNetwork(func() (err error) { want, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
			t.Fatal(err)
		}
		c := p.sleeper("c", nil)
		c.says("readlink /proc/1/ns/net; ls -d /sys/class/net/lo; echo x 2>/dev/null > /sys/class/net/lo/mtu || echo refused", want+"\n/sys/class/net/lo\nrefused\n")
	})
}

func TestHostPIDAndIPC(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		p := runPod(t, handler, func(c *cri.PodSandboxConfig) {
			n := c.Linux.SecurityContext.NamespaceOptions
			n.Pid, n.Ipc = cri.NamespaceMode_NODE, cri.NamespaceMode_NODE
		})
		c := p.sleeper("c", nil)
		for _, kind := range []string{"pid", "ipc"} {
			want, err := os.Readlink("/proc/self/ns/" + kind)
			if err != nil {
				t.Fatal(err)
			}
			c.says("readlink /proc/self/ns/"+kind, want+"\n")
		}
	})
}

// shareProcessNamespace: the pod's containers see each other's processes and, through /proc, their files; the sandbox's process is their first.
func TestContainersShareProcesses(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
		a, b := p.sleeper("a", nil), p.sleeper("b", nil)
		b.says("cat /proc/1/cmdline | tr '\\0' ' '", "/sleep 1000000 ")
		a.says("echo text > /tmp/of-a; sleep 4321 >/dev/null 2>&1 & echo started", "started\n")
		b.says("cat /proc/$(ps | grep '[s]leep 4321' | sed 's/^ *//; s/ .*//')/root/tmp/of-a", "text\n")
		b.says("kill $(ps | grep '[s]leep 4321' | sed 's/^ *//; s/ .*//') && echo killed", "killed\n")
		if s := a.status(); s.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("%v", s)
		}
	})
}

// An ephemeral container joins the processes of another one, as "kubectl debug --target" has it, and finds that one's files at /proc/1/root.
func TestContainerJoinsTheProcessesOfAnother(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		a := p.sleeper("a", nil)
		a.says("echo text > /tmp/of-a", "")
		debug := p.create("debug", func(c *cri.ContainerConfig) {
			options := p.config.Linux.SecurityContext.NamespaceOptions
			c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{
				Network: options.Network, Ipc: options.Ipc, UsernsOptions: options.UsernsOptions, Pid: cri.NamespaceMode_TARGET, TargetId: a.id,
			}
		}, "/bin/sh", "-c", "cat /proc/1/root/tmp/of-a || echo none; ls /tmp; while :; do sleep 0.1; done").start()
		of, _, _ := a.exec("readlink /proc/1/ns/pid")
		if !strings.HasPrefix(of, "pid:") {
			t.Errorf("%q", of)
		}
		debug.says("readlink /proc/self/ns/pid", of)
		waitForText(t, debug.log, "\n")
		if text := readText(t, debug.log); !strings.HasSuffix(text, " stdout F text") {
			t.Errorf("%q", text)
		}
		debug.says("cat /proc/1/root/tmp/of-a", "text\n")
		debug.exec("kill -TERM 1") // which may be the last that this program does: the namespace ends with its first process
		if s := a.wait(); s.ExitCode != 143 {
			t.Errorf("%v", s)
		}
	})
}

// Containers of one pod have one user namespace: another mapping than the pod's is refused, and so is none.
func TestUserNamespaceOfAContainerIsItsPods(t *testing.T) {
	each(t, func(t *testing.T, handler string) {
		p := runPod(t, handler, withUserNamespace)
		for name, options := range map[string]*cri.UserNamespace{
			"none":  {Mode: cri.NamespaceMode_NODE},
			"other": {Mode: cri.NamespaceMode_POD, Uids: []*cri.IDMapping{{HostId: firstID + countID, Length: countID}}, Gids: mappings()},
		} {
			config := p.containerConfig("c", "/bin/true")
			config.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER, UsernsOptions: options}
			r, err := kube.CreateContainer(within(t), &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
			if err == nil {
				t.Errorf("%s: %v", name, r)
			}
		}
	})
}
