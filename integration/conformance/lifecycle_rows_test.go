package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bundleFormat is the rows of bundle.md.
func bundleFormat() section {
	return section{"bundle.md", "Container Format", []requirement{
		{lines: "14", says: "config.json is in the root of the bundle, and has that name: without it there is an error", test: func(x *trial) {
			b := x.bundle(sleeps)
			x.store(b)
			x.noError(os.Rename(filepath.Join(b.dir, "config.json"), filepath.Join(b.dir, "spec.json")))
			x.refusesStored(b)
		}},
		{lines: "19", says: "a root that `root.path` names relative to the bundle is found there", test: func(x *trial) {
			b := x.bundle("echo ran")
			b.spec.Root.Path = filepath.Base(b.root)
			x.prints(b, "ran\n")
		}},
	}}
}

// runtimeSections are the rows of runtime.md.
func runtimeSections() []section {
	const document = "runtime.md"
	return []section{
		{document, "Scope of a Container", []requirement{
			{lines: "5", says: "who creates a container can use every operation on it", test: everyOperation},
		}},
		{document, "State", []requirement{
			{lines: "12", says: "`ociVersion` is the version that the state complies with", test: stateHasVersion},
			{lines: "13", says: "`id` is the container's", test: stateHasID},
			{lines: "14", says: "`id` is unique", test: idIsUnique},
			{lines: "16", says: "`status` is created, running and stopped in turn", test: statusInTurn},
			{lines: "24", says: "a status of the runtime's own stands for a state of its own: a paused container is not \"running\"", test: pausedIsAState},
			{lines: "25", says: "`pid` is the container process's while created or running", test: stateHasPid},
			{lines: "28", says: "`bundle` is the bundle's absolute path, also when create was given a relative one", test: stateHasBundle},
			{lines: "35", says: "the JSON adheres to the schema of the state", test: stateSchema},
		}},
		{document, "Lifecycle", []requirement{
			{lines: "58", says: "create makes the environment of config.json", test: createMakesEnvironment},
			{lines: "59", says: "an environment that cannot be made is an error", test: unmakeable},
			{lines: "60", says: "create makes the resources and does not run the program", test: createDoesNotRun},
			{lines: "61", says: "a config.json that changes after create does not affect the container", test: changedConfig},
			{lines: "62", says: "prestart hooks are invoked by create", test: hookInvoked(prestart, "create")},
			{lines: "63", says: "a prestart hook that fails: error, the container is stopped and destroyed", test: createHookFails(prestart)},
			{lines: "64", says: "createRuntime hooks are invoked by create", test: hookInvoked(createRuntime, "create")},
			{lines: "65", says: "a createRuntime hook that fails: error, the container is stopped and destroyed", test: createHookFails(createRuntime)},
			{lines: "66", says: "createContainer hooks are invoked by create", test: hookInvoked(createContainer, "create")},
			{lines: "67", says: "a createContainer hook that fails: error, the container is stopped and destroyed", test: createHookFails(createContainer)},
			{lines: "69", says: "startContainer hooks are invoked by start", test: startContainerInvoked},
			{lines: "70", says: "a startContainer hook that fails: error, the program never runs, the container is stopped", test: startContainerFails},
			{lines: "71", says: "start runs the program as process has it", test: startRuns},
			{lines: "72", says: "poststart hooks are invoked by start", test: hookInvoked(poststart, "start")},
			{lines: "73", says: "a poststart hook that fails: error, the container is stopped", test: poststartFails},
			{lines: "63,77,78", says: "after a prestart hook that fails the poststop hooks are invoked", test: poststopAfter(prestart)},
			{lines: "65,77,78", says: "after a createRuntime hook that fails the poststop hooks are invoked", test: poststopAfter(createRuntime)},
			{lines: "67,77,78", says: "after a createContainer hook that fails the poststop hooks are invoked", test: poststopAfter(createContainer)},
			{lines: "70,77,78", says: "after a startContainer hook that fails the poststop hooks are invoked", test: poststopAfter(startContainer)},
			{lines: "73,77,78", says: "after a poststart hook that fails the poststop hooks are invoked", test: poststopAfter(poststart)},
			{lines: "77", says: "delete undoes what create made", test: deleteUndoes},
			{lines: "78", says: "poststop hooks are invoked by delete", test: hookInvoked(poststop, "delete")},
			{lines: "79", says: "a poststop hook that fails is a warning: the other hooks and delete go on", test: poststopFails},
		}},
		{document, "Errors", []requirement{
			{lines: "84", says: "an error leaves everything as if nothing had been attempted", test: errorLeavesNothing},
		}},
		{document, "Warnings", []requirement{
			{lines: "89", says: "a warning does not change what the operation does", test: warningGoesOn},
		}},
		{document, "Operations", []requirement{
			{lines: "93", says: "state, create, start, kill and delete are supported", test: everyOperation},
		}},
		{document, "Query State", []requirement{
			{lines: "101", says: "state without an ID is an error", test: withoutID("state")},
			{lines: "102", says: "state of a container that does not exist is an error", test: func(x *trial) { x.fails("state", "nobody") }},
			{lines: "103", says: "state returns the state", test: stateHasID},
		}},
		{document, "Create", []requirement{
			{lines: "109", says: "create without a bundle or an ID is an error", test: createWithoutArguments},
			{lines: "110", says: "an ID that is in use or not valid is an error, and makes no container", test: badIDs},
			{lines: "111", says: "create makes a container", test: func(x *trial) {
				x.equal("status", x.state(x.create(x.bundle(sleeps)).id).Status, specs.StateCreated)
			}},
			{lines: "113", says: "everything in config.json but process is applied", test: createMakesEnvironment},
			{lines: "114", says: "`process.args` is not applied before start", test: createDoesNotRun},
			{lines: "116", says: "what cannot be applied is an error, and makes no container", test: unmakeable},
		}},
		{document, "Start", []requirement{
			{lines: "126", says: "start without an ID is an error", test: withoutID("start")},
			{lines: "127", says: "start of a container that is not created is an error and has no effect on it", test: startTwice},
			{lines: "128", says: "start runs the program as process has it", test: startRuns},
			{lines: "129", says: "start is an error if process was not set", test: func(x *trial) {
				b := x.bundle("")
				b.spec.Process = nil
				x.refusesToRun(b)
			}},
		}},
		{document, "Kill", []requirement{
			{lines: "134", says: "kill without an ID is an error", test: withoutID("kill")},
			{lines: "135", says: "kill of a container that is neither created nor running is an error", test: killStopped},
			{lines: "136", says: "kill sends the signal to the container process", test: killSends},
		}},
		{document, "Delete", []requirement{
			{lines: "141", says: "delete without an ID is an error", test: withoutID("delete")},
			{lines: "142", says: "delete of a container that runs is an error and has no effect on it", test: deleteRunning},
			{lines: "142", says: "delete of a container that is created is an error, too (containerd counts on its being deleted, as runc does)", test: func(x *trial) { x.fails("delete", x.create(x.bundle(sleeps)).id) }},
			{lines: "143", says: "delete deletes what create made", test: deleteUndoes},
			{lines: "144", says: "delete does not delete what the container did not create", test: deleteLeavesOthers},
		}},
	}
}

