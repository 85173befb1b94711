package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withFiles puts the files of the path attacks into a bundle: good, secret, and a hard link that secret has had before.
func withFiles(t *testing.T, b *bundle) *bundle {
	t.Helper()
	writeFile(t, b.root, "data/good", "good\n", 0o644)
	writeFile(t, b.root, "data/secret", "secret\n", 0o644)
	if err := os.Link(filepath.Join(b.root, "data/secret"), filepath.Join(b.root, "data/hard")); err != nil {
		t.Fatal(err)
	}
	return b
}

// attackPaths runs one attack on paths in a container of its own and returns what it printed.
func attackPaths(t *testing.T, name string, annotations ...string) attacked {
	t.Helper()
	res := newRuntime(t).runBundle(t, withFiles(t, newEgress(t).attacker(t, attackCommand(name), annotations...)))
	if res.code != 0 {
		t.Fatalf("%s: %v", name, res)
	}
	return attacked{output: res.stdout}
}

// A name is rewritten, or leads elsewhere, while it is looked up: filesystem.deny holds.
func TestPolicyAttackPaths(t *testing.T) {
	for _, name := range []string{"path-thread", "path-memory", "path-link"} {
		t.Run(name, func(t *testing.T) {
			a := attackPaths(t, name, "io.sandlock.filesystem.deny", "/data/secret")
			if passed, refused, breached := a.counts(t); passed == 0 || refused == 0 || breached > 0 {
				t.Error(a.output)
			}
			control := attackPaths(t, name)
			if _, _, breached := control.counts(t); breached == 0 {
				t.Errorf("control: %s", control.output)
			}
		})
	}
	t.Run("names", func(t *testing.T) {
		a := attackPaths(t, "path-names", "io.sandlock.filesystem.deny", "/data/secret")
		control := attackPaths(t, "path-names")
		if !strings.Contains(a.output, "path-names: good: good\n") {
			t.Error(a.output)
		}
		for line := range strings.Lines(control.output) {
			if way, found := strings.CutSuffix(line, ": secret\n"); !found {
				if way != "path-names: good: good\n" {
					t.Errorf("control: %s", line)
				}
			} else if strings.Contains(a.output, line) && way != "path-names: older hard link" { // which is covered by no mount
				t.Errorf("%s", line)
			}
		}
	})
}

// attackDeniedPaths runs one attack on paths in a container whose agent denies one while it runs.
func attackDeniedPaths(t *testing.T, name string) attacked {
	t.Helper()
	agent := newAgent(t, `{"type":"hello","version":1,"syscalls":[],"deny_paths":true}`, allowAll)
	r := newRuntimeWithAgent(t, agent.path)
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	b := newEgress(t).attacker(t, "cat /data/secret; read line; "+attackCommand(name)+"; echo end")
	c := r.startWithStdin(t, withFiles(t, b), stdin)
	stdin.Close()
	if before := c.line(t); before != "secret" {
		t.Errorf("before it is denied, the file says %q", before)
	}
	if err := agent.change(`"op":"restrict","deny_path":"/data/secret"`); err != "" {
		t.Fatal(err)
	}
	hold.Close()
	var output strings.Builder
	for line := c.line(t); line != "end"; line = c.line(t) {
		output.WriteString(line + "\n")
	}
	return attacked{output: output.String()}
}

// The same against a path that an agent denies while the container runs: whatever its name, the file is out of reach.
func TestPolicyAttackDeniedPaths(t *testing.T) {
	for _, name := range []string{"path-thread", "path-memory", "path-link"} {
		t.Run(name, func(t *testing.T) {
			a := attackDeniedPaths(t, name)
			if passed, refused, breached := a.counts(t); passed == 0 || refused == 0 || breached > 0 {
				t.Error(a.output)
			}
		})
	}
	t.Run("names", func(t *testing.T) {
		a := attackDeniedPaths(t, "path-names")
		if !strings.HasPrefix(a.output, "path-names: good: good\n") || strings.Contains(a.output, ": secret\n") || strings.Count(a.output, "\n") != 10 {
			t.Error(a.output)
		}
	})
}
