package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hook appends its name to a file of the bundle, and stores the state it got on stdin beside it.
func hook(b *bundle, name, more string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c",
		"cat > '" + b.dir + "/" + name + ".json'; echo " + name + " >> '" + b.dir + "/order'; readlink /proc/self/ns/mnt > '" + b.dir + "/" + name + ".mnt'; " + more}}
}

// insideHook is for hooks that run in the container's namespaces, where the bundle is not to be seen after the pivot.
func insideHook(name string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > /" + name + ".json; date +%s%N > /" + name + ".time"}}
}

func TestHooksRunInOrderInTheirNamespacesWithTheState(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "test -f /startContainer.json && echo after startContainer")
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime:   []specs.Hook{hook(b, "createRuntime", "")},
		CreateContainer: []specs.Hook{hook(b, "createContainer", "")},
		StartContainer:  []specs.Hook{insideHook("startContainer")},
		Poststart:       []specs.Hook{hook(b, "poststart", "")},
		Poststop:        []specs.Hook{hook(b, "poststop", "")},
	}
	setPrestart(b.spec.Hooks, []specs.Hook{hook(b, "prestart", "")})
	c := r.create(t, b)
	before := readText(t, b.dir, "order")
	if !ours {
		before = strings.TrimSuffix(before, "poststart\n") // runc 1.1 runs it at create, against the specification
	}
	if got := before; got != "prestart\ncreateRuntime\ncreateContainer\n" {
		t.Errorf("before start: %q", got)
	}
	if _, err := os.Stat(filepath.Join(b.root, "startContainer.json")); err == nil {
		t.Error("startContainer ran before start")
	}
	r.must(t, "start", b.id)
	if line := c.line(t); line != "after startContainer" {
		t.Errorf("output %q", line)
	}
	c.wait(t)
	r.must(t, "delete", b.id)
	if got := readText(t, b.dir, "order"); got != "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n" {
		t.Errorf("at the end: %q", got)
	}
	host := hostNamespace(t, "mnt")
	for name, inside := range map[string]bool{"prestart": false, "createRuntime": false, "createContainer": true, "poststart": false, "poststop": false} {
		if got := strings.TrimSpace(readText(t, b.dir, name+".mnt")); (got != host) != inside {
			t.Errorf("%s ran in mount namespace %s, the host's is %s", name, got, host)
		}
	}
	wantStatus := map[string]specs.ContainerState{"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "startContainer": "created", "poststart": "running", "poststop": "stopped"}
	for name, want := range wantStatus {
		dir := b.dir
		if name == "startContainer" {
			dir = b.root
		}
		var state specs.State
		if err := json.Unmarshal([]byte(readText(t, dir, name+".json")), &state); err != nil {
			t.Errorf("%s: state on stdin: %v", name, err)
			continue
		}
		if state.ID != b.id || state.Bundle != b.dir || state.Version == "" {
			t.Errorf("%s: state %+v", name, state)
		}
		if ours && state.Status != want { // runc 1.1 says created or stopped where the specification has creating
			t.Errorf("%s: status %s, want %s", name, state.Status, want)
		}
		if name == "prestart" && state.Pid != c.pid {
			t.Errorf("prestart: pid %d, want %d", state.Pid, c.pid)
		}
	}
}

// setPrestart sets the hooks that the specification calls deprecated, and that Docker sets up its networks with.
func setPrestart(h *specs.Hooks, list []specs.Hook) {
	//lint:ignore SA1019 see above
	h.Prestart = list //nolint:staticcheck // see above
}

func readText(t testing.TB, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestHookFailureStopsTheContainer(t *testing.T) {
	set := map[string]func(h *specs.Hooks, list []specs.Hook){
		"prestart":        setPrestart,
		"createRuntime":   func(h *specs.Hooks, list []specs.Hook) { h.CreateRuntime = list },
		"createContainer": func(h *specs.Hooks, list []specs.Hook) { h.CreateContainer = list },
		"startContainer":  func(h *specs.Hooks, list []specs.Hook) { h.StartContainer = list },
	}
	for name, use := range set {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, "touch /ran")
			b.spec.Hooks = &specs.Hooks{}
			use(b.spec.Hooks, []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo the hook is unhappy >&2; exit 3"}}})
			res := r.runBundle(t, b)
			res.refused(t, name)
			if _, err := os.Stat(filepath.Join(b.root, "ran")); err == nil {
				t.Error("the workload ran all the same")
			}
			if name != "startContainer" {
				assertNothingLeft(t, r, b)
			}
		})
	}
}

func TestHookTimeout(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "touch /ran")
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: pointer(1)}}}
	before := time.Now()
	r.runBundle(t, b).refused(t, "createRuntime")
	if took := time.Since(before); took > 20*time.Second {
		t.Errorf("a timeout of one second took %s", took)
	}
	if _, err := os.Stat(filepath.Join(b.root, "ran")); err == nil {
		t.Error("the workload ran all the same")
	}
	assertNothingLeft(t, r, b)
}

func TestHookArgumentsAndEnvironment(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/true")
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh",
		Args: []string{"myname", "-c", `tr '\0' '\n' < /proc/$$/cmdline > "$OUT"; tr '\0' '\n' < /proc/$$/environ >> "$OUT"`}, Env: []string{"OUT=" + b.dir + "/said"}}}}
	if res := r.runBundle(t, b); res.code != 0 {
		t.Fatal(res)
	}
	lines := strings.Split(readText(t, b.dir, "said"), "\n")
	if lines[0] != "myname" {
		t.Errorf("argv[0] is %q", lines[0])
	}
	if !bytes.Contains([]byte(readText(t, b.dir, "said")), []byte("\nOUT="+b.dir+"/said\n")) || strings.Contains(readText(t, b.dir, "said"), "\nPATH=") {
		t.Errorf("the environment is not the hook's alone: %q", lines)
	}
}

// Hooks get none of the caller's descriptors (runc's poststop hooks do). Those in the runtime's namespaces that bring no environment get the caller's.
func TestOwnHooksGetTheEnvironmentAndNoDescriptors(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/true")
	out := filepath.Join(b.dir, "said")
	hook := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `echo "word $WORD" >> ` + out + `; ls -l /proc/$$/fd >> ` + out}}}
	b.spec.Hooks = &specs.Hooks{CreateRuntime: hook, Poststart: hook, Poststop: hook}
	b.write(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", write.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", "--keep", "--bundle", b.dir, b.id}, {"delete", b.id}} {
		cmd := r.command(context.Background(), args...)
		cmd.Env = append(os.Environ(), "WORD=caller")
		cmd.ExtraFiles = []*os.File{write}
		if res := finish(t, cmd); res.code != 0 {
			t.Fatal(res)
		}
	}
	said := readText(t, b.dir, "said")
	if strings.Count(said, "word caller\n") != 3 || strings.Count(said, "memfd:hook-state") != 3 || strings.Contains(said, pipe) {
		t.Errorf("the caller's descriptor is %s, and the hooks say:\n%s", pipe, said)
	}
}