// fails fails unless the command does.
func (x *trial) fails(args ...string) {
	if res := x.run(args...); res.code == 0 {
		x.errorf("%q generated no error: %v", args, res)
	}
}

func withoutID(verb string) func(x *trial) {
	return func(x *trial) { x.fails(verb) }
}

func everyOperation(x *trial) {
	c := x.create(x.bundle(sleeps))
	x.must("state", c.id)
	x.must("start", c.id)
	x.must("kill", c.id, "KILL")
	x.end(c)
	x.must("delete", c.id)
}

func stateHasVersion(x *trial) {
	version := x.state(x.create(x.bundle(sleeps)).id).Version
	if !regexp.MustCompile(`^1\.\d+\.\d+(-[\w.-]+)?(\+[\w.-]+)?$`).MatchString(version) {
		x.errorf("ociVersion is %q", version)
	}
}

func stateHasID(x *trial) {
	c := x.create(x.bundle(sleeps))
	x.equal("id", x.state(c.id).ID, c.id)
}

func idIsUnique(x *trial) {
	c := x.create(x.bundle(sleeps))
	x.fails("create", "--bundle", c.dir, c.id)
	x.equal("pid of the first container", x.state(c.id).Pid, c.pid)
}

func statusInTurn(x *trial) {
	c := x.create(x.bundle(sleeps))
	x.equal("status after create", x.state(c.id).Status, specs.StateCreated)
	x.must("start", c.id)
	x.equal("status after start", x.state(c.id).Status, specs.StateRunning)
	x.must("kill", c.id, "KILL")
	x.end(c)
	x.equal("status after the end", x.state(c.id).Status, specs.StateStopped)
}

func pausedIsAState(x *trial) {
	c := x.start(x.bundle(sleeps))
	x.must("pause", c.id)
	status := x.state(c.id).Status
	x.must("resume", c.id)
	if slices.Contains([]specs.ContainerState{specs.StateCreating, specs.StateCreated, specs.StateRunning, specs.StateStopped}, status) {
		x.errorf("status of a paused container is %s", status)
	}
	x.equal("status after resume", x.state(c.id).Status, specs.StateRunning)
}

