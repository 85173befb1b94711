package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// longWorkers is how many steps of the long life are under way at a time.
	longWorkers = 4
	// longParts is in how many parts it is cut: between two of them the monitors come to rest, and are looked at.
	longParts = 20
)

// longLife has a few containers under policies live through many steps, and looks whether their monitors go on growing: a leak grows with the steps, what
// is kept for the next time (threads, room of the heap) does not.
func (h *harness) longLife(steps int) error {
	agent, err := newAgent(filepath.Join(h.dir, "agent.sock"))
	if err != nil {
		return err
	}
	h.after = append(h.after, agent.close)
	config := filepath.Join(h.dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[policy]\nsocket = %q\n", agent.path()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.root, "var/www/denied"), nil, 0o644); err != nil {
		return err
	}
	server := []string{"/bin/httpd", "-f", "-p", "80", "-h", "/var/www"}
	for _, kind := range []struct {
		name   string
		policy map[string]string
		global []string
	}{
		{"egress", map[string]string{"io.sandlock.network.allow": "tcp://127.0.0.0/8:80;udp://127.0.0.0/8:53", "io.sandlock.network.allow_bind": "80,9000-9100"}, nil},
		{"agent", map[string]string{"io.sandlock.network.allow": "tcp://127.0.0.0/8:80"}, []string{"--config", config}},
	} {
		c, err := h.bundle(kind.name, kind.policy, server...)
		if err != nil {
			return err
		}
		c.global = append([]string{"--log", filepath.Join(h.dir, kind.name+".log")}, kind.global...)
		if err := inOrder(c.create, c.start, c.exec(lively)); err != nil {
			return err
		}
		monitor, err := h.monitorPid(kind.name)
		if err != nil {
			return err
		}
		h.long = append(h.long, &longLived{container: c, monitor: monitor, changes: kind.global != nil})
	}
	var next atomic.Int64
	for part := range longParts {
		end := int64(steps * (part + 1) / longParts)
		var all sync.WaitGroup
		for range longWorkers {
			all.Go(func() {
				for !h.tally.hopeless() {
					step := next.Add(1)
					if step > end {
						next.Add(-1)
						return
					}
					c := h.long[step%int64(len(h.long))]
					if err := c.live(int(step)/len(h.long), agent); err != nil {
						h.tally.fail(fmt.Sprintf("step %d: %s: %v", step, c.id, err))
					}
				}
			})
		}
		all.Wait()
		for _, c := range h.long {
			now, err := settled(c.monitor)
			if err != nil {
				return err
			}
			fmt.Printf("%6d steps, load %s: monitor of %s: %s\n", end, load(), c.id, now)
			if part == 0 { // from here on all is there that is kept for the next time
				c.before = now
			}
		}
	}
	if h.tally.hopeless() {
		return errors.New("too many steps failed")
	}
	return nil
}

// lively is a script of connects that are allowed and denied, of TCP and of Unix sockets, of binds, and of processes that come and go. It has no jobs in the
// background: a trapped fork that is interrupted by the handler of SIGCHLD before the monitor has received it fails with EINTR, which the shell does not expect.
const lively = `
for i in 1 2 3; do
	wget -q -O /dev/null http://127.0.0.1/ || exit 1
	nc -w 1 192.0.2.$i 80 </dev/null 2>/dev/null && exit 1
	logger nobody listens
	timeout -s KILL 0.01 nc -l -p $((9000 + $$ % 100)) 2>/dev/null
done
true`

// live does one step of the long life.
func (c *longLived) live(step int, agent *agent) error {
	switch step % 16 {
	case 3:
		return c.state()
	case 5:
		return c.run("events", "--stats", c.id)
	case 7:
		return c.run("inspect", c.id)
	case 9:
		return c.follow()
	case 11:
		return c.run("ps", c.id)
	case 13:
		return c.run("update", "--pids-limit", "512", c.id)
	case 14:
		if c.changes {
			return agent.changeAll(step)
		}
	}
	return c.exec(lively)()
}

// follow is somebody who asks for what has been denied, reads the first line, and goes away.
func (c *longLived) follow() error {
	cmd := exec.Command(c.h.runtime, c.arguments("events", "--follow", c.id)...)
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(c.h.bound, func() { _ = cmd.Process.Kill() }) // upon which nothing is read
	defer late.Stop()
	_, err = bufio.NewReader(lines).ReadString('\n')
	_ = cmd.Process.Kill() // it would go on for as long as the container
	_ = cmd.Wait()         // it was killed
	if err != nil {
		return fmt.Errorf("events --follow: %w", err)
	}
	return nil
}
