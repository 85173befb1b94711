package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOwnParityOfSpec(t *testing.T) {
	control := controlPath(t)
	for _, flags := range [][]string{nil, {"--rootless"}} {
		var texts []string
		for _, path := range []string{control, runtimePath} {
			r, dir := newRuntime(t), t.TempDir()
			r.path = path
			r.must(t, append([]string{"spec", "--bundle", dir}, flags...)...)
			text, err := os.ReadFile(filepath.Join(dir, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		if texts[0] != texts[1] {
			t.Errorf("spec %q:\n%s\nof runc:\n%s", flags, texts[1], texts[0])
		}
	}
}

// The features documents differ in what the runtimes differ in, and nowhere else.
func TestOwnParityOfFeatures(t *testing.T) {
	control := controlPath(t)
	var flat []map[string]string
	for _, path := range []string{control, runtimePath} {
		r := newRuntime(t)
		r.path = path
		var document map[string]any
		if err := json.Unmarshal([]byte(r.must(t, "features")), &document); err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		flatten(values, "", document)
		flat = append(flat, values)
	}
	var got []string
	for key := range flat[0] {
		if ours, found := flat[1][key]; !found {
			got = append(got, "- "+key)
		} else if ours != flat[0][key] {
			got = append(got, key+" "+flat[0][key]+" -> "+ours)
		}
	}
	for key := range flat[1] {
		if _, found := flat[0][key]; !found {
			got = append(got, "+ "+key)
		}
	}
	// Which version and commit there is depends on the build.
	got = slices.DeleteFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "+ .annotations.io.sandlock.") || strings.HasPrefix(line, "- .annotations.org.opencontainers.runc.")
	})
	slices.Sort(got)
	want := []string{
		"+ .linux.seccomp.supportedFlags[SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV]", "+ .mountOptions[idmap]", "+ .mountOptions[ridmap]",
		"+ .potentiallyUnsafeConfigAnnotations[io.sandlock.filesystem.mount]", "+ .potentiallyUnsafeConfigAnnotations[io.sandlock.policy.socket]",
		"- .potentiallyUnsafeConfigAnnotations[bundle]", "- .potentiallyUnsafeConfigAnnotations[org.criu.config]",
		`.annotations.org.opencontainers.runc.checkpoint.enabled "true" -> "false"`, ".linux.intelRdt.enabled true -> false", ".linux.intelRdt.monitoring true -> false",
		".linux.intelRdt.schemata true -> false", ".linux.selinux.enabled true -> false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("differences: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// flatten gives each value of a JSON document a key of its own; an element of a list is a key.
func flatten(into map[string]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, value := range v {
			flatten(into, path+"."+key, value)
		}
	case []any:
		for _, element := range v {
			text, _ := json.Marshal(element) // it came from JSON
			into[path+"["+strings.Trim(string(text), `"`)+"]"] = ""
		}
	default:
		text, _ := json.Marshal(v) // it came from JSON
		into[path] = string(text)
	}
}
