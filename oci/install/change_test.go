package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// state is what is in a directory, by name.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

func apply(t *testing.T, c *Change, err error) *Change {
	t.Helper()
	if err == nil {
		err = c.Apply()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func install(t *testing.T, path string, r Runtime) *Change {
	t.Helper()
	c, err := Install(Docker{}, path, r)
	return apply(t, c, err)
}

func uninstall(t *testing.T, path, name string) *Change {
	t.Helper()
	c, err := Uninstall(Docker{}, path, name)
	return apply(t, c, err)
}

func TestChangesAreTakenBackToTheLetter(t *testing.T) {
	const original = `{"debug":   true}`
	for name, before := range map[string]map[string]string{"a file": {"daemon.json": original}, "no file": {}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "daemon.json")
		for name, text := range before {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		agent := sandlock
		agent.Name = "agent"
		install(t, path, sandlock)
		install(t, path, agent)
		if !install(t, path, agent).None() {
			t.Errorf("%s: a second time changes something", name)
		}
		files := state(t, dir)
		if _, kept := files["daemon.json"+backupSuffix]; kept != (len(before) > 0) || len(files) != 1+len(before) {
			t.Errorf("%s: installed: %q", name, files)
		}
		if info, err := os.Stat(path); err != nil || len(before) > 0 && info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode: %v, %v", name, info.Mode(), err)
		}
		uninstall(t, path, "sandlock")
		uninstall(t, path, "agent")
		if files := state(t, dir); len(files) != len(before) || files["daemon.json"] != before["daemon.json"] {
			t.Errorf("%s: taken back: %q", name, files)
		}
		if !uninstall(t, path, "agent").None() {
			t.Errorf("%s: what is not there is taken back", name)
		}
	}
}

func TestLaterChangesByOthersAreKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := install(t, path, sandlock)
	if err := os.WriteFile(path, append([]byte(`{"debug": true,`), c.After[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	uninstall(t, path, "sandlock")
	if files := state(t, dir); files["daemon.json"] != "{\n  \"debug\": true\n}\n" {
		t.Errorf("%q", files)
	}
}

func TestDiffChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "daemon.json")
	c, err := Install(Docker{}, path, sandlock)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(c.Diff()); !strings.Contains(text, "--- /dev/null\n+++ "+path) || !strings.Contains(text, "\n+    \"sandlock\": {\n") {
		t.Error(text)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("planning made something: %v", err)
	}
}

func TestAFileBehindALink(t *testing.T) {
	dir := t.TempDir()
	link, real := filepath.Join(dir, "daemon.json"), filepath.Join(dir, "real.json")
	if err := os.WriteFile(real, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.json", link); err != nil {
		t.Fatal(err)
	}
	install(t, link, sandlock)
	if to, err := os.Readlink(link); err != nil || to != "real.json" {
		t.Errorf("the link is gone: %q, %v", to, err)
	}
	if !strings.Contains(state(t, dir)["real.json"], "sandlock") {
		t.Errorf("%q", state(t, dir))
	}
}
