package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/urfave/cli/v2"
)

// outcome is what a command line leaves.
type outcome struct {
	stdout, stderr string
	code           int
}

// call carries out a command line with a state root of the test's own.
func call(t *testing.T, args ...string) outcome {
	t.Helper()
	return callAt(t, t.TempDir(), args...)
}

func callAt(t *testing.T, root string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	code := p.run(append([]string{name, "--root", root}, args...))
	return outcome{stdout.String(), stderr.String(), code}
}

// parse parses a command line and gives look its verb's context, in place of the verb's action.
func parse(t *testing.T, look func(*program, *cli.Context), args ...string) {
	t.Helper()
	p := &program{stdin: strings.NewReader(""), stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}
	line := append([]string{name}, args...)
	app := p.app(line)
	app.Commands[0].Action = func(c *cli.Context) error {
		look(p, c)
		return nil
	}
	if err := app.Run(arrange(line)); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
}

func TestErrors(t *testing.T) {
	bundle := t.TempDir()
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"frobnicate x", 3, `unknown command \"frobnicate\"`},
		{"--frobnicate state x", 1, "flag provided but not defined: -frobnicate"},
		{"state --frobnicate x", 1, "flag provided but not defined: -frobnicate"},
		{"state", 1, `\"state\" requires exactly 1 argument(s)`},
		{"state x y", 1, `\"state\" requires exactly 1 argument(s)`},
		{"kill", 1, `\"kill\" requires a minimum of 1 argument(s)`},
		{"kill x KILL y", 1, `\"kill\" requires a maximum of 2 argument(s)`},
		{"kill x FROB", 1, `unknown signal \"FROB\"`},
		{"state nobody", 1, `container does not exist: \"nobody\"`},
		{"state ../x", 1, "invalid container ID format"},
		{"start nobody", 1, "container does not exist"},
		{"pause nobody", 1, "container does not exist"},
		{"resume nobody", 1, "container does not exist"},
		{"kill nobody", 1, "container does not exist"},
		{"ps nobody", 1, "container does not exist"},
		{"ps --format xml nobody", 1, "invalid format option"},
		{"inspect nobody", 1, "container does not exist"},
		{"events nobody", 1, "container does not exist"},
		{"events --interval 0s nobody", 1, "duration interval must be greater than 0"},
		{"update nobody", 1, "container does not exist"},
		{"update --memory much nobody", 1, `invalid value for memory: \"much\"`},
		{"update --cpu-quota 1.5 nobody", 1, `invalid value for cpu-quota: \"1.5\": invalid syntax`},
		{"update --resources /nowhere nobody", 1, "--resources: open /nowhere: no such file or directory"},
		{"update --l3-cache-schema x nobody", 1, "Intel RDT is not supported"},
		{"update --resources /dev/null --mem-bw-schema x nobody", 1, "Intel RDT is not supported"},
		{"update --kernel-memory much nobody", 1, `invalid value for kernel-memory: \"much\"`},
		{"delete nobody", 1, "container does not exist"},
		{"list --format xml", 1, "invalid format option"},
		{"list x", 1, `\"list\" requires exactly 0 argument(s)`},
		{"exec", 1, `\"exec\" requires a minimum of 1 argument(s)`},
		{"exec nobody", 255, "exec failed: exec args cannot be empty"},
		{"exec nobody ls", 255, "exec failed: container does not exist"},
		{"exec --cgroup a --cgroup b nobody ls", 255, "exec failed: invalid --cgroup argument: a (missing <controller>: prefix)"},
		{"exec --cgroup cpu,:a nobody ls", 255, "exec failed: invalid --cgroup argument: cpu,:a (empty <controller> prefix)"},
		{"exec --cgroup cpu:a --cgroup pids,cpu:b nobody ls", 255, "exec failed: invalid --cgroup argument(s): controller cpu specified multiple times"},
		{"checkpoint --image-path /x nobody", 1, "sandlock-runtime checkpoint: not supported yet"},
		{"restore -b /x nobody", 1, "sandlock-runtime restore: not supported yet"},
		{"--log-format xml list", 1, "invalid log-format: xml"},
		{"--log /nowhere/log list", 1, "--log: open /nowhere/log: no such file or directory"},
		{"--rootless perhaps list", 1, `--rootless: \"perhaps\" is none of true, false, auto`},
		{"--root / list", 1, "option --root argument should not be set to /"},
		{"create --bundle " + bundle + " x", 1, "sandlock-runtime create failed: "},
		{"run --bundle " + bundle + " x", 1, "sandlock-runtime run failed: "},
		{"run --preserve-fds -1 x", 1, "sandlock-runtime run failed: --preserve-fds: -1 is negative"},
	} {
		got := call(t, strings.Fields(c.line)...)
		if got.code != c.code || !strings.Contains(got.stderr, c.want) || !strings.Contains(got.stderr, "level=error") {
			t.Errorf("%s: exit code %d and %q, want %d and %q", c.line, got.code, got.stderr, c.code, c.want)
		}
		if strings.Count(got.stderr, "\n") != 1 || got.stdout != "" {
			t.Errorf("%s: not one line of error: %q, and on stdout %q", c.line, got.stderr, got.stdout)
		}
	}
}

