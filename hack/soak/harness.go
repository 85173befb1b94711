package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

// harness is a directory with a root, bundles and a state root, and the containers that live through it all.
type harness struct {
	runtime string
	dir     string
	root    string // of all containers
	state   string
	cgroup  string // parent of all cgroups
	bound   time.Duration
	tally   tally
	long    []*longLived
	after   []func() // what is to be done when they are deleted
}

// longLived is a container that is there from the beginning to the end, and what its monitor held in the beginning.
type longLived struct {
	*container
	monitor int
	before  held
	changes bool // an agent changes its policy
}

func newHarness(runtime string, bound time.Duration) (*harness, error) {
	dir, err := os.MkdirTemp("", "sl-soak-")
	if err != nil {
		return nil, err
	}
	h := &harness{
		runtime: runtime, dir: dir, root: filepath.Join(dir, "rootfs"), state: filepath.Join(dir, "state"),
		cgroup: filepath.Base(dir), bound: bound,
	}
	return h, testbundle.Busybox(h.root)
}

// egress is a policy that has the supervisor at work, and denied one of whose connects [attempt] is.
var egress = map[string]string{"io.sandlock.network.allow": "tcp://10.0.0.0/8:80;udp://10.0.0.0/8:53"}

// prepare starts the containers that stay, and uses each once, so that what is held from the first use on is held.
func (h *harness) prepare() error {
	for name, policy := range map[string]map[string]string{"stays": nil, "stays-policy": egress} {
		c, err := h.bundle(name, policy, forever...)
		if err != nil {
			return err
		}
		if err := inOrder(c.create, c.start, c.exec("true"), c.exec(attempt), c.pause, c.resume); err != nil {
			return err
		}
		monitor, err := h.monitorPid(name)
		if err != nil {
			return err
		}
		before, err := settled(monitor)
		if err != nil {
			return err
		}
		h.long = append(h.long, &longLived{container: c, monitor: monitor, before: before})
	}
	return nil
}

// run runs the loops until the time is over and the last round of each has ended.
func (h *harness) run(loops int, length time.Duration) {
	end := time.Now().Add(length)
	go h.report(end)
	var all sync.WaitGroup
	for loop := range loops {
		all.Go(func() {
			for round := 0; time.Now().Before(end) && !h.tally.hopeless(); round++ {
				kind := kinds[(loop+round)%len(kinds)]
				name := fmt.Sprintf("c%d-%d-%s", loop, round, kind.name)
				if err := h.round(kind, name); err != nil {
					h.tally.fail(fmt.Sprintf("%s: %v", name, err))
					continue
				}
				h.tally.round(kind.name)
			}
		})
	}
	all.Wait()
}

// report says every half a minute how far the work is.
func (h *harness) report(end time.Time) {
	for range time.Tick(30 * time.Second) {
		fmt.Printf("%s left, load %s: %s\n", time.Until(end).Round(time.Second), load(), h.tally.line())
	}
}

func (h *harness) round(kind kind, name string) error {
	c, err := h.bundle(name, kind.policy, kind.args...)
	if err != nil {
		return err
	}
	if err := kind.do(h, c); err != nil {
		// The container is what the next may trip over, and its leftovers are not what a leak is.
		_ = c.deleteForce()
		return err
	}
	return c.forget()
}

func (h *harness) bundle(name string, policy map[string]string, args ...string) (*container, error) {
	spec, err := testbundle.Spec(name, h.root, args...)
	if err != nil {
		return nil, err
	}
	spec.Annotations = policy
	spec.Root.Readonly = true
	spec.Linux.CgroupsPath = "/" + h.cgroup + "/" + name
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(64))}
	c := &container{h: h, id: name, dir: filepath.Join(h.dir, "bundles", name)}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	return c, testbundle.Write(c.dir, spec)
}

func (h *harness) monitorPid(id string) (int, error) {
	content, err := os.ReadFile(filepath.Join(h.state, id, "state.json"))
	if err != nil {
		return 0, err
	}
	var state struct{ Monitor struct{ Pid int } }
	if err := json.Unmarshal(content, &state); err != nil {
		return 0, fmt.Errorf("state.json: %w", err)
	}
	if state.Monitor.Pid == 0 {
		return 0, fmt.Errorf("state.json of %s names no monitor", id)
	}
	return state.Monitor.Pid, nil
}

// finish compares the containers that stayed with what they were, deletes them, and lists all that is left.
func (h *harness) finish() []string {
	var left []string
	for _, c := range h.long {
		after, err := settled(c.monitor)
		if err != nil {
			left = append(left, fmt.Sprintf("monitor of %s: %v", c.id, err))
			continue
		}
		fmt.Printf("monitor of %s: before %s; after %s\n", c.id, c.before, after)
		left = append(left, c.before.grown(c.id, after)...)
		if err := inOrder(c.exec("true"), c.kill("KILL"), c.waitEnd, c.delete, c.forget); err != nil {
			left = append(left, fmt.Sprintf("%s: %v", c.id, err))
		}
	}
	for _, f := range h.after {
		f()
	}
	return append(left, h.leftovers()...)
}
