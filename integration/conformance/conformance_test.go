package conformance

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/suite"
	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

var update = flag.Bool("update", false, "write docs/conformance.md anew")

// templateRoot is a busybox root that trials copy.
var templateRoot string

// subject is a runtime under test.
type subject struct {
	name, path string
	version    string // its own
	spec       string // the version of the specification it is for
}

func TestMain(m *testing.M) {
	suite.Run("conformance", func(dir string) (int, error) { return runSuite(m, dir) })
}

func runSuite(m *testing.M, dir string) (int, error) {
	// As containerd's shim does, so that the tests inherit and reap the containers' processes.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a subreaper: %w", err)
	}
	templateRoot = filepath.Join(dir, "root")
	if err := testbundle.Busybox(templateRoot); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// findSubject asks a runtime for its versions.
func findSubject(t *testing.T, name, path string) subject {
	t.Helper()
	path, err := exec.LookPath(path)
	if err != nil {
		t.Fatalf("%s: %v (make build, hack/setup --test)", name, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", path, err)
	}
	s := subject{name: name, path: path}
	s.version = strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0])
	if found := regexp.MustCompile(`(?m)^spec: (\S+)`).FindStringSubmatch(string(out)); found != nil {
		s.spec = found[1]
	}
	return s
}

// verdict is what came out of a row for a runtime.
type verdict struct {
	word   string // one of the words below
	reason string // why it does not apply
	failed []string
}

const (
	passed        = "passed"
	failed        = "failed"
	notApplicable = "not applicable"
	tooNew        = "not supported by this version"
)

// atOnce is how many trials run at the same time; most of their time is waiting.
var atOnce = make(chan struct{}, 2*runtime.NumCPU())

// TestConformance runs every row against both runtimes and compares the verdicts with the document.
func TestConformance(t *testing.T) {
	path := os.Getenv("SANDLOCK_RUNTIME")
	if path == "" {
		path = "../../bin/sandlock-runtime"
	}
	subjects := []subject{findSubject(t, "sandlock-runtime", path), findSubject(t, "runc", "runc")}
	table := sections()
	verdicts := map[string][]verdict{}
	var mutex sync.Mutex
	t.Run("rows", func(t *testing.T) {
		for _, s := range table {
			for _, row := range s.rows {
				t.Run(s.document+":"+row.lines, func(t *testing.T) {
					t.Parallel()
					got := make([]verdict, len(subjects))
					for i, subject := range subjects {
						got[i] = subject.judge(row)
						for _, failure := range got[i].failed {
							t.Logf("%s: %s: %s", row.says, subject.name, failure)
						}
					}
					if got[0].word == failed && got[1].word == passed {
						t.Errorf("%s: runc passes, sandlock-runtime fails", row.says)
					}
					mutex.Lock()
					defer mutex.Unlock()
					verdicts[key(s, row)] = got
				})
			}
		}
	})
	if f := flag.Lookup("test.run").Value.String(); strings.Contains(f, "/") {
		t.Logf("only a part of the rows was run (-run %s): the document is not looked at", f)
		return
	}
	compare(t, table, subjects, verdicts)
}

func key(s section, row requirement) string { return s.document + ":" + row.lines + ":" + row.says }

func (s subject) judge(row requirement) verdict {
	if row.skip != "" {
		return verdict{word: notApplicable, reason: row.skip}
	}
	if row.since > strings.TrimSuffix(s.spec, "-dev") {
		return verdict{word: tooNew}
	}
	if row.host != nil {
		if lacks := row.host(); lacks != "" {
			return verdict{word: notApplicable, reason: hostLacks + lacks}
		}
	}
	atOnce <- struct{}{}
	defer func() { <-atOnce }()
	if failures := judge(s.path, row.test); len(failures) > 0 {
		return verdict{word: failed, failed: failures}
	}
	return verdict{word: passed}
}

// demand finds the lines of the specification that a runtime or its caller is bound by.
var demand = regexp.MustCompile(`\b(MUST|REQUIRED|SHALL)\b`)

// TestEveryDemandHasARow compares the rows with the text of the specification.
func TestEveryDemandHasARow(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", "github.com/opencontainers/runtime-spec").Output()
	if err != nil {
		t.Fatal(err)
	}
	version, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if version != "v"+specVersion {
		t.Fatalf("go.mod has version %s of the specification, the rows are of %s", version, specVersion)
	}
	covered := map[string]bool{}
	for _, s := range sections() {
		for _, row := range s.rows {
			for _, line := range row.at() {
				covered[fmt.Sprintf("%s:%d", s.document, line)] = true
			}
			if (row.test == nil) == (row.skip == "") {
				t.Errorf("%s:%s (%s) needs either a test or a reason", s.document, row.lines, row.says)
			}
		}
	}
	for _, document := range documents {
		text, err := os.ReadFile(filepath.Join(dir, document))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			place := fmt.Sprintf("%s:%d", document, i+1)
			if demand.MatchString(line) && !covered[place] {
				t.Errorf("no row for %s: %s", place, strings.TrimSpace(line))
			}
		}
	}
}

// documents are the specification's parts that bind a Linux runtime.
var documents = []string{"bundle.md", "runtime.md", "config.md", "config-linux.md", "runtime-linux.md", "features.md", "features-linux.md"}
