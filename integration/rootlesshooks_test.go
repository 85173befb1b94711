package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The hooks of an ordinary user's container: those of the runtime are that user, whose files they write, and those of the container its root.
func TestOwnRootlessHooks(t *testing.T) {
	for _, ranges := range []bool{false, true} {
		t.Run(fmt.Sprintf("ranges %v", ranges), func(t *testing.T) {
			u := newUser(t, ranges, "/bin/sh", "-c", "test -f /startContainer.json && exec sleep 100")
			u.spec.Root.Readonly = false
			files := &bundle{dir: u.home}
			with := func(name string) []specs.Hook {
				return []specs.Hook{hook(files, name, fmt.Sprintf("{ id -u; readlink /proc/self/ns/user; } > '%s/%s.user'", u.home, name))}
			}
			u.spec.Hooks = &specs.Hooks{CreateRuntime: with("createRuntime"), CreateContainer: with("createContainer"),
				StartContainer: []specs.Hook{insideHook("startContainer")}, Poststart: with("poststart"), Poststop: with("poststop")}
			setPrestart(u.spec.Hooks, with("prestart"))
			u.write(t)
			must := func(args ...string) {
				t.Helper()
				if res := u.run(t, args...); res.code != 0 {
					t.Fatalf("%q: %v", args, res)
				}
			}
			pidFile := filepath.Join(u.home, "pid")
			must("create", "--bundle", u.home, "--pid-file", pidFile, u.id)
			pid := readPid(t, pidFile)
			adopt(pid)
			if got := readText(t, u.home, "order"); got != "prestart\ncreateRuntime\ncreateContainer\n" {
				t.Errorf("before start: %q", got)
			}
			own, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/user")
			if err != nil {
				t.Fatal(err)
			}
			must("start", u.id)
			eventually(t, "poststart, after the program has begun", func() bool { return strings.HasSuffix(readText(t, u.home, "order"), "poststart\n") })
			must("exec", u.id, "true") // it found what startContainer had written
			must("delete", "--force", u.id)
			if got := readText(t, u.home, "order"); got != "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n" {
				t.Errorf("at the end: %q", got)
			}
			for name, want := range map[string]struct {
				status specs.ContainerState
				inside bool
			}{"prestart": {"creating", false}, "createRuntime": {"creating", false}, "createContainer": {"creating", true}, "poststart": {"running", false}, "poststop": {"stopped", false}} {
				var state specs.State
				if err := json.Unmarshal([]byte(readText(t, u.home, name+".json")), &state); err != nil {
					t.Errorf("%s: state on stdin: %v", name, err)
				}
				if state.ID != u.id || state.Bundle != u.home || state.Status != want.status || name != "poststop" && state.Pid != pid {
					t.Errorf("%s: %+v", name, state)
				}
				who := strings.Fields(readText(t, u.home, name+".user"))
				if uid := map[bool]string{false: strconv.Itoa(ordinary), true: "0"}[want.inside]; len(who) != 2 || who[0] != uid || (who[1] == own) != want.inside {
					t.Errorf("%s ran as %q, want %s; the container's user namespace is %s", name, who, uid, own)
				}
			}
			var state specs.State
			if err := json.Unmarshal([]byte(readText(t, u.root, "startContainer.json")), &state); err != nil || state.ID != u.id || state.Status != specs.StateCreated {
				t.Errorf("startContainer: %v: %+v", err, state)
			}
		})
	}
}

func TestOwnRootlessHookFailures(t *testing.T) {
	for name, use := range map[string]func(h *specs.Hooks, list []specs.Hook){
		"prestart":        setPrestart,
		"createRuntime":   func(h *specs.Hooks, list []specs.Hook) { h.CreateRuntime = list },
		"createContainer": func(h *specs.Hooks, list []specs.Hook) { h.CreateContainer = list },
		"startContainer":  func(h *specs.Hooks, list []specs.Hook) { h.StartContainer = list },
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, false, "/bin/echo", "the program")
			for code, runs := range map[int]bool{0: true, 3: false} {
				u.spec.Hooks = new(specs.Hooks)
				use(u.spec.Hooks, []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "exit " + strconv.Itoa(code)}}})
				res := u.runBundle(t)
				if ran := res.code == 0 && res.stdout == "the program\n"; ran != runs || !runs && (res.stdout != "" || !strings.Contains(res.stderr, name)) {
					t.Errorf("a hook that exits with %d: %v", code, res)
				}
			}
		})
	}
}
