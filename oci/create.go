package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/caller"
	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/host"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/state"
	"github.com/sandlock/sandlock-runtime/oci/terminal"
	"github.com/sandlock/sandlock-runtime/seccompnotif/agent"
)

// planFile is the plan in the state directory, for exec and inspect.
const planFile = "plan.json"

// Create makes a container that waits to be started. On success the calling process is its monitor until it ends; the process that the
// user called has been told to exit with 0 by then. On error nothing is left of the container.
func (r *Runtime) Create(id string, o CreateOptions) error {
	c, err := r.create(id, o, true, false)
	if err != nil {
		return err
	}
	if err := c.release(); err != nil {
		c.undo()
		return err
	}
	c.watch()
	return nil
}

// container is a container in the process that has made it.
type container struct {
	runtime  *Runtime
	dir      *state.Dir
	record   state.Record
	bundle   *bundle.Bundle
	plan     *plan.Plan
	cgroup   *cgroup.Manager
	entrance chan entrance
	caller   *caller.Process
	monitor  *monitor.Monitor
	relay    *terminal.Relay // of the terminal, where it is not handed over
	socket   *net.UnixListener
	denials  *denialLog
	agent    *agent.Conn // nil where the policy has none
	host     <-chan host.Host
	starts   bool // as soon as it is created
	launched bool // hooks may have run
}

// create makes the container up to "created". detached says that nobody will be there to relay a terminal, start that it will be started at
// once.
func (r *Runtime) create(id string, o CreateOptions, detached, start bool) (c *container, err error) {
	if err := state.ValidateID(id); err != nil {
		return nil, err
	}
	c = &container{runtime: r, caller: caller.Find(), host: warmUp(), starts: start}
	if c.bundle, err = bundle.Load(o.Bundle); err != nil {
		return nil, err
	}
	if err := enterOwn(c.caller, c.bundle.Spec); err != nil {
		return nil, err
	}
	if plan.Exposed(c.bundle.Spec) {
		if err := caller.Seal(c.caller); err != nil {
			return nil, err
		}
	}
	for _, warning := range c.bundle.Warnings {
		r.Log.Warn(warning)
	}
	c.passSockets(&o, passedSockets(c.caller))
	if err := o.check(c.bundle.Spec.Process, detached); err != nil {
		return nil, err
	}
	if o.NoPivot {
		r.Log.Warn("--no-pivot: the container's root is changed with pivot_root all the same, since anything less can be left again")
	}
	asked, err := policy.Load(policy.Options{ConfigPath: r.Config, Profile: r.Profile, Annotations: c.bundle.Spec.Annotations})
	if err != nil {
		return nil, err
	}
	if c.dir, err = state.Create(r.Root, id); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.undo()
			c = nil
		}
	}()
	if err := c.addNotify(); err != nil {
		return c, err
	}
	if err := c.prepare(asked); err != nil {
		return c, err
	}
	if err := c.launch(o, asked); err != nil {
		return c, err
	}
	return c, c.publish(o)
}

// check refuses what cannot go together, in runc's words.
func (o CreateOptions) check(process *specs.Process, detached bool) error {
	if err := terminal.Check(process.Terminal, detached, o.ConsoleSocket); err != nil {
		return err
	}
	return checkPreserved(o.PreserveFDs)
}

// checkPreserved sees to it that the descriptors are there that the workload is to keep. This process's own, which are all close-on-exec, are not
// among them: the workload must never have those.
func checkPreserved(n int) error {
	for fd := 3; fd < 3+n; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 {
			err = unix.EBADF
		}
		if err != nil {
			return fmt.Errorf("unable to stat preserved-fd %d (of %d): %w", fd-3, n, err)
		}
	}
	return nil
}

// prepare finds out where the cgroup will be and starts to make it.
func (c *container) prepare(asked policy.Policy) error {
	if err := c.findCgroup(c.dir.ID(), asked); err != nil {
		return err
	}
	c.entrance = make(chan entrance, 1)
	go func() {
		opened, err := c.makeCgroup()
		c.entrance <- entrance{opened, err}
	}()
	return nil
}

// entrance is the cgroup, ready to be entered, or why it is not.
type entrance struct {
	opened *cgroup.Entrance
	err    error
}

