package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
)

func TestCreateParksTheWorkloadUntilStart(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "touch /ran; echo ran; exit 7")
	c := r.create(t, b)
	state := r.state(t, b.id)
	if state.Status != specs.StateCreated || state.Pid != c.pid || state.Bundle != b.dir || state.ID != b.id {
		t.Errorf("after create: %+v, pid file %d", state, c.pid)
	}
	if _, err := os.Stat(filepath.Join(b.root, "ran")); err == nil {
		t.Error("the workload ran before start")
	}
	r.must(t, "start", b.id)
	if line := c.line(t); line != "ran" {
		t.Errorf("output %q", line)
	}
	if status := c.wait(t); status.ExitStatus() != 7 {
		t.Errorf("the caller of create reaped %v, want exit status 7", status)
	}
	if state := r.state(t, b.id); state.Status != specs.StateStopped {
		t.Errorf("after the end: %+v", state)
	}
	r.must(t, "delete", b.id)
	r.run(t, "state", b.id).refused(t, b.id)
	assertNothingLeft(t, r, b)
}

func TestRunReturnsTheExitCode(t *testing.T) {
	r := newRuntime(t)
	for text, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -KILL $$; read x": 137, "exit 255": 255} {
		b := script(t, text)
		if text == "kill -KILL $$; read x" {
			// PID 1 of a pid namespace cannot kill itself, so a child takes the signal and the shell passes it on.
			b = script(t, "sh -c 'kill -KILL $$'; exit $?")
		}
		if res := r.runBundle(t, b); res.code != want {
			t.Errorf("%s: want %d, got %v", text, want, res)
		}
		assertNothingLeft(t, r, b)
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
	b.write(t)
	cmd := r.command(context.Background(), "run", "--bundle", b.dir, b.id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(commandTimeout, func() { cmd.Process.Kill() }).Stop()
	ready := make([]byte, 6)
	if _, err := out.Read(ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("%q %v", ready, err)
	}
	cmd.Process.Signal(unix.SIGTERM)
	rest := new(bytes.Buffer)
	rest.ReadFrom(out)
	cmd.Wait()
	if rest.String() != "got it\n" || exitCode(cmd.ProcessState) != 5 {
		t.Errorf("output %q, exit code %d", rest, exitCode(cmd.ProcessState))
	}
}

// A delete that ends a container which runs in the foreground removes it; the run says how the container has ended.
func TestDeleteForceOfARunInTheForeground(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sh", "-c", "echo up; exec sleep 1000")
	b.write(t)
	cmd := r.command(context.Background(), "run", "--bundle", b.dir, b.id)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(commandTimeout, func() { cmd.Process.Kill() }).Stop()
	up := make([]byte, 3)
	if _, err := io.ReadFull(out, up); err != nil {
		t.Fatal(err)
	}
	r.must(t, "delete", "--force", b.id)
	cmd.Wait()
	if code := exitCode(cmd.ProcessState); code != 137 || errors.Len() > 0 {
		t.Errorf("run: exit code %d, %s", code, &errors)
	}
	assertNothingLeft(t, r, b)
}

func TestRunPassesStdinOn(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/cat")
	b.write(t)
	cmd := r.command(context.Background(), "run", "--bundle", b.dir, b.id)
	cmd.Stdin = strings.NewReader("through and through\n")
	if res := finish(t, cmd); res.code != 0 || res.stdout != "through and through\n" {
		t.Error(res)
	}
}

func TestRunDetachedWritesThePidFile(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	pidFile := filepath.Join(b.dir, "pid")
	if res := r.runBundle(t, b, "--detach", "--pid-file", pidFile); res.code != 0 {
		t.Fatal(res)
	}
	state := r.state(t, b.id)
	if state.Status != specs.StateRunning || state.Pid != readPid(t, pidFile) {
		t.Errorf("state %+v, pid file %d", state, readPid(t, pidFile))
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(state.Pid) + "/comm")
	if err != nil || strings.TrimSpace(string(comm)) != "sleep" {
		t.Errorf("the pid is not the workload's: %q %v", comm, err)
	}
}

func TestKill(t *testing.T) {
	r := newRuntime(t)
	for _, sig := range []string{"USR1", "SIGUSR1", strconv.Itoa(int(unix.SIGUSR1))} {
		c := r.start(t, script(t, "trap 'echo got it; exit 4' USR1; echo ready; while :; do sleep 0.05; done"))
		c.line(t)
		r.must(t, "kill", c.id, sig)
		if line := c.line(t); line != "got it" {
			t.Errorf("kill %s: output %q", sig, line)
		}
		if status := c.wait(t); status.ExitStatus() != 4 {
			t.Errorf("kill %s: %v", sig, status)
		}
	}
}

func TestKillDefaultsToTERMAndStoppedIsAnError(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, script(t, "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"))
	c.line(t)
	r.must(t, "kill", c.id)
	if status := c.wait(t); status.ExitStatus() != 9 {
		t.Errorf("%v", status)
	}
	r.run(t, "kill", c.id, "KILL").refused(t, c.id)
	r.run(t, "kill", c.id, "NOSUCHSIGNAL").refused(t, "NOSUCHSIGNAL")
}

