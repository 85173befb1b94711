package ctr

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRun(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		r := ctr(t, append(run(runtime, "--rm"), image, newID(t), "/bin/sh", "-c", "echo out; echo err >&2; exit 3")...)
		if r.stdout != "out\n" || !strings.HasSuffix(r.stderr, "err\n") || r.code != 3 {
			t.Error(r)
		}
		// ctr run does not tell the container of the end of its input.
		r = ctrWith(t, strings.NewReader("a line\n"), append(run(runtime, "--rm"), image, newID(t), "/bin/head", "-n", "1")...)
		if r.stdout != "a line\n" || r.code != 0 {
			t.Errorf("stdin: %v", r)
		}
		r = ctr(t, append(run(runtime, "--rm"), image, newID(t), "/bin/missing")...)
		if r.code == 0 || !strings.Contains(r.stderr, "/bin/missing") {
			t.Errorf("a missing program: %v", r)
		}
	})
}

// greet serves a page at all addresses of the container's own, and says at which of two it can be read.
const greet = `httpd -p 7000 -h /var/www
for at in 127.0.0.1 127.0.0.2; do printf 'GET /index.html HTTP/1.0\r\n\r\n' | nc -w 10 $at 7000 2>/dev/null | grep -q 'by busybox' && echo $at; done; :`

// greeted is what greet says where 127.0.0.2 is denied.
func greeted(runtime string) string {
	if runtime == "runc" { // to which annotations mean nothing
		return "127.0.0.1\n127.0.0.2\n"
	}
	return "127.0.0.1\n"
}

func TestAnnotations(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		want := greeted(runtime)
		r := ctr(t, append(run(runtime, "--rm", "--annotation", "io.sandlock.network.deny=127.0.0.2"), image, newID(t), "/bin/sh", "-c", greet)...)
		if r.stdout != want {
			t.Errorf("%v, not %q", r, want)
		}
		if r := ctr(t, append(run(runtime, "--rm", "--annotation", "io.sandlock.network.dney=127.0.0.2"), image, newID(t), "/bin/true")...); runtime == "sandlock" {
			if r.code == 0 || !strings.Contains(r.stderr, "io.sandlock.network.dney") || !strings.Contains(r.stderr, "io.sandlock.network.deny") {
				t.Errorf("a misspelt key: %v", r)
			}
		}
	})
}

func TestExec(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		c := sleeper(t, runtime, "--annotation", "io.sandlock.network.deny=127.0.0.2")
		if r := c.exec("echo out; echo err >&2; exit 5"); r.stdout != "out\n" || !strings.HasSuffix(r.stderr, "err\n") || r.code != 5 {
			t.Error(r)
		}
		r := ctrWith(t, strings.NewReader("a line\n"), "tasks", "exec", "--exec-id", "stdin", c.id, "/bin/head", "-n", "1")
		if r.stdout != "a line\n" {
			t.Errorf("stdin: %v", r)
		}
		r = ctr(t, "tasks", "exec", "--exec-id", "user", "--user", "1000", "--cwd", "/tmp", c.id, "/bin/sh", "-c", "id -u; pwd")
		if r.stdout != "1000\n/tmp\n" {
			t.Errorf("user and directory: %v", r)
		}
		c.says(greet, greeted(runtime))
	})
}

func TestTerminals(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		const script = "test -t 0 && test -t 1 && read line && echo got $line; exit 6"
		t.Run("run", func(t *testing.T) {
			onTerminal(t, append(run(runtime, "--rm", "--tty"), image, newID(t), "/bin/sh", "-c", script)...)
		})
		t.Run("exec", func(t *testing.T) {
			c := sleeper(t, runtime)
			onTerminal(t, "tasks", "exec", "--exec-id", "tty", "--tty", c.id, "/bin/sh", "-c", script)
		})
	})
}

// onTerminal runs a command of ctr with a terminal, types a line, and expects it back, and exit code 6.
func onTerminal(t *testing.T, args ...string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	err = cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("a line\n"); err != nil {
		t.Fatal(err)
	}
	said := make(chan string)
	go func() {
		var text strings.Builder
		lines := bufio.NewScanner(master)
		for lines.Scan() { // until EIO, when the last slave is closed
			text.WriteString(lines.Text() + "\n")
		}
		said <- text.String()
	}()
	_ = cmd.Wait() // the code tells
	if text := <-said; !strings.Contains(text, "got a line") || cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("exit code %d, said %q", cmd.ProcessState.ExitCode(), text)
	}
}

func TestAttach(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		c := start(t, runtime, nil, "/bin/sh", "-c", "read line; echo got $line; exit 4")
		if r := ctrWith(t, strings.NewReader("a line\n"), "tasks", "attach", c.id); r.stdout != "got a line\n" || r.code != 4 {
			t.Error(r)
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		c := sleeper(t, runtime)
		for _, step := range []struct{ verb, status string }{{"pause", "PAUSED"}, {"resume", "RUNNING"}} {
			must(t, "tasks", step.verb, c.id)
			if status := c.status(); status != step.status {
				t.Errorf("after %s: %s", step.verb, status)
			}
		}
		c.says("echo thawed", "thawed\n")
	})
}

