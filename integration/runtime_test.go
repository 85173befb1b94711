package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// commandTimeout bounds every command of the runtime under test.
const commandTimeout = 60 * time.Second

// ociRuntime is the runtime under test with a state root of its own.
type ociRuntime struct {
	path string
	root string   // the state root
	args []string // global flags that every command gets
}

// result is what a command left: its output and its exit code, 128+N if signal N ended it.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// newRuntime returns the runtime under test with an empty state root. When the test ends, every container is deleted by
// force, and the test fails if that does not leave the state root empty.
func newRuntime(t testing.TB) *ociRuntime {
	t.Helper()
	return newRuntimeAt(t, shortTempDir(t))
}

func newRuntimeAt(t testing.TB, root string) *ociRuntime {
	t.Helper()
	r := &ociRuntime{path: runtimePath, root: root}
	t.Cleanup(func() {
		for _, id := range r.ids(t) {
			if res := r.run(t, "delete", "--force", id); res.code != 0 {
				t.Errorf("delete --force %s: %v", id, res)
			}
		}
		if left := r.ids(t); len(left) > 0 {
			t.Errorf("left in the state root: %q", left)
		}
	})
	return r
}

// shortTempDir is a t.TempDir without the test's name in its path, which a Unix socket below it may have no room for.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something still holds the test's directory: %v", err)
		}
	})
	return dir
}

// ids are the containers that the state root holds, broken ones included.
func (r *ociRuntime) ids(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(r.root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state root: %v", err)
	}
	var ids []string
	for _, e := range entries {
		// A name with @ is no container's: what the runtime keeps for all of them.
		if e.IsDir() && !strings.HasPrefix(e.Name(), "@") {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// command prepares a command of the runtime, with nothing on stdin.
func (r *ociRuntime) command(ctx context.Context, args ...string) *exec.Cmd {
	all := append([]string{"--root", r.root}, r.args...)
	return exec.CommandContext(ctx, r.path, append(all, args...)...)
}

// run runs one command to its end. Its output goes to files, not pipes: a detached container keeps them open.
func (r *ociRuntime) run(t testing.TB, args ...string) result {
	t.Helper()
	return finishInTime(t, r.command, args...)
}

// finishInTime prepares a command and runs it to its end, which must come within commandTimeout.
func finishInTime(t testing.TB, prepare func(context.Context, ...string) *exec.Cmd, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return finish(t, prepare(ctx, args...))
}

// finish runs cmd to its end, with its output in files unless it has been given another place.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp("", "sl-out-")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	if cmd.Stdout == nil {
		cmd.Stdout = files[0]
	}
	if cmd.Stderr == nil {
		cmd.Stderr = files[1]
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return result{stdout: readFrom(t, files[0]), stderr: readFrom(t, files[1]), code: exitCode(cmd.ProcessState)}
}

func readFrom(t testing.TB, f *os.File) string {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, info.Size())
	if _, err := f.ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func exitCode(state *os.ProcessState) int {
	if code := state.ExitCode(); code >= 0 {
		return code
	}
	return 128 + int(signalOf(state))
}

// must runs one command and fails the test unless it succeeds; it returns what the command printed.
func (r *ociRuntime) must(t testing.TB, args ...string) string {
	t.Helper()
	res := r.run(t, args...)
	if res.code != 0 {
		t.Fatalf("%q: %v", args, res)
	}
	return res.stdout
}

// state is what `state` prints of a container: the specification's fields.
func (r *ociRuntime) state(t testing.TB, id string) specs.State {
	t.Helper()
	var state specs.State
	if err := json.Unmarshal([]byte(r.must(t, "state", id)), &state); err != nil {
		t.Fatalf("state %s: %v", id, err)
	}
	return state
}

// refused fails the test unless a command failed with one line on stderr that has each of the words in it.
func (res result) refused(t testing.TB, words ...string) {
	t.Helper()
	if res.code == 0 {
		t.Fatalf("accepted: %v", res)
	}
	message := strings.TrimSpace(res.stderr)
	if ours && strings.Count(message, "\n") > 0 {
		t.Errorf("more than one line of error: %s", message)
	}
	if message == "" {
		t.Errorf("no error message, exit code %d", res.code)
	}
	if !ours {
		return // the words are ours, not runc's
	}
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("the error does not name %q: %s", word, message)
		}
	}
}