func TestKillAllReachesEveryProcess(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "sleep 1000 & echo $!; wait")
	c := r.start(t, b)
	c.line(t)
	r.must(t, "kill", "--all", c.id, "KILL")
	if status := c.wait(t); !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Errorf("%v", status)
	}
	r.must(t, "delete", c.id)
	assertNothingLeft(t, r, b)
}

func TestDelete(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	c := r.start(t, b)
	r.run(t, "delete", b.id).refused(t, b.id)
	if state := r.state(t, b.id); state.Status != specs.StateRunning {
		t.Errorf("a refused delete changed the state: %+v", state)
	}
	r.must(t, "delete", "--force", b.id)
	c.wait(t)
	assertNothingLeft(t, r, b)
	r.must(t, "delete", "--force", "never-was")
	r.run(t, "delete", "never-was").refused(t, "never-was")
}

func TestDeleteOfACreatedContainer(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/true")
	c := r.create(t, b)
	r.must(t, "delete", "--force", b.id)
	c.wait(t)
	assertNothingLeft(t, r, b)
}

func TestList(t *testing.T) {
	r := newRuntime(t)
	if out := r.must(t, "list", "-q"); out != "" {
		t.Errorf("an empty root lists %q", out)
	}
	first, second := newBundle(t, "/bin/sleep", "1000"), newBundle(t, "/bin/sleep", "1000")
	r.start(t, first)
	r.create(t, second)
	ids := strings.Fields(r.must(t, "list", "-q"))
	if len(ids) != 2 {
		t.Errorf("list -q: %q", ids)
	}
	var list []struct {
		ID, Status, Bundle string
		Pid                int
	}
	if err := json.Unmarshal([]byte(r.must(t, "list", "--format", "json")), &list); err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for _, entry := range list {
		status[entry.ID] = entry.Status
	}
	if len(list) != 2 || status[first.id] != "running" || status[second.id] != "created" {
		t.Errorf("list: %+v", list)
	}
	table := r.must(t, "list")
	for _, word := range []string{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", first.id, second.dir} {
		if !strings.Contains(table, word) {
			t.Errorf("the table has no %q:\n%s", word, table)
		}
	}
}

func TestPs(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, script(t, "sleep 1000 & sleep 1001 & echo ready; wait"))
	c.line(t)
	var pids []int
	if err := json.Unmarshal([]byte(r.must(t, "ps", "--format", "json", c.id)), &pids); err != nil {
		t.Fatal(err)
	}
	if len(pids) != 3 {
		t.Errorf("pids %v, want the shell and two sleeps", pids)
	}
	table := r.must(t, "ps", c.id)
	if !strings.Contains(table, "sleep 1000") || !strings.Contains(table, "PID") {
		t.Errorf("ps:\n%s", table)
	}
}

func TestPauseAndResume(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, script(t, "while :; do echo tick; sleep 0.02; done"))
	c.line(t)
	r.must(t, "pause", c.id)
	if state := r.state(t, c.id); state.Status != "paused" {
		t.Errorf("state %+v", state)
	}
	// What was written before is still in the pipe; after it nothing may come.
	c.output.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	rest := 0
	for {
		if _, err := c.lines.ReadString('\n'); err != nil {
			break
		}
		if rest++; rest > 1000 {
			t.Fatal("a paused container still runs")
		}
	}
	c.output.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if text, err := c.lines.ReadString('\n'); err == nil {
		t.Errorf("a paused container printed %q", text)
	}
	r.must(t, "resume", c.id)
	c.line(t)
	if state := r.state(t, c.id); state.Status != specs.StateRunning {
		t.Errorf("state %+v", state)
	}
}

func TestDeleteForceOfAPausedContainer(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	r.start(t, b)
	r.must(t, "pause", b.id)
	r.must(t, "delete", "--force", b.id)
	assertNothingLeft(t, r, b)
}