func TestMetrics(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		c := sleeper(t, runtime, "--memory-limit", "67108864")
		var metrics struct {
			Pids   struct{ Current int }
			CPU    struct{ Usage struct{ Total int } }
			Memory struct {
				Usage struct{ Limit, Usage int }
			}
		}
		text := must(t, "tasks", "metrics", "--format", "json", c.id)
		if err := json.Unmarshal([]byte(text), &metrics); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if metrics.Pids.Current != 1 || metrics.Memory.Usage.Limit != 64<<20 || metrics.Memory.Usage.Usage == 0 || metrics.CPU.Usage.Total == 0 {
			t.Errorf("%s", text)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		events := command(ctx, "events")
		out, err := events.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := events.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			cancel()
			_ = events.Wait() // killed
		}()
		lines := bufio.NewScanner(out)
		heard := func(topic string) bool {
			for lines.Scan() {
				if line := lines.Text(); strings.Contains(line, topic+" ") && strings.Contains(line, newID(t)) {
					return true
				}
			}
			return false
		}
		c := sleeper(t, runtime, "--memory-limit", "33554432")
		// The subscription is there when an event of the container's is heard.
		subscribed := make(chan bool, 1)
		go func() { subscribed <- heard("/tasks/exec-started") }()
		eventually(t, "events are heard", func() bool {
			c.says("true", "")
			return len(subscribed) > 0
		})
		if !<-subscribed {
			t.Fatal("no events")
		}
		if r := c.exec("tail /dev/zero"); r.code != 137 {
			t.Errorf("more memory than there is: %v", r)
		}
		if !heard("/tasks/oom") {
			t.Error("no /tasks/oom")
		}
	})
}

func TestKill(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		// In a PID namespace of its own all processes end with the first one; here they are the host's, and the first one stays.
		c := start(t, runtime, []string{"--with-ns", fmt.Sprintf("pid:/proc/%d/ns/pid", os.Getpid())}, "/bin/sh", "-c", "trap : USR1; sleep 7777 & while :; do wait; sleep 1; done")
		eventually(t, "the second process", func() bool { return c.has("sleep\x007777") })
		must(t, "tasks", "kill", "--signal", "SIGUSR1", c.id)
		c.says("echo alive", "alive\n")
		if !c.has("sleep\x007777") {
			t.Error("without --all the second process is killed, too")
		}
		must(t, "tasks", "kill", "--signal", "SIGUSR1", "--all", c.id)
		eventually(t, "the second process's end", func() bool { return !c.has("sleep\x007777") })
		if status := c.status(); status != "RUNNING" {
			t.Errorf("the first process, which handles the signal: %s", status)
		}
		must(t, "tasks", "kill", "--signal", "SIGKILL", "--all", c.id)
		eventually(t, "the container's end", func() bool { return c.status() == "STOPPED" && !c.has("") })
	})
}

// has tells whether a process is in the container's cgroup that has the text on its command line.
func (c *container) has(text string) bool {
	c.t.Helper()
	pids, err := os.ReadFile("/sys/fs/cgroup/pids/" + namespace + "/" + c.id + "/cgroup.procs")
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(pids)) {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err == nil && strings.Contains(string(line), text) {
			return true
		}
	}
	return false
}

func TestAHundredAtOnce(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		const containers = 100
		results := make([]result, containers)
		var all sync.WaitGroup
		for i := range results {
			all.Go(func() {
				results[i] = ctr(t, append(run(runtime, "--rm"), image, fmt.Sprintf("%s-%d", newID(t), i), "/bin/echo", fmt.Sprint(i))...)
			})
		}
		all.Wait()
		for i, r := range results {
			if r.code != 0 || r.stdout != fmt.Sprintf("%d\n", i) {
				t.Errorf("container %d: %v", i, r)
			}
		}
		entries, err := os.ReadDir(filepath.Join(runcRoot(runtime), namespace))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), newID(t)) {
				t.Errorf("left: the state of %s", entry.Name())
			}
		}
	})
}

func TestShimKilled(t *testing.T) {
	each(t, func(t *testing.T, runtime string) {
		c := sleeper(t, runtime, "--annotation", "io.sandlock.network.deny=127.0.0.2")
		if err := unix.Kill(c.shim(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "containerd knows no task", func() bool { return c.status() == "" })
		c.gone()
	})
}

// shim is the process of the container's shim.
func (c *container) shim() int {
	c.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "containerd-shim") || !strings.Contains(string(text), "\x00"+c.id+"\x00") || !strings.Contains(string(text), daemon.Socket()) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/", &pid); err != nil {
			c.t.Fatal(err)
		}
		return pid
	}
	c.t.Fatalf("%s has no shim", c.id)
	return 0
}

func TestContainerdRestarted(t *testing.T) {
	var running []*container
	each(t, func(t *testing.T, runtime string) {
		// They outlive their subtest: both are there when containerd is not.
		outer := &container{t: t, id: newID(t), runtime: runtime}
		must(t, append(run(runtime, "--annotation", "io.sandlock.network.deny=127.0.0.2", "--detach"), image, outer.id, "/bin/sleep", "1000000")...)
		running = append(running, outer)
	})
	for _, c := range running {
		c.t = t
		t.Cleanup(c.remove)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if err := daemon.End(ctx); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range running {
		if status := c.status(); status != "RUNNING" {
			t.Errorf("%s: %s", c.id, status)
		}
		c.says(greet, greeted(c.runtime))
		must(t, "tasks", "kill", "--signal", "SIGKILL", c.id)
		eventually(t, c.id+" has stopped", func() bool { return c.status() == "STOPPED" })
	}
}