func stateHasPid(x *trial) {
	c := x.create(x.bundle(sleeps))
	x.equal("pid while created", x.state(c.id).Pid, c.pid)
	x.must("start", c.id)
	x.equal("pid while running", x.state(c.id).Pid, c.pid)
	x.equal("its namespace is the container's", x.namespace(c.pid, "pid") != x.namespace("self", "pid"), true)
}

func stateHasBundle(x *trial) {
	b := x.bundle(sleeps)
	x.store(b)
	cmd := exec.Command(x.runtime, "--root", x.root, "create", "--bundle", ".", b.id)
	cmd.Dir = b.dir
	if res := x.command(cmd); res.code != 0 {
		x.fatalf("create: %v", res)
	}
	x.cleanup(func() { x.run("delete", "--force", b.id) })
	x.equal("bundle", x.state(b.id).Bundle, b.dir)
}

// stateSchema holds the state against what schema/state-schema.json asks: the types, and what has to be there.
func stateSchema(x *trial) {
	b := x.bundle(sleeps)
	b.spec.Annotations = map[string]string{"org.example.key": "value"}
	var state struct {
		OCIVersion  *string           `json:"ociVersion"`
		ID          *string           `json:"id"`
		Status      *string           `json:"status"`
		Pid         uint              `json:"pid"`
		Bundle      *string           `json:"bundle"`
		Annotations map[string]string `json:"annotations"`
	}
	x.noError(json.Unmarshal([]byte(x.must("state", x.create(b).id)), &state))
	if state.OCIVersion == nil || state.ID == nil || state.Status == nil || state.Bundle == nil {
		x.fatalf("a required property is missing: %+v", state)
	}
	x.equal("status", *state.Status, "created")
	x.equal("annotation", state.Annotations["org.example.key"], "value")
}

// createMakesEnvironment looks at a created container from outside.
func createMakesEnvironment(x *trial) {
	b := x.bundle(sleeps)
	b.spec.Hostname = "named"
	b.mount("/m", "tmpfs", "a-source")
	c := x.create(b)
	for _, kind := range []string{"mnt", "net", "uts", "pid", "ipc"} {
		if x.namespace(c.pid, kind) == x.namespace("self", kind) {
			x.errorf("the %s namespace is not new", kind)
		}
	}
	if !strings.Contains(x.read(fmt.Sprintf("/proc/%d/mountinfo", c.pid)), " /m ") {
		x.errorf("the mount is not there")
	}
	x.equal("there are control groups", len(cgroupsOf(b)) > 0, true)
	hostname, err := exec.Command("nsenter", "--target", fmt.Sprint(c.pid), "--uts", "hostname").Output()
	x.noError(err)
	x.equal("hostname", strings.TrimSpace(string(hostname)), "named")
}

func unmakeable(x *trial) {
	for name, change := range map[string]func(b *bundle){
		"a mount":     func(b *bundle) { b.mount("/m", "bind", "/no/such/source", "bind") },
		"a namespace": func(b *bundle) { b.spec.Linux.Namespaces[1].Path = "/no/such/namespace" },
		"a sysctl":    func(b *bundle) { b.spec.Linux.Sysctl = map[string]string{"net.no.such.key": "1"} },
	} {
		b := x.bundle(sleeps)
		change(b)
		x.store(b)
		if res := x.run("create", "--bundle", b.dir, b.id); res.code == 0 {
			x.errorf("%s that cannot be made: no error", name)
		}
		x.gone(b)
	}
}

func createDoesNotRun(x *trial) {
	b := x.bundle("touch /ran")
	c := x.create(b)
	x.equal("there are control groups", len(cgroupsOf(b)) > 0, true)
	x.equal("the program ran at create", exists(filepath.Join(b.root, "ran")), false)
	x.must("start", c.id)
	x.end(c)
	x.equal("the program ran at start", exists(filepath.Join(b.root, "ran")), true)
}

func changedConfig(x *trial) {
	b := x.bundle("echo first; hostname")
	b.spec.Hostname = "first"
	c := x.create(b)
	b.spec.Process.Args = []string{"/bin/echo", "second"}
	b.spec.Hostname = "second"
	x.store(b)
	x.must("start", c.id)
	x.equal("output", x.said(c), "first\nfirst\n")
}

func startRuns(x *trial) {
	b := x.bundle(`echo "$0 $1 $WORD"; pwd; id -u; id -g`)
	b.spec.Process.Args = append(b.spec.Process.Args, "zero", "one")
	b.spec.Process.Env = append(b.spec.Process.Env, "WORD=word")
	b.spec.Process.Cwd = "/tmp"
	b.spec.Process.User = specs.User{UID: 1000, GID: 2000}
	x.equal("output", x.said(x.start(b)), "zero one word\n/tmp\n1000\n2000\n")
}