func TestSpecWritesARunnableBundle(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t)
	r.must(t, "spec", "--bundle", b.dir)
	content, err := os.ReadFile(filepath.Join(b.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(content, &spec); err != nil {
		t.Fatal(err)
	}
	spec.Process.Terminal, spec.Process.Args = false, []string{"/bin/echo", "runs"}
	b.spec = &spec
	if res := r.runBundle(t, b); res.code != 0 || res.stdout != "runs\n" {
		t.Error(res)
	}
	r.run(t, "spec", "--bundle", b.dir).refused(t, "config.json")
}

func TestFeatures(t *testing.T) {
	r := newRuntime(t)
	var doc features.Features
	if err := json.Unmarshal([]byte(r.must(t, "features")), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OCIVersionMin == "" || doc.OCIVersionMax == "" || len(doc.Hooks) != 6 || doc.Linux == nil || len(doc.Linux.Namespaces) < 7 {
		t.Errorf("features: %+v", doc)
	}
}

func TestEventsStats(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	var event struct {
		Type, ID string
		Data     map[string]any
	}
	if err := json.Unmarshal([]byte(r.must(t, "events", "--stats", c.id)), &event); err != nil {
		t.Fatal(err)
	}
	if event.Type != "stats" || event.ID != c.id || event.Data["memory"] == nil {
		t.Errorf("%+v", event)
	}
}

// Debian's runc 1.1 lets several win and then loses the state, so this is asked of sandlock-runtime alone.
func TestOwnOneOfManyCreatesWins(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	b.write(t)
	const creators = 20
	codes := make([]int, creators)
	var group sync.WaitGroup
	for i := range codes {
		group.Go(func() {
			cmd := r.command(context.Background(), "create", "--bundle", b.dir, b.id)
			cmd.Run() // the exit code is what counts
			codes[i] = exitCode(cmd.ProcessState)
		})
	}
	group.Wait()
	won := 0
	for _, code := range codes {
		if code == 0 {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %d creates succeeded: exit codes %v", won, creators, codes)
	}
	if state := r.state(t, b.id); state.Status != specs.StateCreated {
		t.Errorf("after the race: %+v", state)
	}
	r.must(t, "delete", "--force", b.id)
	assertNothingLeft(t, r, b)
}

func TestStartTwiceIsAnError(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	r.run(t, "start", c.id).refused(t, "running")
	if state := r.state(t, c.id); state.Status != specs.StateRunning {
		t.Errorf("%+v", state)
	}
}

func TestBundleDefaultsToTheWorkingDirectory(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/echo", "here")
	b.spec.Root.Path = "rootfs"
	b.write(t)
	cmd := r.command(context.Background(), "run", b.id)
	cmd.Dir = b.dir
	if res := finish(t, cmd); res.code != 0 || res.stdout != "here\n" {
		t.Error(res)
	}
}

func TestRelativeStateRoot(t *testing.T) {
	dir := shortTempDir(t)
	b := newBundle(t, "/bin/echo", "here")
	b.write(t)
	cmd := exec.Command(runtimePath, "--root", "state", "run", "--bundle", b.dir, b.id)
	cmd.Dir = dir
	if res := finish(t, cmd); res.code != 0 || res.stdout != "here\n" {
		t.Error(res)
	}
}

func TestErrorsGoToTheLogAsJSON(t *testing.T) {
	r := newRuntime(t)
	path := filepath.Join(t.TempDir(), "log.json")
	r.args = []string{"--log", path, "--log-format", "json"}
	r.run(t, "state", "never-was").refused(t, "never-was")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	var entry struct{ Level, Msg, Time string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &entry); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	if entry.Level != "error" || entry.Msg == "" || entry.Time == "" {
		t.Errorf("the log has %s", content)
	}
}

func TestPreserveFds(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "cat <&3")
	b.write(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	writer.WriteString("from descriptor 3\n")
	writer.Close()
	cmd := r.command(context.Background(), "run", "--bundle", b.dir, "--preserve-fds", "1", b.id)
	cmd.ExtraFiles = []*os.File{reader}
	if res := finish(t, cmd); res.code != 0 || res.stdout != "from descriptor 3\n" {
		t.Error(res)
	}
}

func TestContainersOutliveTheirCaller(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/bin/sleep", "1000")
	b.write(t)
	// A shell in a session and process group of its own, which then goes away altogether.
	cmd := exec.Command("setsid", "--wait", "sh", "-c", `"$0" --root "$1" run --detach --bundle "$2" "$3"`, r.path, r.root, b.dir, b.id)
	if res := finish(t, cmd); res.code != 0 {
		t.Fatal(res)
	}
	if state := r.state(t, b.id); state.Status != specs.StateRunning || !alive(state.Pid) {
		t.Errorf("%+v", state)
	}
}