// findCgroup finds out where the cgroup will be; it changes nothing.
func (c *container) findCgroup(id string, asked policy.Policy) error {
	spec, err := plan.Tighten(c.bundle.Spec, asked.Limits)
	if err != nil {
		return err
	}
	c.bundle.Spec = spec
	config, err := cgroup.Plan(spec, cgroup.Options{ID: id, Systemd: c.runtime.SystemdCgroup, Rootless: c.runtime.Rootless, Disabled: c.runtime.NoCgroup})
	if err != nil {
		return err
	}
	c.cgroup, err = cgroup.New(config)
	return err
}

// makeCgroup puts the container on record, with its cgroup before the first directory of that is there, so that whatever happens it can be found and
// removed; and makes it.
func (c *container) makeCgroup() (*cgroup.Entrance, error) {
	if err := c.cgroup.Check(); err != nil {
		return nil, err
	}
	spec := c.bundle.Spec
	self, err := state.IdentifyProcess(os.Getpid())
	if err != nil {
		return nil, err
	}
	c.record = state.Record{
		ID: c.dir.ID(), Bundle: c.bundle.Path, Rootfs: c.bundle.RootFS, Annotations: spec.Annotations,
		Created: time.Now().UTC(), Monitor: self, CgroupPaths: c.cgroup.Paths(),
	}
	if c.record.BootID, err = state.BootID(); err != nil {
		return nil, err
	}
	if c.record.Cgroup, err = json.Marshal(c.cgroup.Config()); err != nil {
		return nil, err
	}
	if err := c.dir.Save(&c.record); err != nil {
		return nil, err
	}
	if err := c.cgroup.Make(); err != nil {
		return nil, err
	}
	return c.cgroup.Enter()
}

// decide makes the plan.
func (c *container) decide(id string, asked policy.Policy) (err error) {
	on := <-c.host
	_, statErr := os.Stat("/proc/kcore")
	answers, hosts, err := lookUp(c.bundle, asked)
	if err != nil {
		return err
	}
	ports, err := ephemeral(c.bundle.Spec, asked)
	if err != nil {
		return err
	}
	c.plan, err = plan.New(plan.Request{
		ID: id, Bundle: c.bundle, Policy: asked, Host: on, Home: home(c.bundle), KernelCore: statErr == nil, Names: answers, Hosts: hosts, Ephemeral: ports,
		Agent:   wanted(c.agent),
		Cgroups: hierarchies(on.Cgroup.Layout, c.cgroupPaths(on), hasNamespace(c.bundle.Spec, specs.CgroupNamespace)),
	})
	return err
}

// cgroupPaths is where the container's cgroup is as it shows in the container. An ordinary user's is made, if at all, when the container's tree stands already: then
// it is the one that this process is in, and that the container stays in where none can be made, or is to be made.
func (c *container) cgroupPaths(on host.Host) map[string]string {
	ordinary := on.EUID != 0 || !on.InitialUserNS
	if c.runtime.NoCgroup || ordinary && c.runtime.Rootless && !c.runtime.SystemdCgroup {
		return cgroup.OwnPaths()
	}
	return c.cgroup.Paths()
}

// furnish puts into the state directory what the other verbs need, while the container's first process is on its way.
func (c *container) furnish() error {
	// The first process has its own by now, and hooks are to have none.
	if c.bundle.Spec.Hooks != nil {
		if err := closeInherited(); err != nil {
			return err
		}
	}
	text, err := json.Marshal(c.plan)
	if err != nil {
		return fmt.Errorf("%s: %w", planFile, err)
	}
	if err := c.dir.AddFile(planFile, text); err != nil {
		return err
	}
	if err := c.dir.AddFile(state.ConfigFile, c.bundle.Raw); err != nil {
		return err
	}
	if c.socket, err = c.dir.Listen(); err != nil {
		return err
	}
	if !c.starts {
		return nil
	}
	_, err = c.dir.MarkStarted()
	return err
}

func (c *container) launch(o CreateOptions, asked policy.Policy) error {
	// Whatever comes of it, nothing is undone while the cgroup is still being made.
	wait := sync.OnceValues(func() (*cgroup.Entrance, error) {
		e := <-c.entrance
		return e.opened, e.err
	})
	err := c.decideAndLaunch(o, asked, wait)
	if err != nil {
		if _, cgroupErr := wait(); cgroupErr != nil {
			return cgroupErr
		}
	}
	return err
}

