package conformance

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// kind is a list of hooks.
type kind struct {
	name string
	set  func(h *specs.Hooks, list ...specs.Hook)
}

var (
	prestart = kind{"prestart", func(h *specs.Hooks, list ...specs.Hook) {
		//lint:ignore SA1019 the specification calls them deprecated and asks for them all the same
		h.Prestart = list //nolint:staticcheck // see above
	}}
	createRuntime   = kind{"createRuntime", func(h *specs.Hooks, list ...specs.Hook) { h.CreateRuntime = list }}
	createContainer = kind{"createContainer", func(h *specs.Hooks, list ...specs.Hook) { h.CreateContainer = list }}
	startContainer  = kind{"startContainer", func(h *specs.Hooks, list ...specs.Hook) { h.StartContainer = list }}
	poststart       = kind{"poststart", func(h *specs.Hooks, list ...specs.Hook) { h.Poststart = list }}
	poststop        = kind{"poststop", func(h *specs.Hooks, list ...specs.Hook) { h.Poststop = list }}
)

// hook appends word to the bundle's file "order" and then runs more, its standard input untouched.
func (b *bundle) hook(word, more string) specs.Hook {
	return sh("echo " + word + " >> " + b.dir + "/order; " + more)
}

func sh(script string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}}
}

// order is which hooks ran so far.
func (x *trial) order(b *bundle) string {
	if path := filepath.Join(b.dir, "order"); exists(path) {
		return strings.Join(strings.Fields(x.read(path)), " ")
	}
	return ""
}

func (b *bundle) setHooks(k kind, list ...specs.Hook) {
	if b.spec.Hooks == nil {
		b.spec.Hooks = &specs.Hooks{}
	}
	k.set(b.spec.Hooks, list...)
}

// wholeLife makes, starts and deletes the container, and calls after when each of them has returned.
func (x *trial) wholeLife(b *bundle, after func(operation string)) *container {
	c := x.create(b)
	after("create")
	x.must("start", c.id)
	after("start")
	x.run("kill", c.id, "KILL") // it may have ended by itself
	x.end(c)
	after("the end")
	x.must("delete", c.id)
	after("delete")
	return c
}

// hookInvoked finds that hooks of the kind run by the time that the operation returns, and not before it is called.
func hookInvoked(k kind, by string) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		b.setHooks(k, b.hook(k.name, ""))
		ran := ""
		x.wholeLife(b, func(operation string) {
			if ran == "" && x.order(b) == k.name {
				ran = operation
			}
		})
		x.equal("the operation that ran it", ran, by)
	}
}

// startContainerInvoked looks for a startContainer hook's traces in the container, where it runs.
func startContainerInvoked(x *trial) {
	b := x.bundle("cat /hooked")
	b.setHooks(startContainer, sh("echo hooked > /hooked"))
	c := x.create(b)
	x.equal("it ran at create", exists(filepath.Join(b.root, "hooked")), false)
	x.must("start", c.id)
	x.equal("output", x.said(c), "hooked\n")
}

func createHookFails(k kind) func(x *trial) {
	return func(x *trial) {
		b := x.bundle("touch /ran")
		b.setHooks(k, sh("exit 3"))
		x.refuses(b)
		x.equal("the program ran", exists(filepath.Join(b.root, "ran")), false)
	}
}

func startContainerFails(x *trial) {
	b := x.bundle("touch /ran")
	b.setHooks(startContainer, sh("exit 3"))
	c := x.create(b)
	x.fails("start", c.id)
	x.end(c)
	x.equal("the program ran", exists(filepath.Join(b.root, "ran")), false)
}

func poststartFails(x *trial) {
	b := x.bundle(sleeps)
	b.setHooks(poststart, sh("exit 3"))
	c := x.create(b)
	x.fails("start", c.id)
	x.end(c)
}

// poststopAfter has a hook fail. What start leaves to be deleted is deleted: the life cycle ends there.
func poststopAfter(k kind) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		b.setHooks(k, sh("exit 3"))
		b.setHooks(poststop, b.hook("poststop", ""))
		x.store(b)
		res := x.run("create", "--bundle", b.dir, b.id)
		if res.code == 0 {
			res = x.run("start", b.id)
		}
		if res.code == 0 {
			x.errorf("the hook that fails generated no error")
		}
		x.run("delete", "--force", b.id)
		x.equal("hooks afterwards", x.order(b), "poststop")
	}
}

func poststopFails(x *trial) {
	b := x.bundle(sleeps)
	b.setHooks(poststop, b.hook("one", "exit 3"), b.hook("two", ""))
	x.wholeLife(b, func(string) {})
	x.equal("hooks", x.order(b), "one two")
	x.gone(b)
}

