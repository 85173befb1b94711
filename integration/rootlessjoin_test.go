package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

// joinUser makes the container join the user namespace of a process.
func (u *user) joinUser(pid int) (namespace string) {
	path := fmt.Sprintf("/proc/%d/ns/user", pid)
	testbundle.SetNamespacePath(u.spec, specs.UserNamespace, path)
	u.spec.Linux.UIDMappings, u.spec.Linux.GIDMappings = nil, nil
	namespace, _ = os.Readlink(path) // nobody's name where there is no such process, which the test finds
	return namespace
}

// lives takes a container that is to run in a user namespace through its life.
func (u *user) lives(t *testing.T, namespace string) {
	t.Helper()
	u.spec.Root.Readonly = false
	u.spec.Process.Args = []string{"/bin/sh", "-c", "readlink /proc/self/ns/user; id -u; touch /tmp/mine; echo x > /dev/null"}
	if res := u.runBundle(t); res.code != 0 || res.stdout != namespace+"\n0\n" {
		t.Errorf("want %s and root in it: %v", namespace, res)
	}
	u.spec.Process.Args = []string{"/bin/sleep", "100"}
	pidFile := filepath.Join(u.home, "pid")
	if res := u.runBundle(t, "--detach", "--pid-file", pidFile); res.code != 0 {
		t.Fatal(res)
	}
	adopt(readPid(t, pidFile))
	for _, c := range []struct {
		want string
		args []string
	}{
		{`"status": "running"`, []string{"state", u.id}}, {namespace + "\n", []string{"exec", u.id, "readlink", "/proc/self/ns/user"}},
		{"sleep", []string{"exec", u.id, "cat", "/proc/1/cmdline"}}, {"", []string{"kill", u.id, "KILL"}},
	} {
		if res := u.run(t, c.args...); res.code != 0 || !strings.Contains(res.stdout, c.want) {
			t.Errorf("%q: want %q: %v", c.args, c.want, res)
		}
	}
	if res := u.run(t, "delete", "--force", u.id); res.code != 0 {
		t.Error(res)
	}
}

// An ordinary user's container in the user namespace of another one, as the containers of a pod share it, with other namespaces of it and without.
func TestOwnRootlessJoinsAContainersUserNamespace(t *testing.T) {
	for _, ranges := range []bool{false, true} {
		t.Run(fmt.Sprintf("ranges %v", ranges), func(t *testing.T) {
			first := newUser(t, ranges, "/bin/sleep", "100")
			pidFile := filepath.Join(first.home, "pid")
			if res := first.runBundle(t, "--detach", "--pid-file", pidFile); res.code != 0 {
				t.Fatal(res)
			}
			pid := readPid(t, pidFile)
			adopt(pid)
			u := newUser(t, ranges, "/bin/true")
			namespace := u.joinUser(pid)
			u.lives(t, namespace)
			for _, kind := range []specs.LinuxNamespaceType{specs.UTSNamespace, specs.IPCNamespace} {
				testbundle.SetNamespacePath(u.spec, kind, fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			}
			u.spec.Hostname = "" // the first one's
			u.lives(t, namespace)
			if res := first.run(t, "exec", first.id, "true"); res.code != 0 {
				t.Errorf("the first container: %v", res)
			}
		})
	}
}

// The same, in a user namespace that the user has made without a runtime.
func TestOwnRootlessJoinsAUserNamespace(t *testing.T) {
	u := newUser(t, false, "/bin/true")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	u.lives(t, u.joinUser(hold(t, u.as(ctx, "unshare", "--user", "--map-root-user", "sleep", "1000"))))
}

// A user namespace of somebody else's stays closed.
func TestOwnRootlessJoinsNobodyElses(t *testing.T) {
	u := newUser(t, false, "/bin/echo", "inside")
	u.joinUser(hold(t, exec.Command("unshare", "--user", "--map-root-user", "sleep", "1000")))
	res := u.runBundle(t)
	if res.refused(t, "linux.namespaces", "/ns/user", "denied"); res.stdout != "" {
		t.Errorf("%v", res)
	}
}

// hold starts a process that makes a user namespace with a root in it, and stays.
func hold(t *testing.T, cmd *exec.Cmd) (pid int) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, and so no success
	})
	pid = cmd.Process.Pid
	eventually(t, "the user namespace", func() bool {
		program, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		return err == nil && strings.HasPrefix(string(program), "sleep")
	})
	return pid
}