func (c *container) decideAndLaunch(o CreateOptions, asked policy.Policy, wait func() (*cgroup.Entrance, error)) (err error) {
	if c.agent, err = connectAgent(c.dir.ID(), asked); err != nil {
		return err
	}
	if err := c.decide(c.dir.ID(), asked); err != nil {
		return err
	}
	c.denials = newDenialLog(c.dir, c.runtime.Log, c.plan.Decider())
	console, err := consoleTaker(c.plan.Process.Terminal, o.ConsoleSocket, &c.relay)
	if err != nil {
		return err
	}
	c.launched = true
	c.monitor, err = monitor.Launch(monitor.Request{
		Plan: c.plan, Hooks: c.bundle.Spec.Hooks, Cgroup: c.cgroup, Entrance: wait, Caller: c.caller,
		State:       specs.State{Version: specs.Version, ID: c.dir.ID(), Bundle: c.bundle.Path, Annotations: c.bundle.Spec.Annotations},
		PreserveFDs: o.PreserveFDs, NewKeyring: !o.NoNewKeyring, FilterCache: c.runtime.filterCache(),
		Meanwhile: c.furnish, Console: console, Started: c.markStarted, Denials: c.denials, Log: c.runtime.Log,
		Agent: c.agent, Limit: c.limit,
	})
	return err
}

// publish records the container as created, and tells those who asked to be told.
func (c *container) publish(o CreateOptions) error {
	var err error
	pid := c.monitor.PID()
	if c.record.Init, err = state.IdentifyProcess(pid); err != nil {
		return fmt.Errorf("the container's init has ended before it was started: %w", err)
	}
	c.record.Namespaces = namespacePaths(c.plan.Namespaces, pid)
	// Where an ordinary user could not make all of it.
	c.record.CgroupPaths = c.cgroup.Paths()
	if err := c.dir.Save(&c.record); err != nil {
		return err
	}
	if o.PidfdSocket != "" {
		if err := sendPidfd(o.PidfdSocket, pidfdOfInit, c.monitor.Pidfd()); err != nil {
			return err
		}
	}
	return writePidFile(o.PidFile, pid)
}

// namespacePaths are the namespaces of the container, as paths to join them by.
func namespacePaths(list plan.Namespaces, pid int) map[specs.LinuxNamespaceType]string {
	paths := make(map[specs.LinuxNamespaceType]string, len(list))
	for _, ns := range list {
		path := ns.Path
		if path == "" {
			path = "/proc/" + strconv.Itoa(pid) + "/ns/" + ns.File()
		}
		paths[specs.LinuxNamespaceType(ns.Type)] = path
	}
	return paths
}

func hasNamespace(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == kind {
			return true
		}
	}
	return false
}

// markStarted records that the container is being started, once.
func (c *container) markStarted() error {
	if c.starts {
		return nil // said already
	}
	first, err := c.dir.MarkStarted()
	if err != nil {
		return err
	}
	if !first {
		return monitor.ErrStarted
	}
	return nil
}

// undo takes back what has been made of a container that is not to be.
func (c *container) undo() {
	if c.socket != nil {
		c.socket.Close()
	}
	if c.monitor != nil {
		c.monitor.Close()
	}
	if c.agent != nil {
		c.agent.Close()
	}
	if c.cgroup != nil {
		if err := c.cgroup.Destroy(); err != nil {
			c.runtime.Log.Warn(err)
		}
	}
	if c.launched {
		// The life cycle ends as that of a container that has been deleted: what its other hooks have made can be taken back.
		c.runtime.runPoststop(c.bundle.Spec.Hooks, &c.record)
	}
	if c.dir != nil {
		c.removeDir()
		c.dir.Close()
	}
}

// undoWait is how long undo waits for a delete that is under way, and that will remove the directory itself.
const undoWait = 100 * time.Millisecond

func (c *container) removeDir() {
	ctx, cancel := context.WithTimeout(context.Background(), undoWait)
	defer cancel()
	unlock, err := c.dir.Lock(ctx)
	if err != nil {
		return
	}
	defer func() { _ = unlock() }() // the directory is gone by then
	if err := c.dir.Remove(); err != nil {
		c.runtime.Log.Warn(err)
	}
}