// hookRows are the rows of config.md about hooks.
func hookRows() []requirement {
	pathOf := func(lines string, k kind) requirement {
		return requirement{lines: lines, says: "the path of " + k.name + " hooks resolves in the runtime namespace", test: hostPath(k)}
	}
	inRuntime := func(lines string, k kind) requirement {
		return requirement{lines: lines, says: k.name + " hooks run in the runtime namespace", test: inRuntimeNamespace(k)}
	}
	return []requirement{
		{lines: "555,565", says: "a hook needs a path", test: func(x *trial) {
			b := x.bundle(sleeps)
			b.setHooks(createRuntime, specs.Hook{})
			x.refuses(b)
		}},
		{lines: "556,566", says: "a hook's path is absolute: a relative one is an error", test: func(x *trial) {
			b := x.bundle(sleeps)
			b.setHooks(createRuntime, specs.Hook{Path: "true"})
			x.refuses(b)
		}},
		{lines: "560,570", says: "a hook's timeout is greater than zero: another is an error", test: func(x *trial) {
			for _, timeout := range []int{0, -1} {
				b := x.bundle(sleeps)
				b.setHooks(createRuntime, specs.Hook{Path: "/bin/true", Timeout: &timeout})
				x.store(b)
				x.fails("create", "--bundle", b.dir, b.id)
				x.run("delete", "--force", b.id)
			}
		}},
		pathOf("561,602", prestart), inRuntime("562,603", prestart),
		pathOf("571,609", createRuntime), inRuntime("572,610", createRuntime),
		pathOf("575,621", createContainer),
		{lines: "576,622", says: "createContainer hooks run in the container namespace", test: createContainerNamespace},
		{lines: "579,633", says: "the path of startContainer hooks resolves in the container namespace", test: startContainerPath},
		{lines: "580,634", says: "startContainer hooks run in the container namespace", test: startContainerNamespace},
		pathOf("583,641", poststart), inRuntime("584,642", poststart),
		pathOf("587,649", poststop), inRuntime("588,650", poststop),
		{lines: "591", says: "hooks are called in the listed order", test: hooksInOrder},
		{lines: "592", says: "the state is passed to hooks over stdin", test: hooksGetState},
		{lines: "596", says: "prestart hooks run after the environment was made and before pivot_root", test: afterEnvironment(prestart)},
		{lines: "598", says: "prestart hooks run before createRuntime hooks", test: kindsInOrder},
		{lines: "607", says: "createRuntime hooks run after the environment was made and before pivot_root", test: afterEnvironment(createRuntime)},
		{lines: "618", says: "createContainer hooks run after the environment was made and before pivot_root", test: beforePivot},
		{lines: "619", says: "createContainer hooks run after createRuntime hooks", test: kindsInOrder},
		{lines: "630", says: "startContainer hooks run before the program, as part of start", test: startContainerInvoked},
		{lines: "638", says: "poststart hooks run after the program was started and before start returns", test: poststartTime},
		{lines: "646", says: "poststop hooks run after the container is deleted and before delete returns", test: poststopTime},
	}
}

// hostPath uses a program that only the host has.
func hostPath(k kind) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		path := filepath.Join(b.dir, "only-here")
		x.write(path, "#!/bin/sh\necho found >> "+b.dir+"/order\n")
		x.executable(path)
		b.setHooks(k, specs.Hook{Path: path})
		x.wholeLife(b, func(string) {})
		x.equal("the hook", x.order(b), "found")
	}
}

const namespaceKinds = "mnt net uts pid ipc"

func inRuntimeNamespace(k kind) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		b.setHooks(k, b.hook("", "for n in "+namespaceKinds+"; do readlink /proc/self/ns/$n >> "+b.dir+"/order; done"))
		x.wholeLife(b, func(string) {})
		var want []string
		for n := range strings.FieldsSeq(namespaceKinds) {
			want = append(want, x.namespace("self", n))
		}
		x.equal("namespaces", x.order(b), strings.Join(want, " "))
	}
}

// createContainerNamespace leaves the pid namespace out: only a child of a process that enters it is in it.
func createContainerNamespace(x *trial) {
	const kinds = "mnt net uts ipc"
	b := x.bundle(sleeps)
	b.setHooks(createContainer, b.hook("", "for n in "+kinds+"; do readlink /proc/self/ns/$n >> "+b.dir+"/order; done"))
	c := x.create(b)
	var want []string
	for n := range strings.FieldsSeq(kinds) {
		want = append(want, x.namespace(c.pid, n))
	}
	x.equal("namespaces", x.order(b), strings.Join(want, " "))
}

