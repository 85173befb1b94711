package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
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
)

// planFile is the plan in the state directory, for exec and inspect.
const planFile = "plan.json"

// Create makes a container that waits to be started. On success the calling process is its monitor until it ends; the process that the
// user called has been told to exit with 0 by then. On error nothing is left of the container.
func (r *Runtime) Create(id string, o CreateOptions) error {
	c, err := r.create(id, o, true)
	if err != nil {
		return err
	}
	if err := c.detach(); err != nil {
		c.undo()
		return err
	}
	c.watch()
	return nil
}

// container is a container in the process that has made it.
type container struct {
	runtime *Runtime
	dir     *state.Dir
	record  state.Record
	bundle  *bundle.Bundle
	plan    *plan.Plan
	cgroup  *cgroup.Manager
	caller  *caller.Process
	monitor *monitor.Monitor
	relay   *terminal.Relay // of the terminal, where it is not handed over
	socket  *net.UnixListener
	denials *denialLog
}

// create makes the container up to "created". detached says that nobody will be there to relay a terminal.
func (r *Runtime) create(id string, o CreateOptions, detached bool) (c *container, err error) {
	if err := state.ValidateID(id); err != nil {
		return nil, fmt.Errorf("%w: %q", err, id)
	}
	c = &container{runtime: r, caller: caller.Find()}
	if c.bundle, err = bundle.Load(o.Bundle); err != nil {
		return nil, err
	}
	for _, warning := range c.bundle.Warnings {
		r.Log.Warn(warning)
	}
	if err := o.check(c.bundle.Spec.Process, detached); err != nil {
		return nil, err
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
	if err := c.prepare(asked); err != nil {
		return c, err
	}
	if err := c.launch(o); err != nil {
		return c, err
	}
	return c, c.publish(o)
}

// check refuses what cannot go together, in runc's words.
func (o CreateOptions) check(process *specs.Process, detached bool) error {
	if err := terminal.Check(process.Terminal, detached, o.ConsoleSocket); err != nil {
		return err
	}
	if o.NoPivot {
		return errors.New("--no-pivot: not supported: the container's root is always changed with pivot_root")
	}
	return checkPreserved(o.PreserveFDs)
}

// checkPreserved sees to it that the descriptors are there that the workload is to keep.
func checkPreserved(n int) error {
	for fd := 3; fd < 3+n; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return fmt.Errorf("unable to stat preserved-fd %d (of %d): %w", fd-3, n, err)
		}
	}
	return nil
}

// prepare decides everything, puts it on record, and makes the cgroup.
func (c *container) prepare(asked policy.Policy) error {
	if err := c.decide(c.dir.ID(), asked); err != nil {
		return err
	}
	spec := c.bundle.Spec
	self, err := state.IdentifyProcess(os.Getpid())
	if err != nil {
		return err
	}
	c.record = state.Record{
		ID: c.dir.ID(), OCIVersion: spec.Version, Bundle: c.bundle.Path, Rootfs: c.bundle.RootFS, Annotations: spec.Annotations,
		Created: time.Now().UTC(), Monitor: self, CgroupPaths: c.cgroup.Paths(),
	}
	if c.record.BootID, err = state.BootID(); err != nil {
		return err
	}
	if c.record.Cgroup, err = json.Marshal(c.cgroup.Config()); err != nil {
		return err
	}
	// Before the first directory of the cgroup is there, so that whatever happens it can be found and removed.
	if err := c.dir.Save(&c.record); err != nil {
		return err
	}
	if err := c.keepDocuments(); err != nil {
		return err
	}
	return c.cgroup.Prepare()
}

// decide makes the plan, and finds out where the cgroup will be; it changes nothing.
func (c *container) decide(id string, asked policy.Policy) error {
	spec, err := plan.Tighten(c.bundle.Spec, asked.Limits)
	if err != nil {
		return err
	}
	c.bundle.Spec = spec
	config, err := cgroup.Plan(spec, cgroup.Options{ID: id, Systemd: c.runtime.SystemdCgroup, Rootless: c.runtime.Rootless})
	if err != nil {
		return err
	}
	if c.cgroup, err = cgroup.New(config); err != nil {
		return err
	}
	if err := c.cgroup.Check(); err != nil {
		return err
	}
	on := host.Probe()
	_, statErr := os.Stat("/proc/kcore")
	c.plan, err = plan.New(plan.Request{
		ID: id, Bundle: c.bundle, Policy: asked, Host: on, Home: home(c.bundle), KernelCore: statErr == nil,
		Cgroups: hierarchies(on.Cgroup.Layout, c.cgroup.Paths(), hasNamespace(spec, specs.CgroupNamespace)),
	})
	return err
}

// keepDocuments stores what exec and inspect need.
func (c *container) keepDocuments() error {
	for name, document := range map[string]any{state.ConfigFile: c.bundle.Spec, planFile: c.plan} {
		text, err := json.Marshal(document)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := c.dir.WriteFile(name, text); err != nil {
			return err
		}
	}
	return nil
}

func (c *container) launch(o CreateOptions) error {
	var err error
	c.denials = newDenialLog(c.dir, c.runtime.Log)
	console, err := consoleTaker(o.ConsoleSocket, &c.relay)
	if err != nil {
		return err
	}
	c.monitor, err = monitor.Launch(monitor.Request{
		Plan: c.plan, Hooks: c.bundle.Spec.Hooks, Cgroup: c.cgroup, State: *c.record.OCIState(specs.StateCreating), Caller: c.caller,
		PreserveFDs: o.PreserveFDs, NewKeyring: !o.NoNewKeyring, FilterCache: c.runtime.filterCache(),
		Console: console, Started: c.markStarted, Denied: c.denials.add, Log: c.runtime.Log,
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
	if err := c.dir.Save(&c.record); err != nil {
		return err
	}
	if o.PidfdSocket != "" {
		if err := sendPidfd(o.PidfdSocket, c.monitor.Pidfd()); err != nil {
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
	if c.monitor != nil {
		c.monitor.Close()
	}
	if c.cgroup != nil {
		if err := c.cgroup.Destroy(); err != nil {
			c.runtime.Log.Warn(err)
		}
	}
	if c.dir != nil {
		if err := c.dir.Remove(); err != nil {
			c.runtime.Log.Warn(err)
		}
		c.dir.Close()
	}
}