func TestAForcedDeleteOfNobodySucceeds(t *testing.T) {
	for _, line := range []string{"delete --force nobody", "delete nobody -f"} {
		if got := call(t, strings.Fields(line)...); got != (outcome{}) {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestErrorsGoToTheLogAndToStderr(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	got := call(t, "--log", log, "--log-format", "json", "state", "nobody")
	const message = `container does not exist: "nobody"`
	if got.code != 1 || got.stderr != message+"\n" {
		t.Errorf("%+v", got)
	}
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var entry map[string]string
	if err := json.Unmarshal(content, &entry); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	if entry["level"] != "error" || entry["msg"] != message || entry["time"] == "" || len(entry) != 3 {
		t.Errorf("the log has %s", content)
	}
}

func TestTheLogIsAppendedTo(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for range 2 {
		call(t, "--log", log, "state", "nobody")
	}
	content, err := os.ReadFile(log)
	if err != nil || strings.Count(string(content), "level=error") != 2 {
		t.Errorf("%s %v", content, err)
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine("first\nsecond\r\n\nthird\n"); got != "first; second; third" {
		t.Errorf("%q", got)
	}
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"--version", "-v"} {
		got := call(t, flag)
		lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
		if got.code != 0 || lines[0] != "sandlock-runtime version "+version {
			t.Errorf("%s: %+v", flag, got)
		}
		for _, start := range []string{"spec: " + specs.Version, "go: go", "libseccomp: 2."} {
			if !strings.Contains(got.stdout, "\n"+start) {
				t.Errorf("%s: no line %q in %q", flag, start, got.stdout)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	for _, line := range []string{"", "--help", "help"} {
		got := call(t, strings.Fields(line)...)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("%q: %+v", line, got)
		}
		for _, v := range verbs() {
			if shown := strings.Contains(got.stdout, "\n   "+v.name+" "); shown == (v.name == "debug") {
				t.Errorf("%q: verb %s shown: %v", line, v.name, shown)
			}
		}
	}
	got := call(t, "update", "--help")
	if got.code != 0 || !strings.Contains(got.stdout, "--memory-swap") {
		t.Errorf("update --help: %+v", got)
	}
}

func TestListOfNothing(t *testing.T) {
	for line, want := range map[string]string{
		"list":                  "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n",
		"list -q":               "",
		"list --format json":    "null\n",
		"list --format json -q": "",
	} {
		if got := call(t, strings.Fields(line)...); got != (outcome{stdout: want}) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if got := callAt(t, missing, "list"); got.code != 1 || !strings.Contains(got.stderr, missing) {
		t.Errorf("a root that was named and is not there: %+v", got)
	}
}

func TestFeaturesDocument(t *testing.T) {
	got := call(t, "features")
	var document features.Features
	if err := json.Unmarshal([]byte(got.stdout), &document); err != nil || got.code != 0 {
		t.Fatalf("%v: %+v", err, got)
	}
	if document.OCIVersionMax != specs.Version || len(document.Hooks) != 6 {
		t.Errorf("%+v", document)
	}
}

func TestSpecIsWrittenOnce(t *testing.T) {
	bundle := t.TempDir()
	if got := call(t, "spec", "--bundle", bundle); got != (outcome{}) {
		t.Fatalf("%+v", got)
	}
	file := filepath.Join(bundle, "config.json")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := call(t, "spec", "-b", bundle, "--rootless"); got.code != 1 || !strings.Contains(got.stderr, file) {
		t.Errorf("%+v", got)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestCheckAsJSON(t *testing.T) {
	got := call(t, "check", "--format", "json")
	var report struct {
		Host     map[string]any
		Findings []struct {
			Name     string
			Have     bool
			Required bool
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || len(report.Findings) == 0 || report.Host["release"] == "" {
		t.Fatalf("%v: %+v", err, got)
	}
	lacks := false
	for _, finding := range report.Findings {
		lacks = lacks || finding.Required && !finding.Have
	}
	if lacks != (got.code == 1) {
		t.Errorf("exit code %d, and something required lacks: %v", got.code, lacks)
	}
}

// A container may have the name of a verb, or of a flag.
func TestContainersNamedLikeVerbs(t *testing.T) {
	for _, id := range []string{"help", "h", "state", "root", "force"} {
		if got := call(t, "delete", id); got.code != 1 || !strings.Contains(got.stderr, `container does not exist: \"`+id) {
			t.Errorf("%s: %+v", id, got)
		}
	}
}
