package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// controlPath is runc, of the version that the libraries in go.mod are of.
func controlPath(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../bin/tools/runc")
	if err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatalf("runc to compare with: %v (hack/setup --test builds it)", err)
	}
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/opencontainers/runc").Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "runc version " + strings.TrimPrefix(strings.TrimSpace(string(module)), "v"); !strings.HasPrefix(string(version), want+"\n") {
		t.Fatalf("%s is %q, want %q (hack/setup --test builds it)", path, version, want)
	}
	return path
}

// A parityRow is a list of commands that both runtimes are given for a container of the same bundle. What a user can see must be the same: exit codes, what is printed, the
// container's status and the limits in its cgroup afterwards.
type parityRow struct {
	name     string
	change   func(*specs.Spec)
	status   string     // of the container before: running, where it is empty, created, paused or stopped
	commands [][]string // @ is the container
	stdins   []string   // the commands are given for each of them; nothing stands for an empty one
	ends     bool       // the container's process ends by the first command
	see      func(string) string
	says     string // what both say on stderr, at least once
	// differs tells why a difference is meant to be. It is an error if there is none.
	differs string
}

// outcomes are what one runtime made of a row, by what it is.
type outcomes map[string]string

func TestOwnParityWithRunc(t *testing.T) {
	control := controlPath(t)
	for _, row := range slices.Concat(updateRows(), statusRows(), execRows()) {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			theirs, ours := row.run(t, control), row.run(t, runtimePath)
			if row.differs != "" {
				if maps.Equal(theirs, ours) {
					t.Errorf("no difference, though one is meant to be: %s", row.differs)
				}
				return
			}
			for _, what := range slices.Sorted(maps.Keys(theirs)) {
				if ours[what] != theirs[what] {
					t.Errorf("%s: got %q, runc %q\nstderr %s\nof runc %s", what, ours[what], theirs[what], ours["stderr"], theirs["stderr"])
				}
			}
		})
	}
}

func (row parityRow) run(t *testing.T, path string) outcomes {
	t.Helper()
	r := newRuntime(t)
	r.path = path
	b := newBundle(t, "/bin/sleep", "1000")
	if row.change != nil {
		row.change(b.spec)
	}
	c := r.create(t, b)
	if row.status != "created" {
		r.must(t, "start", b.id)
		// runc's start returns before its own program has become the container's.
		eventually(t, "the container's program runs", func() bool {
			line, err := os.ReadFile("/proc/" + strconv.Itoa(c.pid) + "/cmdline")
			return err == nil && strings.HasPrefix(string(line), "/bin/sleep")
		})
	}
	switch row.status {
	case "paused":
		r.must(t, "pause", b.id)
	case "stopped":
		r.must(t, "kill", b.id, "KILL")
		c.wait(t)
	}
	out, said := outcomes{}, ""
	if row.stdins == nil {
		row.stdins = []string{""}
	}
	for i, stdin := range row.stdins {
		for j, args := range row.commands {
			res := row.command(t, r, b, args, stdin)
			key := fmt.Sprintf("%d.%d: %s %s", i+1, j+1, strings.Join(args, " "), stdin)
			out[key+": exit code"] = strconv.Itoa(res.code)
			out[key+": stdout"] = row.seen(b, c.pid, res.stdout)
			said += res.stderr
			if row.ends && i+j == 0 {
				c.wait(t)
			}
		}
	}
	if row.says != "" && !strings.Contains(said, row.says) {
		t.Errorf("%s does not say %q: %s", path, row.says, said)
	}
	var state struct{ Status string }
	if res := r.run(t, "state", b.id); res.code == 0 {
		if err := json.Unmarshal([]byte(res.stdout), &state); err != nil {
			t.Error(err)
		}
	}
	out["status"] = state.Status
	for file, value := range limitsOf(b) {
		out[file] = value
	}
	return out
}

func (row parityRow) command(t *testing.T, r *ociRuntime, b *bundle, args []string, stdin string) result {
	t.Helper()
	args = slices.Clone(args)
	for i := range args {
		if args[i] == "@" {
			args[i] = b.id
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := r.command(ctx, args...)
	cmd.Stdin, cmd.Dir = strings.NewReader(stdin), b.dir
	return finish(t, cmd)
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)

// seen is what is to be compared of what a command printed.
func (row parityRow) seen(b *bundle, pid int, stdout string) string {
	for from, to := range map[string]string{b.id: "ID", b.dir: "DIR", strconv.Itoa(pid): "PID"} {
		stdout = strings.ReplaceAll(stdout, from, to)
	}
	stdout = times.ReplaceAllString(stdout, "TIME")
	if strings.HasPrefix(stdout, "Incorrect Usage") {
		return "" // runc prints its help, which is its own
	}
	if row.see != nil {
		stdout = row.see(stdout)
	}
	return stdout
}

// limitsOf are the limits in the container's cgroup, in both versions' files, as far as there are any.
func limitsOf(b *bundle) map[string]string {
	limits := map[string]string{}
	for controller, files := range map[string][]string{
		"memory": {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness", "memory.oom_control"},
		"cpu":    {"cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.shares", "cpu.idle", "cpu.rt_period_us", "cpu.rt_runtime_us"},
		"cpuset": {"cpuset.cpus", "cpuset.mems"}, "pids": {"pids.max"}, "devices": {"devices.list"}, "freezer": {"freezer.state"},
		"blkio": {"blkio.weight", "blkio.bfq.weight", "blkio.throttle.read_bps_device"},
		"": {"memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.max.burst", "cpu.weight", "cpuset.cpus", "cpuset.mems", "pids.max", "io.bfq.weight", "io.max",
			"cgroup.freeze"},
	} {
		for _, file := range files {
			if content, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, b.spec.Linux.CgroupsPath, file)); err == nil {
				limits[controller+"/"+file] = string(content)
			}
		}
	}
	return limits
}

// keys is the form of a JSON document: what keys there are, and of what kind their values. Counters of devices are left out, of which there are as many as there has been
// traffic, and those of throttling, which are not there while they are zero.
func keys(text string) string {
	var document any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		return text
	}
	found := map[string]bool{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			found[path+" object"] = true
			for key, value := range v {
				walk(path+"."+key, value)
			}
		case []any:
			found[path+" list"] = true
			for _, value := range v {
				walk(path+"[]", value)
			}
		default:
			found[fmt.Sprintf("%s %T", path, v)] = true
		}
	}
	walk("", document)
	maps.DeleteFunc(found, func(path string, _ bool) bool {
		return strings.HasPrefix(path, ".data.blkio.") || strings.HasPrefix(path, ".data.cpu.throttling.throttled")
	})
	return strings.Join(slices.Sorted(maps.Keys(found)), "\n")
}