func deleteUndoes(x *trial) {
	b := x.bundle(sleeps)
	c := x.start(b)
	x.must("kill", c.id, "KILL")
	x.end(c)
	x.must("delete", c.id)
	x.gone(b)
	x.equal("the ID can be used again", x.state(x.create(b).id).Status, specs.StateCreated)
}

func errorLeavesNothing(x *trial) {
	b := x.bundle(sleeps)
	// The last thing that can go wrong at create, after everything else has been made.
	b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/false"}}}
	x.refuses(b)
	c := x.start(x.bundle(sleeps))
	x.fails("start", c.id)
	x.fails("delete", c.id)
	x.fails("kill", c.id, "NOSUCHSIGNAL")
	x.equal("status after what failed", x.state(c.id).Status, specs.StateRunning)
}

func warningGoesOn(x *trial) {
	b := x.bundle("echo went on")
	b.spec.Process.Capabilities.Bounding = append(b.spec.Process.Capabilities.Bounding, "CAP_NO_SUCH_CAPABILITY")
	x.prints(b, "went on\n")
}

func createWithoutArguments(x *trial) {
	b := x.bundle(sleeps)
	x.store(b)
	x.fails("create", "--bundle", b.dir)
	// Without --bundle it is the working directory, where there is none.
	cmd := exec.Command(x.runtime, "--root", x.root, "create", b.id)
	cmd.Dir = x.tempDir()
	if res := x.command(cmd); res.code == 0 {
		x.errorf("create without a bundle generated no error")
	}
	x.gone(b)
}

func badIDs(x *trial) {
	c := x.create(x.bundle(sleeps))
	for _, id := range []string{c.id, "", ".", "..", "a/b", "../up", "two words", "new\nline"} {
		x.fails("create", "--bundle", c.dir, id)
	}
	x.equal("pid of the first container", x.state(c.id).Pid, c.pid)
	var list []specs.State
	x.noError(json.Unmarshal([]byte(x.must("list", "--format", "json")), &list))
	x.equal("number of containers", len(list), 1)
}

func startTwice(x *trial) {
	b := x.bundle("echo >> /ran; " + sleeps)
	c := x.start(b)
	x.fails("start", c.id)
	x.equal("status", x.state(c.id).Status, specs.StateRunning)
	x.equal("pid", x.state(c.id).Pid, c.pid)
	x.must("kill", c.id, "KILL")
	x.end(c)
	x.fails("start", c.id)
	x.equal("status", x.state(c.id).Status, specs.StateStopped)
	x.fails("start", "nobody")
	if exists(filepath.Join(b.root, "ran")) {
		x.equal("how often the program ran", len(x.read(filepath.Join(b.root, "ran"))), 1)
	}
}

func killStopped(x *trial) {
	c := x.start(x.bundle("true"))
	x.end(c)
	x.fails("kill", c.id, "KILL")
	x.equal("status", x.state(c.id).Status, specs.StateStopped)
	x.fails("kill", "nobody", "KILL")
}

func killSends(x *trial) {
	ready := filepath.Join(x.tempDir(), "ready")
	x.noError(unix.Mkfifo(ready, 0o600))
	b := x.bundle("trap 'echo got it; exit 0' USR1; echo ready > /ready; sleep 1000 & wait")
	b.mount("/ready", "bind", ready, "bind")
	c := x.start(b)
	x.equal("the container says", x.read(ready), "ready\n")
	x.must("kill", c.id, "USR1")
	x.equal("output", x.said(c), "got it\n")
	created := x.create(x.bundle(sleeps))
	x.must("kill", created.id, "KILL")
	x.end(created)
}

func deleteRunning(x *trial) {
	c := x.create(x.bundle(sleeps))
	x.fails("delete", "nobody")
	x.must("start", c.id)
	x.fails("delete", c.id)
	x.equal("status", x.state(c.id).Status, specs.StateRunning)
	x.equal("pid", x.state(c.id).Pid, c.pid)
}

func deleteLeavesOthers(x *trial) {
	source := x.tempDir()
	x.write(filepath.Join(source, "file"), "text")
	owner := x.start(x.bundle(sleeps))
	b := x.bundle("true")
	b.mount("/m", "bind", source, "rbind")
	b.spec.Linux.Namespaces[1] = specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: fmt.Sprintf("/proc/%d/ns/net", owner.pid)}
	b.spec.Linux.Sysctl = nil
	c := x.start(b)
	x.end(c)
	x.must("delete", c.id)
	x.equal("the file bound into it", x.read(filepath.Join(source, "file")), "text")
	x.equal("the root is there", exists(filepath.Join(b.root, "bin/busybox")), true)
	x.equal("status of the container whose namespace it joined", x.state(owner.id).Status, specs.StateRunning)
}