func startContainerPath(x *trial) {
	b := x.bundle("cat /found")
	path := filepath.Join(b.root, "only-inside")
	x.write(path, "#!/bin/sh\necho found > /found\n")
	x.executable(path)
	b.setHooks(startContainer, specs.Hook{Path: "/only-inside"})
	x.prints(b, "found\n")
}

func startContainerNamespace(x *trial) {
	script := "for n in " + namespaceKinds + "; do readlink /proc/self/ns/$n; done"
	b := x.bundle("(" + script + ") | diff - /hooked && echo same")
	b.setHooks(startContainer, sh("("+script+") > /hooked"))
	x.prints(b, "same\n")
}

func hooksInOrder(x *trial) {
	b := x.bundle(sleeps)
	var want []string
	for _, k := range []kind{prestart, createRuntime, createContainer, poststart, poststop} {
		b.setHooks(k, b.hook(k.name+"-1", ""), b.hook(k.name+"-2", ""), b.hook(k.name+"-3", ""))
		want = append(want, k.name+"-1", k.name+"-2", k.name+"-3")
	}
	x.wholeLife(b, func(string) {})
	x.equal("order", x.order(b), strings.Join(want, " "))
}

func kindsInOrder(x *trial) {
	b := x.bundle(sleeps)
	for _, k := range []kind{createContainer, prestart, createRuntime} {
		b.setHooks(k, b.hook(k.name, ""))
	}
	x.create(b)
	x.equal("order", x.order(b), "prestart createRuntime createContainer")
}

func hooksGetState(x *trial) {
	b := x.bundle(sleeps)
	kinds := []kind{prestart, createRuntime, createContainer, poststart, poststop}
	for _, k := range kinds {
		b.setHooks(k, sh("cat > "+b.dir+"/"+k.name))
	}
	b.setHooks(startContainer, sh("cat > /startContainer"))
	c := x.wholeLife(b, func(string) {})
	for _, k := range append(kinds, startContainer) {
		path := filepath.Join(b.dir, k.name)
		if k.name == startContainer.name {
			path = filepath.Join(b.root, k.name)
		}
		var state specs.State
		if err := json.Unmarshal([]byte(x.read(path)), &state); err != nil {
			x.errorf("%s: %v", k.name, err)
			continue
		}
		x.equal(k.name+": id", state.ID, b.id)
		x.equal(k.name+": bundle", state.Bundle, b.dir)
		if state.Version == "" || state.Status == "" {
			x.errorf("%s: ociVersion %q, status %q", k.name, state.Version, state.Status)
		}
		if k.name == prestart.name || k.name == createRuntime.name {
			x.equal(k.name+": pid", state.Pid, c.pid)
		}
	}
}

// afterEnvironment looks at the container's process from a hook in the runtime's namespaces.
func afterEnvironment(k kind) func(x *trial) {
	return func(x *trial) {
		b := x.bundle(sleeps)
		b.spec.Hostname = "named"
		b.setHooks(k, b.hook("ran", "pid=$(grep -o '\"pid\": *[0-9]*' | tr -dc 0-9); readlink /proc/$pid/ns/net >> "+b.dir+"/order"))
		c := x.create(b)
		x.equal("the namespace it found", x.order(b), "ran "+x.namespace(c.pid, "net"))
	}
}

// beforePivot finds, in the container's mount namespace, the host's root and the container's mounts below its own.
func beforePivot(x *trial) {
	b := x.bundle(sleeps)
	b.mount("/m", "tmpfs", "tmpfs")
	b.setHooks(createContainer, b.hook("ran", "grep -c ' "+b.root+"/m ' /proc/self/mountinfo >> "+b.dir+"/order"))
	x.create(b)
	x.equal("what the hook found", x.order(b), "ran 1")
}

func poststartTime(x *trial) {
	b := x.bundle(sleeps)
	b.setHooks(poststart, b.hook("poststart", ""))
	c := x.create(b)
	x.equal("hooks at create", x.order(b), "")
	x.must("start", c.id)
	x.equal("hooks at start", x.order(b), "poststart")
}

func poststopTime(x *trial) {
	b := x.bundle(sleeps)
	b.setHooks(poststop, b.hook("poststop", fmt.Sprintf("ls -d /sys/fs/cgroup/*%s 2>/dev/null >> %s/order", b.spec.Linux.CgroupsPath, b.dir)))
	at := ""
	x.wholeLife(b, func(operation string) {
		if at == "" && x.order(b) != "" {
			at = operation
		}
	})
	x.equal("the operation that ran it", at, "delete")
	x.equal("what it found of the container", x.order(b), "poststop")
}
